import { dirname } from "node:path";
import type { InitSystem, Outcome, ServiceState } from "./init.ts";
import { describeService, layoutOf, type ServiceSpec, serviceArguments } from "./layout.ts";
import { readStatus } from "./notify.ts";
import { quoteExec, quoteWord, splitWords } from "./quote.ts";
import type { Step } from "./steps.ts";

/** The account where the machine's systemd is too old to make one for each run. */
const STATIC_ACCOUNT = "culvert";
/** First releases that have these. */
const HAS_CREDENTIALS = 247;
const HAS_RESTART_STEPS = 254;

/** Where a service of the machine may have its state, in a folder that systemd makes (systemd.exec(5)). */
const STATES = "/var/lib/";
const SYSTEM_UNITS = "/etc/systemd/system";
const STATE_PROPERTIES = [
  ...["LoadState", "UnitFileState", "ActiveState", "SubState", "MainPID", "NRestarts"],
  ...["StatusText", "Result", "ActiveEnterTimestamp"],
] as const;

/**
 * Sandbox that a connector works in, from systemd.exec(5). What is missing is missing on purpose:
 * MemoryDenyWriteExecute switches the JIT off and stops FFI, and a limit of address space stops the runtime.
 */
const SANDBOX = [
  "NoNewPrivileges=yes",
  "ProtectSystem=strict",
  "PrivateTmp=yes",
  "PrivateDevices=yes",
  "ProtectKernelTunables=yes",
  "ProtectKernelModules=yes",
  "ProtectKernelLogs=yes",
  "ProtectControlGroups=yes",
  "ProtectClock=yes",
  "ProtectHostname=yes",
  "ProtectProc=invisible",
  "ProcSubset=pid",
  "RestrictNamespaces=yes",
  "RestrictRealtime=yes",
  "RestrictSUIDSGID=yes",
  "LockPersonality=yes",
  "RemoveIPC=yes",
  "SystemCallArchitectures=native",
  "SystemCallFilter=@system-service",
  "SystemCallFilter=~@privileged @resources",
  "SystemCallErrorNumber=EPERM",
  "UMask=0077",
] as const;

/** What of it an account's own systemd can do: it has no right to mount anything. */
const USER_SANDBOX = [
  "NoNewPrivileges=yes",
  "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK",
  "RestrictRealtime=yes",
  "LockPersonality=yes",
  "SystemCallArchitectures=native",
  "SystemCallFilter=@system-service",
  "SystemCallErrorNumber=EPERM",
  "UMask=0077",
] as const;

/** systemd of the release that `systemctl --version` says. */
export function createSystemd(version: number): InitSystem {
  return {
    kind: "systemd",
    family: "linux",
    unit: unitName,
    account: (spec) =>
      spec.user ?? (spec.scope.kind === "user" || hasDynamicUser(version) ? undefined : STATIC_ACCOUNT),
    installedUser: (spec, read) => (spec.scope.kind === "user" ? undefined : installedUser(spec, read)),
    prepare(spec) {
      if (spec.scope.kind === "user")
        return [
          {
            kind: "run",
            what: "let services of this account run without a session",
            argv: ["sh", "-c", lingerScript(spec)],
          },
        ];
      const account = spec.user === undefined && !hasDynamicUser(version);
      return account ? [{ kind: "account", name: STATIC_ACCOUNT }] : [];
    },
    install(spec) {
      return [
        ...(spec.scope.kind === "user" ? [dir(unitsDir(spec))] : []),
        file(unitPath(spec), renderUnit(spec, version)),
        ...dropIn(spec),
        systemctl(spec, "daemon-reload"),
        // A service that was masked or failed often before may start again.
        { ...systemctl(spec, "reset-failed", unitName(spec)), mayFail: true },
        systemctl(spec, "enable", unitName(spec)),
      ];
    },
    restart: (spec) => [systemctl(spec, "restart", unitName(spec))],
    uninstall(spec, { others }) {
      const unit = unitName(spec);
      const wants = spec.scope.kind === "user" ? "default.target.wants" : "multi-user.target.wants";
      const shared = spec.name !== undefined && others.some((other) => other.startsWith("culvert@"));
      return [
        { ...systemctl(spec, "stop", unit), mayFail: true },
        { ...systemctl(spec, "disable", unit), mayFail: true },
        // `disable` finds it through the unit, which may be gone.
        { kind: "remove", path: `${unitsDir(spec)}/${wants}/${unit}` },
        ...withoutDropIn(spec),
        ...(shared ? [] : [{ kind: "remove", path: unitPath(spec) } as const]),
        ...emptied(spec).map((path) => ({ kind: "remove-empty", path }) as const),
        spec.scope.kind === "system" ? systemctl(spec, "daemon-reload") : forgetUnits,
        { ...systemctl(spec, "reset-failed", unit), mayFail: true },
        ...(spec.scope.kind === "user"
          ? [
              {
                kind: "run",
                what: "let them no longer, if that was made here and no other service needs it",
                argv: ["sh", "-c", unlingerScript(spec)],
                mayFail: true,
              } as const,
            ]
          : []),
        ...(spec.scope.kind === "system" && !hasDynamicUser(version) && others.length === 0
          ? [{ kind: "remove-account", name: STATIC_ACCOUNT } as const]
          : []),
      ];
    },
    state: {
      ask: (spec) => [...control(spec), "show", unitName(spec), `--property=${STATE_PROPERTIES.join(",")}`],
      read: readState,
    },
    program: { file: unitPath, read: wordsOfUnit },
    logs: (spec, { lines, follow }) => [
      "journalctl",
      ...(spec.scope.kind === "user" ? ["--user"] : []),
      ...["--unit", unitName(spec), "--lines", `${lines}`, "--no-pager", "--output", "cat"],
      ...(follow ? ["--follow"] : []),
    ],
  };
}

/** The release number in the first line of `systemctl --version`; 0 when there is none. */
export function parseSystemdVersion(text: string): number {
  return Number(/^systemd (\d{1,6})/.exec(text)?.[1] ?? 0);
}

/** The unit's text. An instance's unit is a template, the same for all. */
export function renderUnit(spec: ServiceSpec, version: number): string {
  const system = spec.scope.kind === "system";
  const template = spec.name !== undefined;
  const shown = template ? { ...spec, name: "%i" } : spec;
  const layout = layoutOf(shown, "linux");
  const credentials = system && spec.role === "connector" && version >= HAS_CREDENTIALS;
  // The only words with a `%` or a `$` of ours.
  const literal = (word: string): string => (template ? word.replaceAll("%%i", "%i") : word);
  const args = serviceArguments(shown, layout).map((word) =>
    credentials && word === layout.tokenFile ? `$\{CREDENTIALS_DIRECTORY}/token` : literal(quoteExec(word)),
  );
  const exec = [...spec.program.map(quoteExec), ...args].join(" ");
  return `${[
    "# Made by `culvert service install`, which writes it anew: put changes into a drop-in with `systemctl edit`.",
    "[Unit]",
    `Description=${describeService(shown)}`,
    // Not network-online.target: it connects when it can, and a boot must not wait for that.
    ...(system ? ["After=network.target nss-lookup.target"] : []),
    "StartLimitIntervalSec=0",
    "",
    "[Service]",
    "Type=notify",
    "NotifyAccess=main",
    `ExecStart=${exec}`,
    "ExecReload=/bin/kill -HUP $MAINPID",
    ...(spec.role === "edge" ? [`EnvironmentFile=-${layout.envFile}`] : []),
    ...(credentials ? [`LoadCredential=token:${literal(quoteExec(layout.tokenFile))}`] : []),
    // The runtime takes orders from these.
    "UnsetEnvironment=BUN_BE_BUN BUN_OPTIONS",
    "Restart=always",
    "RestartSec=2s",
    ...(version >= HAS_RESTART_STEPS ? ["RestartSteps=8", "RestartMaxDelaySec=1min"] : []),
    // Arguments that are wrong do not mend themselves.
    "RestartPreventExitStatus=255",
    "WatchdogSec=1min",
    // Who does not answer the watchdog does not drain requests either.
    "TimeoutAbortSec=10s",
    "TimeoutStartSec=1min",
    // The longest grace period there is, and some.
    "TimeoutStopSec=200s",
    "KillMode=mixed",
    "LimitNOFILE=524288",
    ...(system ? ownership(spec, version) : USER_SANDBOX),
    "",
    "[Install]",
    `WantedBy=${system ? "multi-user.target" : "default.target"}`,
  ].join("\n")}\n`;
}

/** What a unit's text starts. */
function wordsOfUnit(text: string): readonly string[] {
  const line = /^ExecStart=(.*)$/m.exec(text)?.[1] ?? "";
  return splitWords(line).map((word) => word.replaceAll("%%", "%").replaceAll("$$", "$"));
}

/** Who it runs as, and in what sandbox. */
function ownership(spec: ServiceSpec, version: number): readonly string[] {
  // Instances share their unit: the account of one is in its drop-in.
  const user = spec.name === undefined ? spec.user : undefined;
  const own = spec.role === "edge" ? "culvert-edge" : spec.name === undefined ? "culvert" : "culvert-%i";
  return [
    ...(user !== undefined
      ? [`User=${user}`]
      : hasDynamicUser(version)
        ? ["DynamicUser=yes", `User=${own}`]
        : [`User=${STATIC_ACCOUNT}`]),
    // Somebody who names an account wants what that account can read.
    `ProtectHome=${user === undefined ? "yes" : "read-only"}`,
    ...(spec.role === "edge"
      ? [
          // Ports below 1024 belong to the machine: no right in a user namespace of one's own opens them.
          "CapabilityBoundingSet=CAP_NET_BIND_SERVICE",
          "AmbientCapabilities=CAP_NET_BIND_SERVICE",
          // It dials nobody, which is what the C library asks the kernel about its addresses for.
          "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX",
          // One that root made is given to the account, with all that is in it.
          `StateDirectory=${layoutOf(spec, "linux").stateDir.slice(STATES.length)}`,
          "StateDirectoryMode=0700",
        ]
      : [
          "CapabilityBoundingSet=",
          "AmbientCapabilities=",
          "PrivateUsers=yes",
          "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK",
        ]),
    ...SANDBOX,
  ];
}

function dropIn(spec: ServiceSpec): readonly Step[] {
  if (spec.name === undefined) return [];
  if (spec.user === undefined) return withoutDropIn(spec);
  const folder = dropInFolder(spec);
  const lines = ["[Service]", "DynamicUser=no", `User=${spec.user}`, "ProtectHome=read-only"];
  return [dir(folder), file(accountDropIn(spec), `${lines.join("\n")}\n`)];
}

/** Only what is made here: `systemctl edit` puts a person's own changes into the same folder. */
function withoutDropIn(spec: ServiceSpec): readonly Step[] {
  return [
    ...(spec.name === undefined ? [] : [{ kind: "remove", path: accountDropIn(spec) } as const]),
    { kind: "remove-empty", path: dropInFolder(spec) },
  ];
}

function installedUser(spec: ServiceSpec, read: (path: string) => string | undefined): string | undefined {
  const text = read(spec.name === undefined ? unitPath(spec) : accountDropIn(spec)) ?? "";
  const user = /^User=(.+)$/m.exec(text)?.[1]?.trim();
  // Accounts that nobody named are shut out of homes.
  return /^ProtectHome=read-only$/m.test(text) ? user : undefined;
}

/**
 * Without lingering, an account's services end with its last session and do not start with the machine. Where that is an
 * administrator's business it stays off, and the service lives as long as the session.
 */
function lingerScript(spec: ServiceSpec): string {
  const marker = lingerMarker(spec);
  return [
    'if [ "$(loginctl show-user "$(id -u)" --property=Linger --value 2>/dev/null)" != yes ]; then',
    `  loginctl enable-linger "$(id -u)" 2>/dev/null && mkdir -p ${quoteWord(dirname(marker))} && : >${quoteWord(marker)}`,
    "fi",
    // Which starts the account's systemd where no session has.
    "tries=0",
    "until systemctl --user show-environment >/dev/null 2>&1; do",
    "  tries=$((tries + 1))",
    '  if [ "$tries" = 25 ]; then',
    `    echo "this account's systemd does not run: log in as it, or as root run: loginctl enable-linger $(id -un)" >&2`,
    "    exit 1",
    "  fi",
    "  sleep 0.2",
    "done",
  ].join("\n");
}

/** Once nothing keeps an account's systemd, as after the uninstallation of its last service, it has no units to forget. */
const forgetUnits: Step = {
  kind: "run",
  what: "have this account's systemd forget what is removed, if it runs",
  argv: ["sh", "-c", 'systemctl --user daemon-reload || ! systemctl is-active --quiet "user@$(id -u).service"'],
};

/** Of the last service here, and only where it was off before. */
function unlingerScript(spec: ServiceSpec): string {
  const marker = quoteWord(lingerMarker(spec));
  const wants = quoteWord(`${unitsDir(spec)}/default.target.wants`);
  return `[ ! -e ${marker} ] || ls ${wants} 2>/dev/null | grep -q '^culvert' || { rm -f ${marker}; loginctl disable-linger "$(id -u)"; }`;
}

/** Says that lingering was switched on here. */
function lingerMarker(spec: ServiceSpec): string {
  return `${layoutOf({ ...spec, name: undefined }, "linux").dirs[0] ?? ""}/lingers`;
}

/** Credentials came with systemd 247; who has none of them reads the token as an account that stays. */
function hasDynamicUser(version: number): boolean {
  return version >= HAS_CREDENTIALS;
}

function unitName({ role, name }: ServiceSpec): string {
  if (role === "edge") return "culvert-edge.service";
  return name === undefined ? "culvert.service" : `culvert@${name}.service`;
}

function unitsDir({ scope }: ServiceSpec): string {
  return scope.kind === "system" ? SYSTEM_UNITS : `${scope.home}/.config/systemd/user`;
}

function dropInFolder(spec: ServiceSpec): string {
  return `${unitsDir(spec)}/${unitName(spec)}.d`;
}

function accountDropIn(spec: ServiceSpec): string {
  return `${dropInFolder(spec)}/user.conf`;
}

/** Folders that an account may have had no use for before, the innermost first. */
function emptied({ scope }: ServiceSpec): readonly string[] {
  if (scope.kind === "system") return [];
  const own = `${scope.home}/.config/systemd`;
  return [`${own}/user/default.target.wants`, `${own}/user`, own];
}

function unitPath(spec: ServiceSpec): string {
  return `${unitsDir(spec)}/${spec.name === undefined ? unitName(spec) : "culvert@.service"}`;
}

function control({ scope }: ServiceSpec): readonly string[] {
  return scope.kind === "system" ? ["systemctl"] : ["systemctl", "--user"];
}

function systemctl(spec: ServiceSpec, ...words: string[]): Step & { readonly kind: "run" } {
  return { kind: "run", argv: [...control(spec), ...words] };
}

function dir(path: string): Step {
  return { kind: "dir", path, mode: 0o755 };
}

function file(path: string, content: string): Step {
  return { kind: "file", path, content, mode: 0o644 };
}

function readState({ stdout }: Outcome): ServiceState {
  const values = new Map<string, string>();
  for (const line of stdout.split("\n")) {
    const equals = line.indexOf("=");
    if (equals > 0) values.set(line.slice(0, equals), line.slice(equals + 1).trim());
  }
  const active = values.get("ActiveState");
  const sub = values.get("SubState");
  const pid = Number(values.get("MainPID") ?? 0);
  const said = values.get("StatusText") ?? "";
  const result = values.get("Result") ?? "";
  const since = values.get("ActiveEnterTimestamp") ?? "";
  const running = active === "active" || active === "reloading" || active === "deactivating";
  const starting = active === "activating";
  const down = result === "" || result === "success" ? undefined : `result: ${result}`;
  const detail = running && said !== "" ? said : down;
  const connections = running ? readStatus(said) : undefined;
  return {
    installed: values.get("LoadState") === "loaded",
    enabled: (values.get("UnitFileState") ?? "").startsWith("enabled"),
    active: running
      ? "running"
      : starting
        ? "starting"
        : active === "failed" || sub === "failed"
          ? "failed"
          : "stopped",
    restarts: Number(values.get("NRestarts") ?? 0),
    ...(pid > 0 ? { pid } : {}),
    ...(since === "" || !running ? {} : { since }),
    ...(detail === undefined ? {} : { detail }),
    ...(connections === undefined ? {} : { connections, connected: connections > 0 }),
  };
}
