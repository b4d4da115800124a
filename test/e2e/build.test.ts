import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { compile, measureStart } from "../../scripts/release/compile.ts";
import { checkPageHashes } from "../../scripts/release/mach-o.ts";
import { binaryName, nativeTarget, TARGETS, type Target } from "../../scripts/release/targets.ts";
import { renderPlist } from "../../src/service/launchd.ts";
import { minisignDigest, verifyMinisign } from "../../src/update/signature.ts";
import { addTunnel, cleanEnvironment, HOST, served, startEdgeProcess } from "../support/lab.ts";
import { makeMinisignKey } from "../support/minisign-key.ts";
import { hasMusl, makeMuslLibraries, makeMuslRoot } from "../support/musl.ts";
import { startOrigin } from "../support/origins.ts";
import { startProcess } from "../support/processes.ts";
import { describeRelease, missingCommand } from "../support/release-tests.ts";
import { makeTempDir } from "../support/temp-dir.ts";

const ROOT = join(import.meta.dirname, "..", "..");
const { version: VERSION }: { version: string } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
/** Eight runtimes of about 50 MB come from the npm registry the first time. */
const BUILD_DEADLINE_MS = 540_000;
const START_LIMIT_MS = 30;
const ARM64_ROOT = "/usr/aarch64-linux-gnu";

function sumOf(path: string): string {
  return createHash("sha256").update(readFileSync(path)).digest("hex");
}

const has = (command: string): boolean => spawnSync("which", [command]).status === 0;

describeRelease("scripts/build --all", undefined, () => {
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

  test(
    "makes the same bytes of everything once more: binaries, SBOMs, sums, manifest, signatures",
    async () => {
      const again = join(dir.path, "again");
      const argv = [join(ROOT, "scripts", "build"), "--all", "--sign", join(dir.path, "key"), "--out", again];
      await using build = startProcess(argv);
      expect(await build.exitCode(BUILD_DEADLINE_MS)).toBe(0);
      const sums = (folder: string): readonly string[] =>
        readdirSync(folder)
          .sort()
          .map((name) => `${name} ${sumOf(join(folder, name))}`);
      expect(sums(again)).toEqual(sums(out));
      rmSync(again, { recursive: true });
    },
    BUILD_DEADLINE_MS,
  );

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
      expect(sbomProblems(sbom)).toEqual([]);
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

  test("macOS: a program for this processor, and every page is what the signature says", () => {
    for (const [name, processor] of [
      ["darwin-x64", 0x01000007],
      ["darwin-arm64", 0x0100000c],
    ] as const) {
      const file = readFileSync(at(name));
      expect(readMachO(file)).toMatchObject({ processor, kind: MACH_EXECUTE, platform: MACH_MACOS, signedToEnd: true });
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

  test.skipIf(!has("qemu-aarch64-static") || !existsSync(ARM64_ROOT))(
    "linux-arm64, emulated, serves a request through a tunnel of an edge on this machine",
    async () => {
      await using origin = await startOrigin();
      using state = makeTempDir();
      const edge = await startEdgeProcess(join(state.path, "state"));
      await using _edge = edge.process;
      const token = await addTunnel(join(state.path, "state"), "lab", [HOST]);
      const url = `http://127.0.0.1:${origin.port}`;
      const words = ["tunnel", "--metrics", "127.0.0.1:0", "run", "--token", token, "--url", url];
      const env = { ...cleanEnvironment(), QEMU_LD_PREFIX: ARM64_ROOT };
      await using connector = startProcess(["qemu-aarch64-static", at("linux-arm64"), ...words], { env });
      await connector.errorLine(/Version \S+ \(linux_arm64\)/, 30_000);
      await connector.errorLine(/Registered tunnel connection/, 30_000);
      await served(edge.publicPort, 30_000);
    },
    90_000,
  );

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

  test.skipIf(!hasMusl() || process.getuid?.() !== 0)("linux-x64-musl runs in a root without glibc", async () => {
    using root = makeTempDir();
    makeMuslRoot(root.path);
    copyFileSync(at("linux-x64-musl"), join(root.path, "culvert"));
    const argv = ["chroot", "--userspec=65534:65534", root.path, "/culvert", "up", "--hello-world", "--check"];
    await using up = startProcess(argv, { env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" } });
    await up.errorLine(/answered 200/);
  });
});

/** What of CycloneDX 1.5's schema an SBOM breaks, as far as it uses it (https://cyclonedx.org/schema/bom-1.5.schema.json). */
function sbomProblems(sbom: ReturnType<typeof JSON.parse>): readonly string[] {
  const problems: string[] = [];
  const want = (good: boolean, what: string): void => {
    if (!good) problems.push(what);
  };
  const known = "bomFormat specVersion serialNumber version metadata components dependencies".split(" ");
  for (const name of Object.keys(sbom)) want(known.includes(name), `unknown ${name}`);
  want(sbom.bomFormat === "CycloneDX" && sbom.specVersion === "1.5", "bomFormat, specVersion");
  want(/^urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(sbom.serialNumber), "serialNumber");
  want(Number.isInteger(sbom.version) && sbom.version >= 1, "version");
  want(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/.test(sbom.metadata.timestamp), "timestamp");
  const refs = new Set<string>();
  for (const component of [sbom.metadata.component, ...sbom.components]) {
    const { type, name, "bom-ref": ref, hashes, licenses } = component;
    want(["application", "library", "platform"].includes(type), `type ${type}`);
    want(typeof name === "string" && name !== "", `name ${name}`);
    want(typeof ref === "string" && ref !== "" && !refs.has(ref), `bom-ref ${ref}`);
    refs.add(ref);
    for (const { alg, content } of hashes) {
      want(content.length === { "SHA-256": 64, "SHA-512": 128 }[alg as string] && /^[0-9a-f]+$/.test(content), ref);
    }
    for (const { license } of licenses) want(/^[A-Za-z0-9.-]+$/.test(license.id), `licence of ${ref}`);
  }
  for (const { ref, dependsOn } of sbom.dependencies) {
    for (const each of [ref, ...dependsOn]) want(refs.has(each), `dependency ${each}`);
  }
  return problems;
}

const MACH_EXECUTE = 2;
const MACH_MACOS = 1;

/** Head and two commands of a thin 64-bit Mach-O file (mach-o/loader.h). */
function readMachO(file: Buffer) {
  let platform = 0;
  let signedToEnd = false;
  for (let i = 0, at = 32; i < file.readUInt32LE(16); i++, at += file.readUInt32LE(at + 4)) {
    const command = file.readUInt32LE(at);
    // LC_BUILD_VERSION, LC_CODE_SIGNATURE.
    if (command === 0x32) platform = file.readUInt32LE(at + 8);
    if (command === 0x1d) signedToEnd = file.readUInt32LE(at + 8) + file.readUInt32LE(at + 12) === file.length;
  }
  return {
    magic: file.readUInt32LE(0),
    processor: file.readUInt32LE(4),
    kind: file.readUInt32LE(12),
    platform,
    signedToEnd,
  };
}

describe("macOS property lists", () => {
  const system = { kind: "system" } as const;
  const user = { kind: "user", home: "/Users/a & b" } as const;
  const common = { program: ["/usr/local/bin/culvert"], name: undefined, user: undefined };
  const lists = [
    renderPlist({ ...common, role: "connector", scope: system }),
    renderPlist({ ...common, role: "connector", scope: user, name: "web", program: ["/opt/<culvert>"] }),
    renderPlist({ ...common, role: "edge", scope: system }),
  ];
  const python =
    "import plistlib,sys; p=plistlib.load(open(sys.argv[1],'rb')); assert p['Label'] and p['ProgramArguments']";

  // Apple's plutil runs on macOS only; the others read the same format.
  for (const [command, ...args] of [
    ["plutil", "-lint", "LIST"],
    // It ends with 0 also when it failed, and then there is no result.
    ["plistutil", "-i", "LIST", "-o", "OUT", "-f", "bin"],
    ["python3", "-c", python, "LIST"],
  ] as const) {
    const missing = missingCommand(command);
    test.skipIf(missing !== undefined)(`pass ${command}${missing === undefined ? "" : ` (${missing})`}`, () => {
      using dir = makeTempDir();
      const path = join(dir.path, "list.plist");
      const check = (text: string) => {
        writeFileSync(path, text);
        const words = args.map((word) => ({ LIST: path, OUT: join(dir.path, "out") })[word as "LIST"] ?? word);
        const { status, stderr } = spawnSync(command, words, { encoding: "utf8" });
        const lost = (args as readonly string[]).includes("OUT") && !existsSync(join(dir.path, "out"));
        rmSync(join(dir.path, "out"), { force: true });
        return { status: lost ? 1 : status, stderr };
      };
      for (const text of lists) {
        expect(check(text)).toEqual({ status: 0, stderr: "" });
        expect(check(text.slice(0, text.length / 2))).not.toEqual({ status: 0, stderr: "" });
      }
    });
  }
});

describe("what does not run is not built", () => {
  test.each([
    ["process.exit(3);", /does not start \(3\)/],
    [`console.log("culvert version 9.9.9 (built never)");`, /says "culvert version 9\.9\.9/],
    ["export const broken = ;", /bun build failed/],
  ])(
    "%s",
    (main, says) => {
      using dir = makeTempDir();
      mkdirSync(join(dir.path, "src"));
      writeFileSync(join(dir.path, "src", "main.ts"), main);
      const options = { version: VERSION, date: "2026-01-01T00:00:00Z", updateKeys: [], root: dir.path };
      const before = readdirSync(join(ROOT, "dist")).length;
      expect(() => compile(nativeTarget() ?? (TARGETS[0] as Target), options)).toThrow(says);
      expect(readdirSync(join(ROOT, "dist"))).toHaveLength(before);
    },
    60_000,
  );
});

describe("two builds of one source", () => {
  test("are the same bytes, from another folder too", () => {
    const native = nativeTarget();
    if (native === undefined) throw new Error("no target for this machine");
    using dir = makeTempDir();
    cpSync(join(ROOT, "src"), join(dir.path, "src"), { recursive: true });
    for (const name of ["package.json", "tsconfig.json", "install.sh", "install.ps1"])
      cpSync(join(ROOT, name), join(dir.path, name));
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

  test("a target that cannot be built leaves what is published as it was", async () => {
    using dir = makeTempDir();
    const { url, server } = await startRegistry(Buffer.alloc(0));
    server.close();
    // A checkout that has not fetched any runtime yet.
    const root = join(dir.path, "root");
    for (const name of [
      "src",
      "scripts",
      "package.json",
      "package-lock.json",
      "tsconfig.json",
      "install.sh",
      "install.ps1",
    ])
      cpSync(join(ROOT, name), join(root, name), { recursive: true });
    mkdirSync(join(root, "node_modules"));
    for (const name of readdirSync(join(ROOT, "node_modules"))) {
      if (name !== ".cache") symlinkSync(join(ROOT, "node_modules", name), join(root, "node_modules", name));
    }
    const out = join(dir.path, "out");
    mkdirSync(out);
    writeFileSync(join(out, "manifest.json"), JSON.stringify({ format: 1, version: "0.0.1", date: "", files: [] }));
    const targets = [nativeTarget()?.name ?? "", "linux-arm64-musl"].flatMap((name) => ["--target", name]);
    const argv = [process.execPath, join(root, "scripts", "release", "build.ts"), ...targets, "--out", out];
    await using build = startProcess(argv, {
      env: {
        ...(process.env as Record<string, string>),
        ...{ npm_config_registry: url, npm_config_cache: join(dir.path, "npm"), npm_config_fetch_retries: "0" },
        SOURCE_DATE_EPOCH: "1767225600",
      },
    });
    expect(await build.exitCode(120_000)).toBe(1);
    expect(build.stderr).toContain("error: linux-arm64-musl was not built: Cannot fetch ");
    expect(build.stderr).toContain("nothing is published");
    expect(readdirSync(out)).toEqual(["manifest.json"]);
  }, 120_000);

  test("a plain build beside a release of more targets renews the program and nothing else", () => {
    using dir = makeTempDir();
    const native = nativeTarget()?.name ?? "";
    const files = [native, "plan9-mips"].map((target) => ({
      ...{ target, name: binaryName(VERSION, target), sizeBytes: 1, sha256: "0".repeat(64) },
    }));
    const manifest = JSON.stringify({ format: 1, version: VERSION, date: "2026-01-01T00:00:00Z", files });
    for (const name of ["manifest.json", `culvert-${VERSION}.json`]) writeFileSync(join(dir.path, name), manifest);
    for (const name of ["culvert", binaryName(VERSION, native)]) writeFileSync(join(dir.path, name), "before");
    const before = readdirSync(dir.path).sort();
    const build = (...args: string[]) =>
      spawnSync(join(ROOT, "scripts", "build"), ["--out", dir.path, ...args], { encoding: "utf8" });
    expect(build("--target", native)).toMatchObject({ status: 1, stderr: expect.stringContaining("plan9-mips too") });
    const { status, stdout, stderr } = build();
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(stdout).toContain(`Only ${join(dir.path, "culvert")} is new`);
    expect(readdirSync(dir.path).sort()).toEqual(before);
    expect(readFileSync(join(dir.path, "manifest.json"), "utf8")).toBe(manifest);
    expect(readFileSync(join(dir.path, binaryName(VERSION, native)), "utf8")).toBe("before");
    const { stdout: said } = spawnSync(join(dir.path, "culvert"), ["version", "--short"], { encoding: "utf8" });
    expect(said.trim()).toBe(VERSION);
  }, 120_000);

  test("a target that does not exist is refused with a list", () => {
    const run = spawnSync(join(ROOT, "scripts", "build"), ["--target", "plan9-mips"], { encoding: "utf8" });
    expect(run.status).toBe(1);
    expect(run.stderr).toContain(`There is no target "plan9-mips"`);
    expect(run.stderr).toContain("linux-arm64-musl");
  });
});
