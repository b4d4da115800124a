import type { InitSystem, ServiceState } from "./init.ts";
import { describeService, type Layout, layoutOf, type ServiceSpec, serviceArguments } from "./layout.ts";
import { quoteWord, splitWords } from "./quote.ts";
import { accountOf, namedAccount, prepareAccount } from "./script-account.ts";
import { HEADER, logTail, STOP_SECONDS } from "./script-parts.ts";

const NOT_STARTED = 3;
const STARTING = 8;
const CRASHED = 32;

/** OpenRC with its own supervisor (openrc-run(8), supervise-daemon(8)). */
export const openrc: InitSystem = {
  kind: "openrc",
  family: "linux",
  unit: (spec) => layout(spec).id,
  account: accountOf,
  installedUser: (spec, read) => namedAccount(spec, read(scriptPath(spec)), /^\s*command_user=(\S+)$/m),
  prepare: (spec) => prepareAccount(spec, layout(spec)),
  install: (spec) => [
    { kind: "file", path: scriptPath(spec), content: renderOpenrc(spec), mode: 0o755 },
    { kind: "run", argv: ["rc-update", "add", layout(spec).id, "default"] },
  ],
  restart: (spec) => [{ kind: "run", argv: ["rc-service", layout(spec).id, "restart"] }],
  uninstall: (spec, { others }) => {
    const { id, logFile, connectedFile } = layout(spec);
    return [
      { kind: "run", argv: ["rc-service", id, "stop"], mayFail: true },
      { kind: "run", argv: ["rc-update", "del", id, "default"], mayFail: true },
      { kind: "remove", path: scriptPath(spec) },
      { kind: "remove", path: connectedFile },
      { kind: "remove", path: logFile },
      ...(others.length === 0
        ? [{ kind: "remove-account", name: accountOf({ ...spec, user: undefined }) } as const]
        : []),
    ];
  },
  state: {
    // One program for all that must be asked.
    ask: (spec) => ["sh", "-c", stateScript(spec)],
    read: ({ stdout }) => readScriptState(stdout),
  },
  program: { file: scriptPath, read: wordsOfOpenrc },
  logs: (spec, options) => logTail(layout(spec).logFile, options),
};

/** The text of the script in /etc/init.d. */
export function renderOpenrc(spec: ServiceSpec): string {
  const paths = layout(spec);
  const [command = "", ...first] = spec.program;
  const words = [...first, ...serviceArguments(spec, paths, { connectedFile: paths.connectedFile })];
  const user = accountOf(spec);
  return `${[
    "#!/sbin/openrc-run",
    HEADER,
    "",
    `description="${describeService(spec)}"`,
    "supervisor=supervise-daemon",
    ...(spec.role === "edge" ? becomeEdge(command, words, user) : becomeUser(command, words, user)),
    // Of the supervisor, not of the program.
    `pidfile=/run/${paths.id}.pid`,
    "respawn_delay=5",
    "respawn_max=0",
    `retry=SIGTERM/${STOP_SECONDS}/SIGKILL/5`,
    `output_log=${paths.logFile}`,
    `error_log=${paths.logFile}`,
    "extra_started_commands=reload",
    ...(spec.role === "edge" ? ["", ...exportFile(paths.envFile)] : []),
    "",
    "depend() {",
    // `use`, not `need`: it connects when it can, and starts where there is no such service.
    "  use net dns logger",
    "  after firewall",
    "}",
    "",
    "start_pre() {",
    `  checkpath -d -m 0755 -o ${user} ${paths.runDir}`,
    `  checkpath -f -m 0640 -o ${user} ${paths.logFile}`,
    `  rm -f ${paths.connectedFile}`,
    "}",
    "",
    "reload() {",
    '  ebegin "Reloading $RC_SVCNAME"',
    '  supervise-daemon "$RC_SVCNAME" --signal HUP --pidfile "$pidfile"',
    "  eend $?",
    "}",
  ].join("\n")}\n`;
}

/** What a script's text starts; where another program gives it rights, that is the other command. */
function wordsOfOpenrc(text: string): readonly string[] {
  const [, command = "", args = ""] = /^ *command=(?!\$)(.*)\n *command_args="(.*)"$/m.exec(text) ?? [];
  return [...splitWords(command), ...splitWords(args)];
}

function becomeUser(command: string, words: readonly string[], user: string): readonly string[] {
  return [`command=${quoteWord(command)}`, `command_args="${words.map(quoteWord).join(" ")}"`, `command_user=${user}`];
}

/** An edge opens ports below 1024. Debian builds OpenRC without capabilities, and busybox has a setpriv that does less. */
function becomeEdge(command: string, words: readonly string[], user: string): readonly string[] {
  const own = becomeUser(command, words, user);
  const rights = "--inh-caps=+net_bind_service --ambient-caps=+net_bind_service";
  return [
    "if setpriv --help 2>&1 | grep -q -- --reuid; then",
    "  command=$(command -v setpriv)",
    `  command_args="--reuid=${user} --regid=$(id -g ${user}) --init-groups ${rights} ${[command, ...words].map(quoteWord).join(" ")}"`,
    "else",
    ...own.map((line) => `  ${line}`),
    '  capabilities="^cap_net_bind_service"',
    "fi",
  ];
}

function exportFile(path: string): readonly string[] {
  return ["set -a", `[ ! -r ${path} ] || . ${path}`, "set +a"];
}

function scriptPath(spec: ServiceSpec): string {
  return `/etc/init.d/${layout(spec).id}`;
}

function layout(spec: ServiceSpec): Layout {
  return layoutOf(spec, "linux");
}

function stateScript(spec: ServiceSpec): string {
  const { id, connectedFile } = layout(spec);
  return [
    `[ -x ${scriptPath(spec)} ] && echo installed`,
    `[ -L /etc/runlevels/default/${id} ] && echo enabled`,
    `rc-service ${id} status >/dev/null 2>&1; echo status=$?`,
    `cat ${connectedFile} 2>/dev/null | sed 's/^/pid=/'`,
  ].join("\n");
}

/** `installed`, `enabled`, `status=N` as init scripts answer (LSB, and OpenRC's own numbers), `pid=N` once connected. */
export function readScriptState(text: string): ServiceState {
  const lines = new Set(text.split("\n").map((line) => line.trim()));
  const value = (key: string): number | undefined => {
    const line = [...lines].find((each) => each.startsWith(`${key}=`));
    return line === undefined ? undefined : Number(line.slice(key.length + 1));
  };
  const status = value("status") ?? NOT_STARTED;
  const pid = value("pid");
  const running = status === 0;
  return {
    installed: lines.has("installed"),
    enabled: lines.has("enabled"),
    active: running ? "running" : status === STARTING ? "starting" : status === CRASHED ? "failed" : "stopped",
    ...(running && pid !== undefined && pid > 0 ? { pid, connected: true } : {}),
    ...(running && pid === undefined ? { connected: false } : {}),
  };
}
