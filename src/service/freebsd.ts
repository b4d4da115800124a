import type { InitSystem } from "./init.ts";
import { describeService, type Layout, layoutOf, type ServiceSpec, serviceArguments } from "./layout.ts";
import { readScriptState } from "./openrc.ts";
import { quoteWord, splitWords } from "./quote.ts";
import { accountOf, namedAccount, prepareAccount } from "./script-account.ts";
import { HEADER, logTail } from "./script-parts.ts";

/** FreeBSD's rc with daemon(8) as supervisor (rc(8), rc.subr(8)). */
export const freebsd: InitSystem = {
  kind: "freebsd",
  family: "freebsd",
  unit: (spec) => layout(spec).id,
  account: accountOf,
  installedUser: (spec, read) => namedAccount(spec, read(scriptPath(spec)), / -u (\S+) -o /),
  prepare: (spec) => prepareAccount(spec, layout(spec)),
  install: (spec) => [
    { kind: "file", path: scriptPath(spec), content: renderFreebsd(spec), mode: 0o755 },
    { kind: "run", argv: ["sysrc", `${variable(spec)}_enable=YES`] },
  ],
  restart: (spec) => [{ kind: "run", argv: ["service", variable(spec), "restart"] }],
  uninstall: (spec, { others }) => {
    const { logFile, connectedFile } = layout(spec);
    return [
      { kind: "run", argv: ["service", variable(spec), "stop"], mayFail: true },
      { kind: "run", argv: ["sysrc", "-x", `${variable(spec)}_enable`], mayFail: true },
      { kind: "remove", path: scriptPath(spec) },
      { kind: "remove", path: connectedFile },
      { kind: "remove", path: logFile },
      ...(others.length === 0
        ? [{ kind: "remove-account", name: accountOf({ ...spec, user: undefined }) } as const]
        : []),
    ];
  },
  state: {
    ask: (spec) => [
      "sh",
      "-c",
      [
        `[ -x ${scriptPath(spec)} ] && echo installed`,
        `service ${variable(spec)} enabled && echo enabled`,
        `service ${variable(spec)} status >/dev/null 2>&1; echo status=$?`,
        `sed 's/^/pid=/' ${layout(spec).connectedFile} 2>/dev/null`,
      ].join("\n"),
    ],
    read: ({ stdout }) => readScriptState(stdout),
  },
  program: { file: scriptPath, read: wordsOfFreebsd },
  logs: (spec, options) => logTail(layout(spec).logFile, options),
};

/** The text of the script in /usr/local/etc/rc.d. */
export function renderFreebsd(spec: ServiceSpec): string {
  const paths = layout(spec);
  const name = variable(spec);
  const user = accountOf(spec);
  const edge = spec.role === "edge";
  const words = [...spec.program, ...serviceArguments(spec, paths, { connectedFile: paths.connectedFile })];
  return `#!/bin/sh
${HEADER}
#
# PROVIDE: ${name}
# REQUIRE: LOGIN NETWORKING
# KEYWORD: shutdown

. /etc/rc.subr

name=${name}
desc="${describeService(spec)}"
rcvar=${name}_enable

load_rc_config $name
: "\${${name}_enable:=NO}"
${edge ? `\nset -a\n[ ! -r ${paths.envFile} ] || . ${paths.envFile}\nset +a\n` : ""}
pidfile=/var/run/${paths.id}.supervisor.pid
child_pidfile=/var/run/${paths.id}.child.pid
command=/usr/sbin/daemon
procname=/usr/sbin/daemon
command_args="-f -R 5 -P $pidfile -p $child_pidfile -u ${user} -o ${paths.logFile} -t ${paths.id} -- ${words.map(quoteWord).join(" ")}"
start_precmd=${name}_prestart
extra_commands=reload
reload_cmd=${name}_reload

${name}_prestart() {
  install -d -o ${user} -m 0755 ${paths.runDir}
  rm -f ${paths.connectedFile}
  unset BUN_BE_BUN BUN_OPTIONS
}

${name}_reload() {
  kill -HUP "$(cat "$child_pidfile")"
}

run_rc_command "$1"
`;
}

/** The program in a script's text: what daemon(8) starts. */
function wordsOfFreebsd(text: string): readonly string[] {
  return splitWords(/^command_args=".*? -- (.*)"$/m.exec(text)?.[1] ?? "");
}

/** rc.conf knows no hyphens in names. */
function variable(spec: ServiceSpec): string {
  return layout(spec).id.replaceAll("-", "_");
}

function scriptPath(spec: ServiceSpec): string {
  return `/usr/local/etc/rc.d/${variable(spec)}`;
}

function layout(spec: ServiceSpec): Layout {
  return layoutOf(spec, "freebsd");
}
