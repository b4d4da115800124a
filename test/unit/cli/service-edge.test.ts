import { describe, expect, test } from "bun:test";
import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { usualStateDir } from "../../../src/cli/edge-state.ts";
import { planEdge } from "../../../src/cli/service-edge.ts";
import { SERVICE_INSTALL_FLAGS } from "../../../src/cli/service-flags.ts";
import { Values } from "../../../src/config/values.ts";
import type { InitSystem } from "../../../src/service/init.ts";
import { createLaunchd } from "../../../src/service/launchd.ts";
import { layoutOf, type ServiceSpec } from "../../../src/service/layout.ts";
import { openrc } from "../../../src/service/openrc.ts";
import { createSystemd } from "../../../src/service/systemd.ts";
import { makeTempDir } from "../../support/temp-dir.ts";
import { memoryHost } from "../config/memory-host.ts";

const SYSTEMD = createSystemd(252);
const ENV_FILE = "/etc/culvert/edge.env";

interface Given {
  readonly init?: InitSystem;
  readonly files?: Readonly<Record<string, string>>;
  readonly user?: string;
  readonly scope?: ServiceSpec["scope"];
  readonly env?: Readonly<Record<string, string>>;
}

/** What an installation with these flags comes to: its file of settings and notes, or why not. */
function plan(flags: Readonly<Record<string, readonly string[]>>, given: Given = {}) {
  const { init = SYSTEMD, files = {}, user, scope = { kind: "system" } } = given;
  const spec: ServiceSpec = { role: "edge", name: undefined, scope, program: ["/usr/local/bin/culvert"], user };
  const host = memoryHost(files, given.env);
  const values = new Values(SERVICE_INSTALL_FLAGS, { args: new Map(Object.entries(flags)), env: {} });
  const place = { host, init, spec, layout: layoutOf(spec, init.family) };
  const planned = planEdge(place, values, usualStateDir(host, scope.kind === "system"));
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

  test("is not left aside by a service that would begin with nothing", () => {
    const former = { "/var/lib/culvert-edge/culvert.db": "" };
    const { error } = plan({}, { files: former });
    expect(error).toContain("There is an edge in /var/lib/culvert-edge, and the service's is in /var/lib/culvert");
    expect(error).toContain('mv "$(readlink -f /var/lib/culvert-edge)" /var/lib/culvert');
    expect(plan({}, { files: { ...former, "/var/lib/culvert/culvert.db": "" } }).error).toBeUndefined();
    const scope = { kind: "user", home: "/home/me" } as const;
    const env = { XDG_STATE_HOME: "/data/state" };
    const files = { "/data/state/culvert/culvert.db": "" };
    expect(plan({}, { scope, env, files }).error).toContain("There is an edge in /data/state/culvert");
    expect(plan({}, { scope, env }).error).toBeUndefined();
  });
});

const SYSTEM = { kind: "system" } as const;
