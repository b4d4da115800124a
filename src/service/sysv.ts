import type { InitSystem } from "./init.ts";
import { describeService, type Layout, layoutOf, type ServiceSpec, serviceArguments } from "./layout.ts";
import { readScriptState } from "./openrc.ts";
import { quoteWord, splitWords } from "./quote.ts";
import { accountOf, namedAccount, prepareAccount } from "./script-account.ts";
import { HEADER, logTail, STOP_SECONDS } from "./script-parts.ts";

/** Runlevels it starts in, and the links to make where no tool of the distribution does it. */
const LINKS = [
  ...[2, 3, 4, 5].map((level) => ({ level, prefix: "S50" })),
  ...[0, 1, 6].map((level) => ({ level, prefix: "K02" })),
] as const;

/** Init scripts of System V, with the supervision that init itself does not give (LSB 5.0, 22.2). */
export const sysv: InitSystem = {
  kind: "sysv",
  family: "linux",
  unit: (spec) => layout(spec).id,
  account: accountOf,
  installedUser: (spec, read) => namedAccount(spec, read(scriptPath(spec)), /^user=(\S+)$/m),
  prepare: (spec) => prepareAccount(spec, layout(spec)),
  install: (spec) => [
    { kind: "file", path: scriptPath(spec), content: renderSysv(spec), mode: 0o755 },
    { kind: "run", what: "link it into the runlevels", argv: ["sh", "-c", enableScript(layout(spec).id)] },
  ],
  restart: (spec) => [{ kind: "run", argv: [scriptPath(spec), "restart"] }],
  uninstall: (spec, { others }) => {
    const { id, logFile, connectedFile } = layout(spec);
    return [
      { kind: "run", argv: [scriptPath(spec), "stop"], mayFail: true },
      { kind: "remove", path: scriptPath(spec) },
      { kind: "run", what: "take it out of the runlevels", argv: ["sh", "-c", disableScript(id)], mayFail: true },
      ...LINKS.map(({ level, prefix }) => ({ kind: "remove", path: `/etc/rc${level}.d/${prefix}${id}` }) as const),
      { kind: "remove", path: `/run/${id}.pid` },
      { kind: "remove", path: connectedFile },
      { kind: "remove", path: logFile },
      ...(others.length === 0
        ? [{ kind: "remove-account", name: accountOf({ ...spec, user: undefined }) } as const]
        : []),
    ];
  },
  state: {
    ask: (spec) => ["sh", "-c", stateScript(spec)],
    read: ({ stdout }) => readScriptState(stdout),
  },
  program: { file: scriptPath, read: wordsOfSysv },
  logs: (spec, options) => logTail(layout(spec).logFile, options),
};

/** The text of the script in /etc/init.d, for any POSIX shell. */
export function renderSysv(spec: ServiceSpec): string {
  const paths = layout(spec);
  const user = accountOf(spec);
  const words = [...spec.program, ...serviceArguments(spec, paths, { connectedFile: paths.connectedFile })];
  const edge = spec.role === "edge";
  const caps = edge ? " --inh-caps=+net_bind_service --ambient-caps=+net_bind_service" : "";
  return `#!/bin/sh
${HEADER}
### BEGIN INIT INFO
# Provides:          ${paths.id}
# Required-Start:    $remote_fs
# Required-Stop:     $remote_fs
# Should-Start:      $network $named $syslog
# Should-Stop:       $network $named $syslog
# Default-Start:     2 3 4 5
# Default-Stop:      0 1 6
# Short-Description: ${describeService(spec)}
### END INIT INFO

PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
name=${paths.id}
user=${user}
pidfile=/run/${paths.id}.pid
logfile=${paths.logFile}
connected=${paths.connectedFile}
${edge ? `set -a\n[ ! -r ${paths.envFile} ] || . ${paths.envFile}\nset +a\n` : ""}unset BUN_BE_BUN BUN_OPTIONS

# Becomes the program, as the service's own account.
become() {
  if command -v setpriv >/dev/null 2>&1; then
    exec setpriv --reuid="$(id -u "$user")" --regid="$(id -g "$user")" --init-groups${caps} "$@"
  fi
  program=$1
  shift
  # A pidfile that is never there: the check for a second copy is not wanted.
  exec start-stop-daemon --start --quiet --pidfile /nonexistent --chuid "$user" --startas "$program" -- "$@"
}

# Starts it again when it ends, after 1 s and then twice as long each time, up to a minute.
supervise() {
  child=
  stopping=
  trap 'stopping=yes; [ -z "$child" ] || kill -TERM "$child" 2>/dev/null' TERM
  trap '[ -z "$child" ] || kill -HUP "$child" 2>/dev/null' HUP
  wait_s=1
  while [ -z "$stopping" ]; do
    began=$(date +%s)
    rm -f "$connected"
    (
      trap - TERM HUP
      become ${words.map(quoteWord).join(" ")}
    ) &
    child=$!
    # A signal ends the wait, not the child.
    while kill -0 "$child" 2>/dev/null; do
      wait "$child"
      code=$?
    done
    child=
    [ -z "$stopping" ] || break
    if [ "$code" = 255 ]; then
      echo "$name: its arguments are refused; not started again"
      break
    fi
    [ $(($(date +%s) - began)) -lt 60 ] || wait_s=1
    sleep "$wait_s" &
    wait $!
    wait_s=$((wait_s * 2))
    [ "$wait_s" -le 60 ] || wait_s=60
  done
  rm -f "$pidfile" "$connected"
}

running() {
  pid=$(cat "$pidfile" 2>/dev/null) && [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null &&
    tr '\\000' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -q "$name supervise"
}

start() {
  if running; then
    echo "$name is running"
    return 0
  fi
  mkdir -p ${paths.runDir} && chown "$user" ${paths.runDir} || return 1
  touch "$logfile" && chown "$user" "$logfile" && chmod 0640 "$logfile" || return 1
  session="nohup"
  command -v setsid >/dev/null 2>&1 && session="setsid"
  $session "$0" supervise </dev/null >>"$logfile" 2>&1 &
  echo $! >"$pidfile"
  echo "$name is started"
}

stop() {
  if ! running; then
    rm -f "$pidfile"
    echo "$name is not running"
    return 0
  fi
  kill -TERM "$pid"
  left=${STOP_SECONDS}
  while kill -0 "$pid" 2>/dev/null; do
    if [ "$left" = 0 ]; then
      kill -KILL -"$pid" 2>/dev/null || kill -KILL "$pid"
      break
    fi
    left=$((left - 1))
    sleep 1
  done
  rm -f "$pidfile" "$connected"
  echo "$name is stopped"
}

case \${1:-} in
  start) start ;;
  stop) stop ;;
  restart | force-reload) stop && start ;;
  reload) running && kill -HUP "$pid" ;;
  status)
    if running; then
      echo "$name is running, process $pid"
    else
      echo "$name is not running"
      exit 3
    fi
    ;;
  supervise) supervise ;;
  *)
    echo "usage: $0 start|stop|restart|reload|status" >&2
    exit 2
    ;;
esac
`;
}

/** The program in a script's text. */
function wordsOfSysv(text: string): readonly string[] {
  return splitWords(/^ *become (.*)$/m.exec(text)?.[1] ?? "");
}

function enableScript(id: string): string {
  const links = LINKS.map(
    ({ level, prefix }) => `[ ! -d /etc/rc${level}.d ] || ln -sf ../init.d/${id} /etc/rc${level}.d/${prefix}${id}`,
  );
  return [
    `if command -v update-rc.d >/dev/null 2>&1; then update-rc.d ${id} defaults`,
    `elif command -v chkconfig >/dev/null 2>&1; then chkconfig --add ${id}`,
    `else ${links.join("; ")}; fi`,
  ].join("\n");
}

function disableScript(id: string): string {
  return [
    `if command -v update-rc.d >/dev/null 2>&1; then update-rc.d ${id} remove`,
    `elif command -v chkconfig >/dev/null 2>&1; then chkconfig --del ${id}; fi`,
  ].join("\n");
}

function stateScript(spec: ServiceSpec): string {
  const { id, connectedFile } = layout(spec);
  return [
    `[ -x ${scriptPath(spec)} ] && echo installed`,
    `ls /etc/rc[2-5].d/S??${id} >/dev/null 2>&1 && echo enabled`,
    `${scriptPath(spec)} status >/dev/null 2>&1; echo status=$?`,
    `sed 's/^/pid=/' ${connectedFile} 2>/dev/null`,
  ].join("\n");
}

function scriptPath(spec: ServiceSpec): string {
  return `/etc/init.d/${layout(spec).id}`;
}

function layout(spec: ServiceSpec): Layout {
  return layoutOf(spec, "linux");
}
