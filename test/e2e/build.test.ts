import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { cpSync, existsSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { compile, measureStart } from "../../scripts/release/compile.ts";
import { checkPageHashes } from "../../scripts/release/mach-o.ts";
import { binaryName, nativeTarget, TARGETS } from "../../scripts/release/targets.ts";
import { minisignDigest, verifyMinisign } from "../../src/update/signature.ts";
import { makeMinisignKey } from "../support/minisign-key.ts";
import { hasMusl, makeMuslLibraries } from "../support/musl.ts";
import { startProcess } from "../support/processes.ts";
import { makeTempDir } from "../support/temp-dir.ts";

const ROOT = join(import.meta.dirname, "..", "..");
const { version: VERSION }: { version: string } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
/** Eight runtimes of about 50 MB come from the npm registry the first time. */
const BUILD_DEADLINE_MS = 540_000;
const START_LIMIT_MS = 30;
const ARM64_ROOT = "/usr/aarch64-linux-gnu";

const has = (command: string): boolean => spawnSync("which", [command]).status === 0;

describe("scripts/build --all", () => {
  const { key, publicFile, secretFile } = makeMinisignKey();
  const dir = makeTempDir();
  const out = join(dir.path, "out");
  const at = (target: string): string => join(out, binaryName(VERSION, target));
  const names = TARGETS.flatMap(({ name, twins }) => [name, ...twins]);
  let said = "";

  beforeAll(async () => {
    writeFileSync(join(dir.path, "key"), secretFile);
    writeFileSync(join(dir.path, "key.pub"), publicFile);
    const argv = [join(ROOT, "scripts", "build"), "--all", "--sign", join(dir.path, "key"), "--out", out];
    await using build = startProcess(argv);
    const code = await build.exitCode(BUILD_DEADLINE_MS);
    said = build.stdout + build.stderr;
    if (code !== 0) throw new Error(`the build failed:\n${said}`);
  }, BUILD_DEADLINE_MS);
  afterAll(() => dir[Symbol.dispose]());

  test("makes every target and says how large it is", () => {
    for (const target of names) expect(statSync(at(target)).mode & 0o111).not.toBe(0);
    for (const { name } of TARGETS) expect(said).toContain(`${binaryName(VERSION, name)}: `);
  });

  test("leaves no working file behind", () => {
    expect(readdirSync(out).filter((name) => name.startsWith("."))).toEqual([]);
  });

  test("SHA256SUMS covers every binary and passes sha256sum", () => {
    const checked = spawnSync("sha256sum", ["--check", "--strict", "SHA256SUMS"], { cwd: out, encoding: "utf8" });
    expect({ status: checked.status, err: checked.stderr }).toEqual({ status: 0, err: "" });
    for (const target of names) expect(checked.stdout).toContain(`${binaryName(VERSION, target)}: OK`);
  });

  test("signs each binary for its own version and target, and the manifest", () => {
    const signed = [...names.map((target) => [binaryName(VERSION, target), target] as const)];
    const all = [...signed, ["manifest.json", "manifest"], [`culvert-${VERSION}.json`, "manifest"]] as const;
    for (const [name, what] of [...all, ["SHA256SUMS", "sums"] as const]) {
      const signature = readFileSync(join(out, `${name}.minisig`), "utf8");
      const digest = minisignDigest(readFileSync(join(out, name)));
      expect(verifyMinisign([key], signature, digest)).toEqual({ ok: true, value: `culvert ${VERSION} ${what}` });
    }
  });

  test.skipIf(!has("minisign"))("minisign itself accepts the signatures, and refuses a changed file", () => {
    for (const name of ["SHA256SUMS", "manifest.json", binaryName(VERSION, "linux-arm64")]) {
      const args = ["-V", "-H", "-Q", "-p", join(dir.path, "key.pub"), "-m", join(out, name)];
      const { status, stdout } = spawnSync("minisign", args, { encoding: "utf8" });
      expect({ name, status, said: stdout.startsWith(`culvert ${VERSION} `) }).toEqual({ name, status: 0, said: true });
    }
    const changed = join(dir.path, "changed");
    writeFileSync(changed, `${readFileSync(join(out, "SHA256SUMS"), "utf8")}\n`);
    const args = ["-V", "-p", join(dir.path, "key.pub"), "-m", changed, "-x", join(out, "SHA256SUMS.minisig")];
    expect(spawnSync("minisign", args).status).not.toBe(0);
  });

  test("takes secret keys as minisign makes them, and only without a password", () => {
    if (!has("minisign")) return;
    using temp = makeTempDir();
    const [pub, sec] = [join(temp.path, "k.pub"), join(temp.path, "k")];
    expect(spawnSync("minisign", ["-G", "-W", "-p", pub, "-s", sec]).status).toBe(0);
    const run = spawnSync(join(ROOT, "scripts", "build"), ["--sign", sec, "--out", temp.path], { encoding: "utf8" });
    expect({ status: run.status, err: run.stderr }).toEqual({ status: 0, err: "" });
    const args = ["-V", "-Q", "-p", pub, "-m", join(temp.path, "manifest.json")];
    expect(spawnSync("minisign", args, { encoding: "utf8" }).stdout.trim()).toBe(`culvert ${VERSION} manifest`);
  });

  test("names what is inside: the runtime, the packages, and licences for all of them", () => {
    const licenses = readFileSync(join(out, `culvert-${VERSION}-licenses.txt`), "utf8");
    for (const target of TARGETS) {
      const sbom = JSON.parse(readFileSync(join(out, `culvert-${VERSION}-${target.name}.cdx.json`), "utf8"));
      expect(sbom).toMatchObject({ bomFormat: "CycloneDX", specVersion: "1.5" });
      const purls: string[] = sbom.components.map((component: { purl: string }) => component.purl);
      expect(purls[0]).toStartWith(`pkg:npm/${target.runtime.replace("@", "%40")}@`);
      expect(purls.some((purl) => purl.includes("quic-linux-x64"))).toBe(target.quiche);
      for (const purl of purls.slice(1)) {
        const [, name, version] = /^pkg:npm\/(.+)@([^@]+)$/.exec(purl) ?? [];
        expect(licenses).toContain(`\n${name?.replace("%40", "@")} ${version}: `);
      }
      const sum = createHash("sha256")
        .update(readFileSync(at(target.name)))
        .digest("hex");
      expect(sbom.metadata.component.hashes).toEqual([{ alg: "SHA-256", content: sum }]);
    }
    const printed = spawnSync(at(nativeTarget()?.name ?? ""), ["version", "--licenses"], { encoding: "utf8" });
    expect(printed.stdout).toBe(licenses);
  });

  test("starts in under 30 ms", () => {
    // The best of many: what it costs, without what else this machine does.
    const { bestMs, medianMs } = measureStart(at(nativeTarget()?.name ?? ""), 41);
    console.log(`--version: best ${bestMs.toFixed(1)} ms, median ${medianMs.toFixed(1)} ms`);
    expect(bestMs).toBeLessThan(START_LIMIT_MS);
  });

  test("macOS: every page is what the signature says, and a changed one is not", () => {
    for (const name of ["darwin-x64", "darwin-arm64"]) {
      const file = readFileSync(at(name));
      const { pages, wrong } = checkPageHashes(file);
      expect(pages).toBeGreaterThan(20_000);
      expect(wrong).toBe(0);
      file.writeUInt8(file.readUInt8(5_000_000) ^ 1, 5_000_000);
      expect(checkPageHashes(file).wrong).toBe(1);
    }
  });

  test("Windows: the properties of the file are ours", () => {
    const text = (words: string): Buffer => Buffer.from(words, "utf16le");
    // A value begins on a multiple of four bytes.
    const pair = (key: string, value: string): Buffer =>
      text(`${key}${key.length % 2 === 1 ? "\0\0" : "\0"}${value}\0`);
    for (const name of ["windows-x64", "windows-arm64"]) {
      const file = readFileSync(at(name));
      for (const [key, value] of [
        ["ProductName", "Culvert"],
        ["FileVersion", VERSION],
        ["OriginalFilename", "culvert.exe"],
      ] as const) {
        expect(file.includes(pair(key, value))).toBe(true);
      }
      expect(file.includes(pair("OriginalFilename", "bun.exe"))).toBe(false);
    }
  });

  test.skipIf(!has("qemu-aarch64-static") || !existsSync(ARM64_ROOT))("linux-arm64 runs, emulated", () => {
    const env = { QEMU_LD_PREFIX: ARM64_ROOT };
    const run = spawnSync("qemu-aarch64-static", [at("linux-arm64"), "--version"], { encoding: "utf8", env });
    expect(run.stdout).toStartWith(`culvert version ${VERSION} `);
  });

  test.skipIf(!has("qemu-x86_64-static"))("linux-x64-baseline runs on a processor without AVX", () => {
    const argv = ["-cpu", "Westmere", at("linux-x64-baseline"), "--version"];
    const run = spawnSync("qemu-x86_64-static", argv, { encoding: "utf8", env: {} });
    expect(run.stdout).toStartWith(`culvert version ${VERSION} `);
  });

  test.skipIf(!hasMusl())("linux-x64-musl runs on musl and answers a request through a tunnel", async () => {
    using libraries = makeTempDir();
    const env = makeMuslLibraries(libraries.path);
    await using up = startProcess([at("linux-x64-musl"), "up", "--hello-world", "--check"], { env });
    await up.errorLine(/answered 200/);
  });
});

describe("two builds of one source", () => {
  test("are the same bytes, from another folder too", () => {
    const native = nativeTarget();
    if (native === undefined) throw new Error("no target for this machine");
    using dir = makeTempDir();
    cpSync(join(ROOT, "src"), join(dir.path, "src"), { recursive: true });
    for (const name of ["package.json", "tsconfig.json", "install.sh"]) cpSync(join(ROOT, name), join(dir.path, name));
    symlinkSync(join(ROOT, "node_modules"), join(dir.path, "node_modules"));
    const options = { version: VERSION, date: "2026-01-01T00:00:00Z", updateKeys: [] };
    const sums = [ROOT, dir.path].map((root) => {
      const { path, folder } = compile(native, { ...options, root });
      const sum = createHash("sha256").update(readFileSync(path)).digest("hex");
      rmSync(folder, { recursive: true });
      return sum;
    });
    expect(sums[1]).toBe(sums[0] as string);
  }, 60_000);
});

describe("what cannot be had", () => {
  /** An npm registry with one package, whose archive is the given bytes. */
  async function startRegistry(archive: Buffer): Promise<{ readonly url: string; readonly server: Server }> {
    const server = createServer((request, response) => {
      if (request.url?.endsWith(".tgz") === true) return response.end(archive);
      const integrity = `sha512-${createHash("sha512").update(archive).digest("base64")}`;
      const dist = { tarball: `${url}/thing-1.0.0.tgz`, integrity };
      const versions = { "1.0.0": { name: "culvert-test-thing", version: "1.0.0", dist } };
      return response.end(JSON.stringify({ name: "culvert-test-thing", "dist-tags": { latest: "1.0.0" }, versions }));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    return { url, server };
  }

  async function fetchFrom(registry: string, cache: string): Promise<string> {
    const wanted = { name: "culvert-test-thing", version: "1.0.0", integrity: "sha512-AAAA", dev: true };
    const script = `
      import { fetchPackage } from ${JSON.stringify(join(ROOT, "scripts", "release", "npm-packages.ts"))};
      try { console.log("got", fetchPackage(${JSON.stringify(wanted)})); } catch (error) { console.log(error.message); }`;
    await using run = startProcess([process.execPath, "-e", script], {
      env: {
        ...(process.env as Record<string, string>),
        ...{ npm_config_registry: registry, npm_config_cache: cache, npm_config_fetch_retries: "0" },
      },
    });
    await run.exitCode(60_000);
    return run.stdout;
  }

  test("an archive that package-lock.json does not pin is refused", async () => {
    using dir = makeTempDir();
    const { url, server } = await startRegistry(Buffer.from("another archive"));
    try {
      expect(await fetchFrom(url, dir.path)).toBe(
        "Cannot fetch culvert-test-thing@1.0.0 from npm: the archive is not the one that package-lock.json pins\n",
      );
    } finally {
      server.close();
    }
  }, 60_000);

  test("without the registry the reason is named", async () => {
    using dir = makeTempDir();
    const { url, server } = await startRegistry(Buffer.alloc(0));
    server.close();
    expect(await fetchFrom(`${url}/`, dir.path)).toMatch(/^Cannot fetch culvert-test-thing@1\.0\.0 from npm: \S.+\n$/);
  }, 60_000);

  test("a target that does not exist is refused with a list", () => {
    const run = spawnSync(join(ROOT, "scripts", "build"), ["--target", "plan9-mips"], { encoding: "utf8" });
    expect(run.status).toBe(1);
    expect(run.stderr).toContain(`There is no target "plan9-mips"`);
    expect(run.stderr).toContain("linux-arm64-musl");
  });
});
