import { describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { freebsd, renderFreebsd } from "../../../src/service/freebsd.ts";
import { createLaunchd, renderPlist } from "../../../src/service/launchd.ts";
import type { ServiceSpec } from "../../../src/service/layout.ts";
import { openrc, readScriptState, renderOpenrc } from "../../../src/service/openrc.ts";
import { describeStep } from "../../../src/service/steps.ts";
import { renderSysv, sysv } from "../../../src/service/sysv.ts";
import { makeTempDir } from "../../support/temp-dir.ts";

const TUNNEL: ServiceSpec = {
  role: "connector",
  name: undefined,
  scope: { kind: "system" },
  program: ["/usr/local/bin/culvert"],
  user: undefined,
};
const EDGE: ServiceSpec = { ...TUNNEL, role: "edge" };

test.each([openrc, sysv, freebsd, createLaunchd(0)].map((init) => [init.kind, init] as const))(
  "%s: an installed account is known again, and one that nobody named is none",
  (_kind, init) => {
    for (const spec of [TUNNEL, { ...TUNNEL, name: "web" }, EDGE]) {
      const installed = (user: string | undefined): string | undefined => {
        const files = new Map(
          init.install({ ...spec, user }).flatMap((step) => (step.kind === "file" ? [[step.path, step.content]] : [])),
        );
        return init.installedUser(spec, (path) => files.get(path));
      };
      expect([installed("ann"), installed(undefined)]).toEqual(["ann", undefined]);
    }
    expect(init.installedUser(TUNNEL, () => undefined)).toBeUndefined();
  },
);

describe("OpenRC", () => {
  test("a tunnel's script", () => {
    expect(renderOpenrc(TUNNEL)).toBe(OPENRC);
  });

  test("an edge's may open ports below 1024, reads its settings, and can be asked to read again", () => {
    const script = renderOpenrc(EDGE);
    expect(script).toContain('capabilities="^cap_net_bind_service"');
    expect(script).toContain(". /etc/culvert/edge.env");
    expect(script).toContain("command_user=culvert-edge");
    expect(script).toContain("\nextra_started_commands=reload\n");
    expect(script.slice(script.indexOf("reload() {"))).toBe(OPENRC.slice(OPENRC.indexOf("reload() {")));
  });

  test("an edge may open low ports, whatever this OpenRC was built with", () => {
    expect(renderOpenrc(EDGE)).toContain(
      [
        "if setpriv --help 2>&1 | grep -q -- --reuid; then",
        "  command=$(command -v setpriv)",
        '  command_args="--reuid=culvert-edge --regid=$(id -g culvert-edge) --init-groups --inh-caps=+net_bind_service --ambient-caps=+net_bind_service /usr/local/bin/culvert edge run --state-dir /var/lib/culvert"',
        "else",
        "  command=/usr/local/bin/culvert",
        '  command_args="edge run --state-dir /var/lib/culvert"',
        "  command_user=culvert-edge",
        '  capabilities="^cap_net_bind_service"',
        "fi",
      ].join("\n"),
    );
  });

  test("what is done", () => {
    expect([...openrc.prepare(EDGE), ...openrc.install(EDGE)].map((step) => describeStep(step).split("\n")[0])).toEqual(
      [
        "make system account culvert-edge unless it exists",
        "make folder /var/lib/culvert (0700, owner culvert-edge)",
        "run chown -R culvert-edge /var/lib/culvert",
        "write /etc/init.d/culvert-edge (0755)",
        "run rc-update add culvert-edge default",
      ],
    );
    const web = { ...TUNNEL, name: "web" };
    expect(openrc.uninstall(web, { others: ["culvert"] }).map(describeStep)).toEqual([
      "run rc-service culvert-web stop",
      "run rc-update del culvert-web default",
      "remove /etc/init.d/culvert-web",
      "remove /run/culvert-web/culvert-web.pid",
      "remove /var/log/culvert-web.log",
    ]);
    expect(openrc.uninstall(web, { others: [] }).map(describeStep).at(-1)).toBe(
      "remove system account culvert if this program made it",
    );
  });

  test.each([
    [
      "installed\nenabled\nstatus=0\npid=7\n",
      { installed: true, enabled: true, active: "running", pid: 7, connected: true },
    ],
    ["installed\nstatus=0\n", { installed: true, enabled: false, active: "running", connected: false }],
    ["installed\nstatus=3\npid=7\n", { installed: true, enabled: false, active: "stopped" }],
    ["installed\nstatus=32\n", { installed: true, enabled: false, active: "failed" }],
    ["", { installed: false, enabled: false, active: "stopped" }],
  ])("the answer %j", (text, state) => {
    expect(readScriptState(text)).toEqual(state as never);
  });
});

describe("System V", () => {
  test("a tunnel's script", () => {
    expect(renderSysv(TUNNEL)).toBe(SYSV);
  });

  test("an edge's does the same, with the right to open ports below 1024 and its settings", () => {
    const known = new Set(SYSV.replaceAll("culvert", "culvert-edge").split("\n"));
    const own = renderSysv(EDGE)
      .split("\n")
      .filter((line) => !known.has(line));
    expect(own.filter((line) => /reload|HUP/.test(line))).toEqual([]);
    expect(renderSysv(EDGE)).toContain('\n  reload) running && kill -HUP "$pid" ;;\n');
    expect(renderSysv(EDGE)).toContain("--ambient-caps=+net_bind_service");
  });

  test.each(["sh", "bash", "busybox sh"])("%s reads it", (shell) => {
    using dir = makeTempDir();
    const [command = "", ...args] = shell.split(" ");
    for (const spec of [TUNNEL, EDGE]) {
      const path = join(dir.path, "script");
      writeFileSync(path, renderSysv(spec));
      const { status, stderr, error } = spawnSync(command, [...args, "-n", path], { encoding: "utf8" });
      // A shell that is not here says nothing about the script.
      if (error === undefined) expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    }
  });

  test("what removes it finds links that no tool made", () => {
    const removed = sysv.uninstall(TUNNEL, { others: [] }).map(describeStep);
    expect(removed).toContain("remove /etc/rc3.d/S50culvert");
    expect(removed).toContain("remove /etc/rc0.d/K02culvert");
  });
});

describe("launchd", () => {
  test("a tunnel's property list, as an account that exists", () => {
    expect(renderPlist({ ...TUNNEL, name: "web", user: "ann" })).toBe(PLIST);
  });

  test("an agent of one account", () => {
    const agent: ServiceSpec = { ...TUNNEL, scope: { kind: "user", home: "/Users/a&b" } };
    const steps = createLaunchd(501).install(agent).map(describeStep).join("\n");
    expect(steps).toContain("write /Users/a&b/Library/LaunchAgents/dev.culvert.plist (0644)");
    expect(steps).toContain("<string>/Users/a&amp;b/Library/Application Support/culvert/token</string>");
    expect(steps).toContain("run launchctl enable gui/501/dev.culvert");
  });

  test("an edge reads its settings through a shell", () => {
    expect(renderPlist(EDGE)).toContain("<string>set -a; [ ! -r &quot;$0&quot; ]".replaceAll("&quot;", '"'));
    expect(renderPlist(EDGE)).toContain("<string>/Library/Application Support/culvert/edge.env</string>");
  });

  test("the state", () => {
    const { state } = createLaunchd(0);
    const read = (code: number, stdout: string) => "read" in state && state.read({ code, stdout, stderr: "" }, TUNNEL);
    expect(read(0, "system/dev.culvert = {\n\tstate = running\n\truns = 3\n\tpid = 77\n}\n")).toEqual({
      installed: true,
      enabled: true,
      active: "running",
      pid: 77,
      restarts: 2,
    });
    expect(read(113, "")).toEqual({ installed: false, enabled: false, active: "stopped" });
  });
});

describe("FreeBSD", () => {
  test("a tunnel's script", () => {
    expect(renderFreebsd(TUNNEL)).toBe(FREEBSD);
  });

  test("an edge's can be asked to read again", () => {
    const script = renderFreebsd(EDGE);
    expect(script).toContain("\nextra_commands=reload\nreload_cmd=culvert_edge_reload\n");
    expect(script).toContain('\nculvert_edge_reload() {\n  kill -HUP "$(cat "$child_pidfile")"\n}\n');
  });

  test("names of variables have no hyphens", () => {
    const steps = freebsd
      .install({ ...TUNNEL, name: "a-b" })
      .map(describeStep)
      .join("\n");
    expect(steps).toContain("write /usr/local/etc/rc.d/culvert_a_b (0755)");
    expect(steps).toContain("run sysrc culvert_a_b_enable=YES");
  });
});

const OPENRC = `#!/sbin/openrc-run
# Made by \`culvert service install\`, which writes it anew.

description="Culvert tunnel"
supervisor=supervise-daemon
command=/usr/local/bin/culvert
command_args="tunnel --config /etc/culvert/config.yml run --token-file /etc/culvert/token --pidfile /run/culvert/culvert.pid"
command_user=culvert
pidfile=/run/culvert.pid
respawn_delay=5
respawn_max=0
retry=SIGTERM/200/SIGKILL/5
output_log=/var/log/culvert.log
error_log=/var/log/culvert.log
extra_started_commands=reload

depend() {
  use net dns logger
  after firewall
}

start_pre() {
  checkpath -d -m 0755 -o culvert /run/culvert
  checkpath -f -m 0640 -o culvert /var/log/culvert.log
  rm -f /run/culvert/culvert.pid
}

reload() {
  ebegin "Reloading $RC_SVCNAME"
  supervise-daemon "$RC_SVCNAME" --signal HUP --pidfile "$pidfile"
  eend $?
}
`;

const SYSV = `#!/bin/sh
# Made by \`culvert service install\`, which writes it anew.
### BEGIN INIT INFO
# Provides:          culvert
# Required-Start:    $remote_fs
# Required-Stop:     $remote_fs
# Should-Start:      $network $named $syslog
# Should-Stop:       $network $named $syslog
# Default-Start:     2 3 4 5
# Default-Stop:      0 1 6
# Short-Description: Culvert tunnel
### END INIT INFO

PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
name=culvert
user=culvert
pidfile=/run/culvert.pid
logfile=/var/log/culvert.log
connected=/run/culvert/culvert.pid
unset BUN_BE_BUN BUN_OPTIONS

# Becomes the program, as the service's own account.
become() {
  if command -v setpriv >/dev/null 2>&1; then
    exec setpriv --reuid="$(id -u "$user")" --regid="$(id -g "$user")" --init-groups "$@"
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
      become /usr/local/bin/culvert tunnel --config /etc/culvert/config.yml run --token-file /etc/culvert/token --pidfile /run/culvert/culvert.pid
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
  mkdir -p /run/culvert && chown "$user" /run/culvert || return 1
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
  left=200
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

const PLIST = `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<!-- Made by "culvert service install", which writes it anew. -->
<plist version="1.0">
<dict>
	<key>Label</key>
	<string>dev.culvert.web</string>
	<key>ProgramArguments</key>
	<array>
		<string>/usr/local/bin/culvert</string>
		<string>tunnel</string>
		<string>--config</string>
		<string>/Library/Application Support/culvert/tunnels/web/config.yml</string>
		<string>run</string>
		<string>--token-file</string>
		<string>/Library/Application Support/culvert/tunnels/web/token</string>
		<string>--pidfile</string>
		<string>/Library/Application Support/culvert-web.run/culvert-web.pid</string>
	</array>
	<key>UserName</key>
	<string>ann</string>
	<key>RunAtLoad</key>
	<true/>
	<key>KeepAlive</key>
	<true/>
	<key>ThrottleInterval</key>
	<integer>5</integer>
	<key>ExitTimeOut</key>
	<integer>200</integer>
	<key>ProcessType</key>
	<string>Interactive</string>
	<key>SoftResourceLimits</key>
	<dict>
		<key>NumberOfFiles</key>
		<integer>65536</integer>
	</dict>
	<key>Umask</key>
	<integer>63</integer>
	<key>StandardOutPath</key>
	<string>/Library/Application Support/culvert-web.run/culvert-web.log</string>
	<key>StandardErrorPath</key>
	<string>/Library/Application Support/culvert-web.run/culvert-web.log</string>
</dict>
</plist>
`;

const FREEBSD = `#!/bin/sh
# Made by \`culvert service install\`, which writes it anew.
#
# PROVIDE: culvert
# REQUIRE: LOGIN NETWORKING
# KEYWORD: shutdown

. /etc/rc.subr

name=culvert
desc="Culvert tunnel"
rcvar=culvert_enable

load_rc_config $name
: "\${culvert_enable:=NO}"

pidfile=/var/run/culvert.supervisor.pid
child_pidfile=/var/run/culvert.child.pid
command=/usr/sbin/daemon
procname=/usr/sbin/daemon
command_args="-f -R 5 -P $pidfile -p $child_pidfile -u culvert -o /var/log/culvert.log -t culvert -- /usr/local/bin/culvert tunnel --config /usr/local/etc/culvert/config.yml run --token-file /usr/local/etc/culvert/token --pidfile /var/run/culvert/culvert.pid"
start_precmd=culvert_prestart
extra_commands=reload
reload_cmd=culvert_reload

culvert_prestart() {
  install -d -o culvert -m 0755 /var/run/culvert
  rm -f /var/run/culvert/culvert.pid
  unset BUN_BE_BUN BUN_OPTIONS
}

culvert_reload() {
  kill -HUP "$(cat "$child_pidfile")"
}

run_rc_command "$1"
`;
