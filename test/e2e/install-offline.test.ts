import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { appendFileSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { basename, join } from "node:path";
import { EXAMPLE_CONFIG } from "../../src/bundle/example-config.ts";
import { encodeMinisignPublicKey } from "../../src/wire/minisign.ts";
import { culvertCommand } from "../support/binary.ts";
import { makeTestCertificate } from "../support/certificate.ts";
import { InstallLab, type Outcome, programOf, SHELLS } from "../support/installer.ts";
import { makeMinisignKey } from "../support/minisign-key.ts";
import { runProcess } from "../support/processes.ts";
import { startReleaseServer } from "../support/release-server.ts";
import { buildVersion, publishVersion, thisTarget } from "../support/releases.ts";

// busybox's awk takes seconds for a signature, and refuses a bad one only after that.
setDefaultTimeout(90_000);

const NO_NETWORK = ["unshare", "-n"];
const CAN_UNSHARE = spawnSync("unshare", ["-n", "true"]).status === 0;

/** `culvert bundle` with the lab's key, in the lab's folder. */
async function bundle(lab: InstallLab, ...args: string[]): Promise<Outcome> {
  const { code, stdout, stderr } = await runProcess([...culvertCommand(), "bundle", ...args], {
    cwd: lab.path,
    env: { HOME: lab.home, PATH: `${process.env["PATH"]}`, CULVERT_UPDATE_KEY: encodeMinisignPublicKey(lab.key) },
    deadlineMs: 60_000,
  });
  return { code, out: stdout, err: stderr };
}

function list(archive: string): string[] {
  const { stdout } = spawnSync("tar", ["-tzf", archive], { encoding: "utf8" });
  return stdout.trim().split("\n");
}

/** The script as it comes in the bundle. */
function scriptOf(archive: string): string {
  return spawnSync("tar", ["-xzOf", archive, "culvert-bundle/install.sh"], { encoding: "utf8" }).stdout;
}

describe("culvert bundle", () => {
  test("packs what a folder or a server has, signed, and twice the same bytes", async () => {
    using lab = new InstallLab();
    lab.publish("1.0.0");
    await using server = await startReleaseServer(lab.releases);
    const first = await bundle(lab, "--from", lab.releases);
    expect(first).toMatchObject({ code: 0, out: expect.stringContaining("culvert 1.0.0 for ") });
    const archive = join(lab.path, "culvert-1.0.0-bundle.tar.gz");
    expect(list(archive)).toEqual(
      [
        "SHA256SUMS",
        "SHA256SUMS.minisig",
        "install.sh",
        "install.ps1",
        "config.example.yml",
        `culvert-1.0.0-${thisTarget().name}`,
      ].map((name) => `culvert-bundle/${name}`),
    );
    expect(await bundle(lab, "--from", `${server.url}/dl`, "--output", "other.tar.gz")).toMatchObject({ code: 0 });
    expect(readFileSync(join(lab.path, "other.tar.gz")).equals(readFileSync(archive))).toBe(true);
    expect(readdirSync(lab.path).filter((name) => name.startsWith("."))).toEqual([]);
    expect(scriptOf(archive)).toContain(`DEFAULT_KEYS='${encodeMinisignPublicKey(lab.key)}'`);
  });

  test("packs what a server with an authority of its own has, when that is given", async () => {
    using lab = new InstallLab();
    lab.publish("1.0.0");
    const { cert, key } = await makeTestCertificate(["localhost"]);
    const server = createServer({ cert, key }, ({ url }, response) => {
      const path = join(lab.releases, basename(`${url}`));
      if (!existsSync(path)) response.statusCode = 404;
      response.end(existsSync(path) ? readFileSync(path) : "");
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    try {
      const from = `https://localhost:${(server.address() as AddressInfo).port}/dl`;
      writeFileSync(join(lab.path, "ca.pem"), cert);
      expect(await bundle(lab, "--from", from)).toMatchObject({ code: 1, err: expect.stringContaining("Cannot get") });
      expect(await bundle(lab, "--from", from, "--cacert", "none.pem")).toMatchObject({
        code: 255,
        err: expect.stringContaining('Cannot read CA file "none.pem"'),
      });
      expect(await bundle(lab, "--from", from, "--cacert", "ca.pem")).toMatchObject({ code: 0 });
      expect(existsSync(join(lab.path, "culvert-1.0.0-bundle.tar.gz"))).toBe(true);
    } finally {
      server.close();
    }
  });

  test("refuses what is not signed by a key it trusts, lacks a target, or was changed; and leaves nothing", async () => {
    using lab = new InstallLab();
    const name = lab.publish("1.0.0", { key: makeMinisignKey().key });
    const before = readdirSync(lab.path).sort();
    const refused = async (want: string, ...args: string[]): Promise<void> => {
      const { code, err } = await bundle(lab, "--from", lab.releases, ...args);
      expect({ code, err }).toEqual({ code: 1, err: expect.stringContaining(want) });
      expect(readdirSync(lab.path).sort()).toEqual(before);
    };
    await refused("signed with a key that is not trusted");
    lab.publish("1.0.0");
    await refused(
      `Version 1.0.0 has no binary for "linux-mips", only for ${thisTarget().name}`,
      "--target",
      "linux-mips",
    );
    await refused("culvert-9.0.0.json", "--version", "9.0.0");
    appendFileSync(join(lab.releases, name), "more");
    await refused(`"${name}" is larger than the manifest says`);
  });

  test("the example configuration is valid", async () => {
    using lab = new InstallLab();
    const path = join(lab.path, "config.example.yml");
    writeFileSync(path, EXAMPLE_CONFIG);
    const argv = [...culvertCommand(), "tunnel", "--config", path, "ingress", "validate"];
    const { code, stdout, stderr } = await runProcess(argv, { env: { HOME: lab.home } });
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toContain("OK");
  });
});

describe.each(SHELLS.map((shell) => ({ name: shell.name, shell })))("install.sh --offline in $name", ({ shell }) => {
  const options = { shell, ...(CAN_UNSHARE ? { wrap: NO_NETWORK } : {}) };

  test("installs and upgrades from the archive, without a network", async () => {
    using lab = new InstallLab();
    for (const version of ["1.0.0", "1.1.0"]) {
      lab.publish(version, { sizeBytes: 3_000_000 });
      await bundle(lab, "--from", lab.releases, "--output", "bundle.tar.gz");
      const archive = join(lab.path, "bundle.tar.gz");
      const installed = await lab.install(["--offline", archive], { ...options, script: scriptOf(archive) });
      expect(installed).toMatchObject({ code: 0, err: "" });
      expect(readFileSync(join(lab.dir, "culvert"), "utf8")).toStartWith(programOf(version));
    }
    expect(readFileSync(join(lab.dir, "culvert.previous"), "utf8")).toStartWith(programOf("1.0.0"));
    const wrong = await lab.install(["--offline", "bundle.tar.gz", "--version", "1.0.0"], options);
    expect(wrong).toMatchObject({ code: 1, err: expect.stringContaining("is of version 1.1.0, not 1.0.0") });
  });

  test("installs from the folder it was unpacked to; refuses one that was tampered with, and what is no bundle", async () => {
    using lab = new InstallLab();
    const name = lab.publish("1.0.0");
    await bundle(lab, "--from", lab.releases, "--output", "bundle.tar.gz");
    expect(spawnSync("tar", ["-xzf", "bundle.tar.gz"], { cwd: lab.path }).status).toBe(0);
    const folder = join(lab.path, "culvert-bundle");
    const tampered = join(lab.path, "tampered");
    cpSync(folder, tampered, { recursive: true });
    appendFileSync(join(tampered, name), "more");
    const refused = async (from: string, want: string): Promise<void> => {
      const { code, err } = await lab.install(["--offline", from], options);
      expect({ code, err }).toEqual({ code: 1, err: expect.stringContaining(want) });
      expect(existsSync(join(lab.dir, "culvert"))).toBe(false);
    };
    await refused(tampered, "has the wrong checksum");
    appendFileSync(join(tampered, "SHA256SUMS"), "\n");
    await refused(tampered, "does not fit its signature");
    await refused(join(lab.path, "nowhere"), "there is no bundle");
    await refused(lab.releases.replace("releases", "home"), "is no bundle of culvert's");
    writeFileSync(join(lab.path, "cut.tar.gz"), readFileSync(join(lab.path, "bundle.tar.gz")).subarray(0, 200));
    await refused(join(lab.path, "cut.tar.gz"), "is no bundle of culvert's");
    expect(await lab.install(["--offline", "culvert-bundle"], options)).toMatchObject({ code: 0, err: "" });
  });
});

describe("with real binaries", () => {
  const key = makeMinisignKey().key;
  let lab: InstallLab;
  const binaries = new Map<string, string>();

  beforeAll(() => {
    lab = new InstallLab();
    for (const version of ["0.9.1", "0.9.2"]) binaries.set(version, buildVersion(version, lab.path, key));
  }, 120_000);
  afterAll(() => lab[Symbol.dispose]());

  test.skipIf(!CAN_UNSHARE)(
    "one machine bundles its own program, another without a network installs it and goes back",
    async () => {
      const at = join(lab.path, "bin");
      mkdirSync(at);
      const bare = { HOME: lab.home, PATH: `${process.env["PATH"]}` };
      const run = async (argv: readonly string[]): Promise<Outcome> => {
        const { code, stdout, stderr } = await runProcess(argv, { env: bare, cwd: lab.path, deadlineMs: 60_000 });
        return { code, out: stdout, err: stderr };
      };
      // Of the running program alone nobody has a signature.
      const own = await run([binaries.get("0.9.1") ?? "", "bundle"]);
      expect(own).toMatchObject({ code: 0, err: expect.stringContaining("--insecure-no-signature") });
      const archive = join(lab.path, "culvert-0.9.1-bundle.tar.gz");
      const script = scriptOf(archive);
      const options = { script, wrap: NO_NETWORK };
      const unsigned = await lab.install(["--offline", archive], options);
      expect(unsigned).toMatchObject({ code: 1, err: expect.stringContaining("nobody has signed this bundle") });
      const first = await lab.install(["--offline", archive, "--insecure-no-signature"], options);
      expect({ code: first.code, out: first.out }).toEqual({
        ...{ code: 0, out: expect.stringContaining("culvert version 0.9.1 (built 2026-01-01T00:00:00Z)") },
      });

      publishVersion(lab.releases, "0.9.2", binaries.get("0.9.2") ?? "", key);
      const made = await run([binaries.get("0.9.1") ?? "", "bundle", "--from", lab.releases, "-o", "next.tar.gz"]);
      expect(made.code).toBe(0);
      const next = join(lab.path, "next.tar.gz");
      const upgraded = await lab.install(["--offline", next], { script: scriptOf(next), wrap: NO_NETWORK });
      expect(upgraded).toMatchObject({ code: 0, err: "", out: expect.stringContaining("culvert version 0.9.2") });

      const target = join(lab.dir, "culvert");
      expect((await run([target, "update", "--rollback"])).code).toBe(11);
      expect((await run([target, "version", "--short"])).out).toBe("0.9.1\n");
      expect((await run([target, "update", "--from", lab.releases])).code).toBe(11);
      expect((await run([target, "version", "--short"])).out).toBe("0.9.2\n");
      expect(readdirSync(lab.dir).sort()).toEqual(["culvert", "culvert.previous"]);
      expect(await lab.install(["--uninstall"], { wrap: NO_NETWORK })).toMatchObject({ code: 0, err: "" });
      expect(readdirSync(lab.dir)).toEqual([]);
    },
    120_000,
  );
});
