import { describe, expect, test } from "bun:test";
import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { userScope, usualStateDir } from "../../../src/cli/edge-state.ts";
import { planEdge } from "../../../src/cli/service-edge.ts";
import { SERVICE_INSTALL_FLAGS } from "../../../src/cli/service-flags.ts";
import { planUninstall } from "../../../src/cli/service-plan.ts";
import { Values } from "../../../src/config/values.ts";
import { freebsd } from "../../../src/service/freebsd.ts";
import type { InitSystem } from "../../../src/service/init.ts";
import { createLaunchd } from "../../../src/service/launchd.ts";
import { layoutOf, type ServiceSpec } from "../../../src/service/layout.ts";
import { openrc } from "../../../src/service/openrc.ts";
import { createSystemd } from "../../../src/service/systemd.ts";
import { sysv } from "../../../src/service/sysv.ts";
import { makeTempDir } from "../../support/temp-dir.ts";
import { memoryHost } from "../config/memory-host.ts";

const SYSTEMD = createSystemd(252);
const EDGE: ServiceSpec = {
  ...{ role: "edge", name: undefined, scope: { kind: "system" }, program: ["/usr/local/bin/culvert"], user: undefined },
};
const ENV_FILE = "/etc/culvert/edge.env";

interface Given {
  readonly init?: InitSystem;
  readonly files?: Readonly<Record<string, string>>;
  readonly user?: string;
  readonly scope?: ServiceSpec["scope"];
  readonly stateDir?: string;
}

/** What an installation with these flags comes to: its file of settings and notes, or why not. */
function plan(flags: Readonly<Record<string, readonly string[]>>, given: Given = {}) {
  const { init = SYSTEMD, files = {}, user, scope = { kind: "system" }, stateDir } = given;
  const spec: ServiceSpec = { ...EDGE, scope, user, stateDir };
  const host = memoryHost(files);
  const values = new Values(SERVICE_INSTALL_FLAGS, { args: new Map(Object.entries(flags)), env: {} });
  const place = { host, init, spec, layout: layoutOf(spec, init.family) };
  const planned = planEdge(place, values);
  if (!planned.ok) return { error: planned.error, notes: [] };
  const file = planned.value.steps.find((step) => step.kind === "file" && step.path === place.layout.envFile);
  if (file?.kind !== "file") throw new Error("no file of settings is planned");
  return { file, notes: planned.value.notes, lines: file.content.trimEnd().split("\n") };
}

describe("settings of an edge's service", () => {
  test("hold secrets as they are, in a file for its owner that is not shown", () => {
    const webhook = "https://hooks.example.test/T0/s3cr3t?x=1&y=2";
    const { file, lines } = plan({ "alert-webhook": [webhook], domain: ["edge.example.test"] });
    expect(lines).toContain(`CULVERT_ALERT_WEBHOOK='${webhook}'`);
    expect(lines).toContain("CULVERT_DOMAIN='edge.example.test'");
    expect(file).toMatchObject({ mode: 0o600, secret: true, owner: undefined });
    expect(plan({ domain: ["edge.example.test"] }).file).toMatchObject({ mode: 0o600, secret: false });
  });

  test("keep what is there and was not given now, and a secret among it is not shown either", () => {
    const files = { [ENV_FILE]: "# mine\nCULVERT_ALERT_WEBHOOK='https://a.test/x'\nCULVERT_DOMAIN='old.test'\n" };
    const { file } = plan({ domain: ["new.test"] }, { files });
    expect(file?.content).toBe("# mine\nCULVERT_ALERT_WEBHOOK='https://a.test/x'\nCULVERT_DOMAIN='new.test'\n");
    expect(file?.secret).toBe(true);
    expect(plan({}, { files: { [ENV_FILE]: "!EACCES" } }).error).toContain(ENV_FILE);
  });

  test("name files by their whole paths, and leave alone what is no path", () => {
    const { lines } = plan(
      {
        ...{ "tls-cert": ["a.pem,/etc/ssl/b.pem"], "tls-key": ["a.key", "/etc/ssl/b.key"], "tls-dir": ["certs"] },
        ...{ "error-pages": ["pages"], "release-dir": ["./releases"], "release-key": ["RWQabc", "release.pub"] },
        ...{ "access-log": ["-"], limit: ["rate-per-ip=100"], "grace-period": ["10s"], quic: ["false"] },
      },
      { init: openrc },
    );
    expect(lines?.filter((line) => line.startsWith("CULVERT_"))).toEqual(
      expect.arrayContaining([
        `CULVERT_TLS_CERT='${resolve("a.pem")},/etc/ssl/b.pem'`,
        `CULVERT_TLS_KEY='${resolve("a.key")},/etc/ssl/b.key'`,
        `CULVERT_TLS_DIR='${resolve("certs")}'`,
        `CULVERT_ERROR_PAGES='${resolve("pages")}'`,
        `CULVERT_RELEASE_DIR='${resolve("releases")}'`,
        `CULVERT_RELEASE_KEY='RWQabc,${resolve("release.pub")}'`,
        "CULVERT_ACCESS_LOG='-'",
        "CULVERT_LIMIT='rate-per-ip=100'",
        "CULVERT_GRACE_PERIOD='10s'",
        "CULVERT_QUIC='false'",
      ]),
    );
  });

  test("are read by the account where launchd starts it", () => {
    expect(plan({}, { init: createLaunchd(0), user: "ann" }).file).toMatchObject({ mode: 0o600, owner: "ann" });
  });

  test.each([
    { flag: "tls-dir", path: "/home/ann/certs", want: "the service does not see" },
    { flag: "tls-key", path: "~/x.key", want: "--tls-key /home/me/x.key: the service does not see" },
    { flag: "release-key", path: "/root/release.pub", want: "the service does not see" },
    { flag: "error-pages", path: "/tmp/pages", want: "put it elsewhere" },
    { flag: "error-pages", path: "/home", want: "put it elsewhere" },
    { flag: "access-log", path: "/var/log/access.log", want: "may write below /var/lib/culvert only" },
  ])("refuse --$flag $path, which the unit cannot use", ({ flag, path, want }) => {
    expect(plan({ [flag]: [path] }).error).toContain(want);
    expect(plan({ [flag]: [path] }, { init: openrc }).error).toBeUndefined();
    expect(plan({ [flag]: [path] }, { scope: { kind: "user", home: "/home/me" } }).error).toBeUndefined();
  });

  test("of an account that exists may be in its home, and not below /tmp", () => {
    expect(plan({ "tls-dir": ["/home/ann/certs"] }, { user: "ann" }).error).toBeUndefined();
    expect(plan({ "tls-dir": ["/tmp/certs"] }, { user: "ann" }).error).toContain("does not see");
    expect(plan({ "access-log": ["/var/lib/culvert/access.log"] }).error).toBeUndefined();
  });

  test("follow links to where the service does not see", () => {
    using dir = makeTempDir();
    const link = join(dir.path, "link");
    symlinkSync("/root", link);
    // The folder of this test may itself be one that services do not see.
    expect(plan({ "tls-dir": [link] }).error).toContain("the service does not see");
  });

  test("come with a note on what is closed to the service's account, or not there", () => {
    using dir = makeTempDir();
    const closed = join(dir.path, "live");
    mkdirSync(closed, { mode: 0o700 });
    writeFileSync(join(closed, "edge.pem"), "x");
    chmodSync(dir.path, 0o755);
    // Not systemd, since the folder of tests is one that its services do not see.
    const noted = (path: string): readonly string[] => plan({ "tls-dir": [path] }, { init: openrc }).notes;
    expect(noted(closed)).toEqual([expect.stringContaining(`${closed} is closed to the service's account`)]);
    expect(noted(join(closed, "edge.pem"))).toEqual([expect.stringContaining(`${closed} is closed`)]);
    expect(noted(join(dir.path, "none"))).toEqual([expect.stringContaining("there is no such file now")]);
    chmodSync(closed, 0o755);
    expect(noted(closed)).toEqual([]);
    expect(plan({ "tls-dir": [closed] }, { init: openrc, user: "ann" }).notes).toEqual([]);
  });
});

describe("the edge that is there", () => {
  test.each([
    { platform: "linux", isRoot: true, want: "/var/lib/culvert" },
    { platform: "linux", isRoot: false, want: "/home/me/.local/state/culvert" },
    { platform: "darwin", isRoot: true, want: "/Library/Application Support/culvert-edge" },
    { platform: "freebsd", isRoot: true, want: "/var/db/culvert-edge" },
    { platform: "win32", isRoot: false, want: "C:\\ProgramData\\culvert\\run\\culvert-edge" },
  ])("is one for commands and service on $platform, root: $isRoot", ({ platform, isRoot, want }) => {
    expect(usualStateDir(memoryHost({}, {}, platform), isRoot)).toBe(want);
    const family = ({ linux: "linux", darwin: "macos", freebsd: "freebsd", win32: "windows" } as const)[platform];
    const scope = isRoot || platform === "win32" ? SYSTEM : ({ kind: "user", home: "/home/me" } as const);
    const spec: ServiceSpec = { role: "edge", name: undefined, scope, program: [], user: undefined };
    expect(layoutOf(spec, family ?? "linux").stateDir).toBe(want);
  });

  test("is in the account's own place for state, where there is one", () => {
    const host = memoryHost({}, { XDG_STATE_HOME: "/data/state" });
    expect(usualStateDir(host, false)).toBe("/data/state/culvert");
    expect(usualStateDir(host, true)).toBe("/var/lib/culvert");
    expect(layoutOf({ ...EDGE, scope: userScope(host) }, "linux").stateDir).toBe("/data/state/culvert");
    expect(usualStateDir(memoryHost({}, { XDG_STATE_HOME: "state" }), false)).toBe("/home/me/.local/state/culvert");
  });

  const user = { kind: "user", home: "/home/me" } as const;
  test.each([
    { name: "systemd", init: SYSTEMD, scope: SYSTEM },
    { name: "an account's systemd", init: SYSTEMD, scope: user },
    { name: "OpenRC", init: openrc, scope: SYSTEM },
    { name: "System V", init: sysv, scope: SYSTEM },
    { name: "FreeBSD", init: freebsd, scope: SYSTEM },
    { name: "launchd", init: createLaunchd(0), scope: SYSTEM },
    { name: "an account's launchd", init: createLaunchd(501), scope: user },
  ])("is not left aside when $name runs it elsewhere", ({ init, scope }) => {
    const there = "/var/lib/other";
    const usual = layoutOf({ ...EDGE, scope }, init.family).stateDir;
    const definition = installed(init, { ...EDGE, scope, stateDir: there });
    const files = { ...definition, [`${there}/culvert.db`]: "", [`${usual}/culvert.db`]: "" };
    const { error } = plan({}, { init, scope, files });
    expect(error).toContain(`runs the edge in ${there}, and would have that in ${usual} instead`);
    expect(error).toContain(`give --state-dir ${there}`);
    const keep = plan({ "state-dir": [there] }, { init, scope, files, stateDir: there });
    expect(keep.error).toBeUndefined();
    expect(keep.lines).toContain(`CULVERT_STATE_DIR='${there}'`);
    expect(plan({}, { init, scope, files: definition }).error).toBeUndefined();
    expect(plan({}, { init, scope, files: { [`${there}/culvert.db`]: "" } }).error).toBeUndefined();
  });

  test.each([
    { stateDir: "/srv/edge", want: "right below /var/lib" },
    { stateDir: "/var/lib/private", want: "right below /var/lib" },
    { stateDir: "/var/lib/a/b", want: "right below /var/lib" },
    { stateDir: "/srv/the edge", init: openrc, want: "characters that a service script cannot" },
    { stateDir: "/var/lib/mysql", files: { "/var/lib/mysql": "" }, want: "there is something, and no edge" },
    { stateDir: "/", init: sysv, files: { "/": "" }, want: "there is something, and no edge" },
  ])("is not looked for in $stateDir", ({ want, ...given }) => {
    expect(plan({}, given).error).toContain(want);
  });

  test("goes with its service when all is removed, and nothing else does", () => {
    const removed = (stateDir: string | undefined, files: Readonly<Record<string, string>>) =>
      planUninstall(
        {
          ...{ host: memoryHost(files), init: SYSTEMD, spec: { ...EDGE, stateDir } },
          layout: layoutOf({ ...EDGE, stateDir }, "linux"),
        },
        { purge: true, others: [] },
      ).flatMap((step) => (step.kind === "remove" && !step.path.startsWith("/etc/systemd/") ? [step.path] : []));
    expect(removed(undefined, {})).toEqual([ENV_FILE, "/var/lib/culvert", "/var/lib/private/culvert"]);
    expect(removed("/var/lib/other", { "/var/lib/other/culvert.db": "" })).toEqual([
      ...[ENV_FILE, "/var/lib/other", "/var/lib/private/other"],
    ]);
    expect(removed("/srv", { "/srv": "" })).toEqual([ENV_FILE]);
  });
});

/** What is on disk once a service is installed. */
function installed(init: InitSystem, spec: ServiceSpec): Readonly<Record<string, string>> {
  const { program } = init;
  if ("query" in program) throw new Error("this system has no file");
  const path = program.file(spec);
  const step = init.install(spec).find((each) => each.kind === "file" && each.path === path);
  return { [path]: step?.kind === "file" ? step.content : "" };
}

const SYSTEM = { kind: "system" } as const;
