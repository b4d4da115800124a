import { describe, expect, test } from "bun:test";
import type { ServiceSpec } from "../../../src/service/layout.ts";
import { describeStep } from "../../../src/service/steps.ts";
import { createSystemd, parseSystemdVersion, renderUnit } from "../../../src/service/systemd.ts";

const TUNNEL: ServiceSpec = {
  role: "connector",
  name: undefined,
  scope: { kind: "system" },
  program: ["/usr/local/bin/culvert"],
  user: undefined,
};
const VERSION = 252;

describe("the unit", () => {
  test("of a tunnel", () => {
    expect(renderUnit(TUNNEL, VERSION)).toBe(UNIT);
  });

  test("of an edge", () => {
    expect(renderUnit({ ...TUNNEL, role: "edge" }, VERSION)).toBe(EDGE_UNIT);
  });

  test("of an account without root, with a space in its home", () => {
    expect(renderUnit({ ...TUNNEL, scope: { kind: "user", home: "/home/ann lee" } }, VERSION)).toBe(USER_UNIT);
  });

  test("of an instance is one template for all", () => {
    const web = renderUnit({ ...TUNNEL, name: "web", user: "ann" }, VERSION);
    expect(renderUnit({ ...TUNNEL, name: "other" }, VERSION)).toBe(web);
    expect(changes(UNIT, web)).toEqual([
      "Description=Culvert tunnel %i",
      `ExecStart=/usr/local/bin/culvert tunnel --config /etc/culvert/tunnels/%i/config.yml run --token-file $\{CREDENTIALS_DIRECTORY}/token`,
      "LoadCredential=token:/etc/culvert/tunnels/%i/token",
      "User=culvert-%i",
    ]);
  });

  test("with an account that exists", () => {
    const unit = renderUnit({ ...TUNNEL, user: "ann" }, VERSION);
    expect(changes(UNIT, unit)).toEqual(["User=ann", "ProtectHome=read-only"]);
    expect(unit).not.toContain("DynamicUser");
  });

  test("for a systemd before credentials reads the token as an account that stays", () => {
    const unit = renderUnit(TUNNEL, 239);
    expect(changes(UNIT, unit)).toEqual([
      "ExecStart=/usr/local/bin/culvert tunnel --config /etc/culvert/config.yml run --token-file /etc/culvert/token",
    ]);
    expect(unit).not.toContain("DynamicUser");
    expect(unit).toContain("\nUser=culvert\n");
    expect(createSystemd(239).account(TUNNEL)).toBe("culvert");
  });

  test("for a systemd that can wait longer each time does", () => {
    expect(changes(UNIT, renderUnit(TUNNEL, 254))).toEqual(["RestartSteps=8", "RestartMaxDelaySec=1min"]);
  });

  test("takes no path as a specifier or a variable", () => {
    const unit = renderUnit({ ...TUNNEL, program: ["/opt/100%/$HOME/cul vert"] }, VERSION);
    expect(unit).toContain('ExecStart="/opt/100%%/$$HOME/cul vert" tunnel');
  });
});

test("an instance with an account of its own has a drop-in, and one without loses it", () => {
  const systemd = createSystemd(VERSION);
  const shown = (spec: ServiceSpec): string => systemd.install(spec).map(describeStep).join("\n");
  const folder = "/etc/systemd/system/culvert@web.service.d";
  expect(shown({ ...TUNNEL, name: "web", user: "ann" })).toContain(
    `write ${folder}/user.conf (0644)\n    [Service]\n    DynamicUser=no\n    User=ann\n    ProtectHome=read-only`,
  );
  expect(shown({ ...TUNNEL, name: "web" })).toContain(`remove ${folder}/user.conf\nremove ${folder} if it is empty\n`);
});

test("what `systemctl edit` made is never removed, only our own drop-in", () => {
  const systemd = createSystemd(VERSION);
  for (const name of [undefined, "web"]) {
    const spec: ServiceSpec = { ...TUNNEL, name };
    const steps = [...systemd.install(spec), ...systemd.uninstall(spec, { others: [] })];
    const removed = steps.flatMap((step) => (step.kind === "remove" ? [step.path] : []));
    expect(removed.filter((path) => path.endsWith(".d"))).toEqual([]);
    expect(removed.some((path) => path.endsWith(".d/user.conf"))).toBe(name !== undefined);
  }
});

test.each([239, VERSION])(
  "with systemd %d an installed account is known again, and one that nobody named is none",
  (version) => {
    const systemd = createSystemd(version);
    for (const spec of [TUNNEL, { ...TUNNEL, name: "web" }, { ...TUNNEL, role: "edge" }] satisfies ServiceSpec[]) {
      const installed = (user: string | undefined): string | undefined => {
        const files = new Map(
          systemd
            .install({ ...spec, user })
            .flatMap((step) => (step.kind === "file" ? [[step.path, step.content]] : [])),
        );
        return systemd.installedUser(spec, (path) => files.get(path));
      };
      expect([installed("ann"), installed("culvert"), installed(undefined)]).toEqual(["ann", "culvert", undefined]);
    }
    expect(systemd.installedUser(TUNNEL, () => undefined)).toBeUndefined();
  },
);

test("uninstalling a service of an account removes folders that are empty, and needs no systemd that still runs", () => {
  const spec: ServiceSpec = { ...TUNNEL, scope: { kind: "user", home: "/home/ann" } };
  const steps = createSystemd(VERSION).uninstall(spec, { others: [] });
  const own = "/home/ann/.config/systemd";
  expect(steps.flatMap((step) => (step.kind === "remove-empty" ? [step.path] : []))).toEqual([
    `${own}/user/culvert.service.d`,
    `${own}/user/default.target.wants`,
    `${own}/user`,
    own,
  ]);
  expect(steps.map(describeStep).join("\n")).toContain(
    "have this account's systemd forget what is removed, if it runs",
  );
  const system = createSystemd(VERSION).uninstall(TUNNEL, { others: [] });
  expect(system.map(describeStep)).toContain("run systemctl daemon-reload");
  expect(system.flatMap((step) => (step.kind === "remove-empty" ? [step.path] : []))).toEqual([
    "/etc/systemd/system/culvert.service.d",
  ]);
});

test("uninstalling an instance leaves the template to the others", () => {
  const systemd = createSystemd(VERSION);
  const removed = (others: string[]): string[] =>
    systemd
      .uninstall({ ...TUNNEL, name: "web" }, { others })
      .flatMap((step) => (step.kind === "remove" ? [step.path] : []));
  const template = "/etc/systemd/system/culvert@.service";
  expect(removed(["culvert.service"])).toContain(template);
  expect(removed(["culvert@two.service"])).not.toContain(template);
});

test.each([
  ["systemd 252 (252.39-1~deb12u2)\n+PAM +AUDIT", 252],
  ["systemd 239 (239-82.el8)", 239],
  ["nothing", 0],
])("the release in %j is %d", (text, version) => {
  expect(parseSystemdVersion(text)).toBe(version);
});

describe("the state", () => {
  const { state } = createSystemd(VERSION);
  const read = (text: string) => "read" in state && state.read({ code: 0, stdout: text, stderr: "" }, TUNNEL);

  test("of a service that is connected", () => {
    const text =
      "LoadState=loaded\nUnitFileState=enabled\nActiveState=active\nSubState=running\nMainPID=42\nNRestarts=3\nStatusText=Connected: 4 connections\nResult=success\nActiveEnterTimestamp=Sat 2026-11-21 12:00:00 UTC\n";
    expect(read(text)).toEqual({
      installed: true,
      enabled: true,
      active: "running",
      pid: 42,
      restarts: 3,
      since: "Sat 2026-11-21 12:00:00 UTC",
      detail: "Connected: 4 connections",
      connected: true,
      connections: 4,
    });
  });

  test("of one that is tried again and again", () => {
    const text =
      "LoadState=loaded\nUnitFileState=disabled\nActiveState=activating\nSubState=auto-restart\nMainPID=0\nNRestarts=7\nStatusText=\nResult=exit-code\nActiveEnterTimestamp=\n";
    expect(read(text)).toEqual({
      installed: true,
      enabled: false,
      active: "starting",
      restarts: 7,
      detail: "result: exit-code",
    });
  });

  test("of one that is not there", () => {
    expect(read("LoadState=not-found\nActiveState=inactive\nMainPID=0\nNRestarts=0\n")).toEqual({
      installed: false,
      enabled: false,
      active: "stopped",
      restarts: 0,
    });
  });
});

/** Lines of `after` that `before` does not have. */
function changes(before: string, after: string): string[] {
  const known = new Set(before.split("\n"));
  return after.split("\n").filter((line) => !known.has(line));
}

const UNIT = `# Made by \`culvert service install\`, which writes it anew: put changes into a drop-in with \`systemctl edit\`.
[Unit]
Description=Culvert tunnel
After=network.target nss-lookup.target
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart=/usr/local/bin/culvert tunnel --config /etc/culvert/config.yml run --token-file \${CREDENTIALS_DIRECTORY}/token
ExecReload=/bin/kill -HUP $MAINPID
LoadCredential=token:/etc/culvert/token
UnsetEnvironment=BUN_BE_BUN BUN_OPTIONS
Restart=always
RestartSec=2s
RestartPreventExitStatus=255
WatchdogSec=1min
TimeoutAbortSec=10s
TimeoutStartSec=1min
TimeoutStopSec=200s
KillMode=mixed
LimitNOFILE=524288
DynamicUser=yes
User=culvert
ProtectHome=yes
CapabilityBoundingSet=
AmbientCapabilities=
PrivateUsers=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
NoNewPrivileges=yes
ProtectSystem=strict
PrivateTmp=yes
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
ProtectProc=invisible
ProcSubset=pid
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
RemoveIPC=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
UMask=0077

[Install]
WantedBy=multi-user.target
`;

const EDGE_UNIT = `# Made by \`culvert service install\`, which writes it anew: put changes into a drop-in with \`systemctl edit\`.
[Unit]
Description=Culvert edge
After=network.target nss-lookup.target
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart=/usr/local/bin/culvert edge run --state-dir /var/lib/culvert
ExecReload=/bin/kill -HUP $MAINPID
EnvironmentFile=-/etc/culvert/edge.env
UnsetEnvironment=BUN_BE_BUN BUN_OPTIONS
Restart=always
RestartSec=2s
RestartPreventExitStatus=255
WatchdogSec=1min
TimeoutAbortSec=10s
TimeoutStartSec=1min
TimeoutStopSec=200s
KillMode=mixed
LimitNOFILE=524288
DynamicUser=yes
User=culvert-edge
ProtectHome=yes
CapabilityBoundingSet=CAP_NET_BIND_SERVICE
AmbientCapabilities=CAP_NET_BIND_SERVICE
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
StateDirectory=culvert
StateDirectoryMode=0700
NoNewPrivileges=yes
ProtectSystem=strict
PrivateTmp=yes
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
ProtectProc=invisible
ProcSubset=pid
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
RemoveIPC=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
UMask=0077

[Install]
WantedBy=multi-user.target
`;

const USER_UNIT = `# Made by \`culvert service install\`, which writes it anew: put changes into a drop-in with \`systemctl edit\`.
[Unit]
Description=Culvert tunnel
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart=/usr/local/bin/culvert tunnel --config "/home/ann lee/.config/culvert/config.yml" run --token-file "/home/ann lee/.config/culvert/token"
ExecReload=/bin/kill -HUP $MAINPID
UnsetEnvironment=BUN_BE_BUN BUN_OPTIONS
Restart=always
RestartSec=2s
RestartPreventExitStatus=255
WatchdogSec=1min
TimeoutAbortSec=10s
TimeoutStartSec=1min
TimeoutStopSec=200s
KillMode=mixed
LimitNOFILE=524288
NoNewPrivileges=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictRealtime=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
UMask=0077

[Install]
WantedBy=default.target
`;
