import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { binaryName } from "../../scripts/release/targets.ts";
import { minisignDigest, signMinisign } from "../../src/update/signature.ts";
import { makeMinisignKey } from "../support/minisign-key.ts";
import { pollUntil } from "../support/poll-until.ts";
import { type OwnedProcess, startProcess } from "../support/processes.ts";
import { startReleaseServer } from "../support/release-server.ts";
import { buildVersion, publishVersion, thisTarget } from "../support/releases.ts";
import { makeTempDir } from "../support/temp-dir.ts";

const OLD = "1.0.0";
const NEW = "1.1.0";
const DEADLINE_MS = 60_000;
const NOBODY = 65_534;
const isRoot = process.getuid?.() === 0;

const { key } = makeMinisignKey();
const stranger = makeMinisignKey();
const built = makeTempDir();
let oldBinary = "";
let newBinary = "";
/** A good release of NEW, signed with the key that both binaries trust. */
const good = join(built.path, "good");

beforeAll(() => {
  oldBinary = buildVersion(OLD, built.path, key);
  newBinary = buildVersion(NEW, built.path, key);
  publishVersion(good, NEW, newBinary, key);
}, DEADLINE_MS);
afterAll(() => built[Symbol.dispose]());

/** A folder with the old version installed as `culvert`. */
function install(binary = oldBinary) {
  const temp = makeTempDir();
  const bin = join(temp.path, "bin");
  mkdirSync(bin);
  const path = join(bin, "culvert");
  copyFileSync(binary, path);
  chmodSync(path, 0o755);
  return { path, bin, folder: temp.path, [Symbol.dispose]: () => temp[Symbol.dispose]() };
}

/** A copy of the good release that a test may spoil. */
function copyRelease(folder: string): string {
  const copy = join(folder, "release");
  mkdirSync(copy);
  for (const name of readdirSync(good)) copyFileSync(join(good, name), join(copy, name));
  return copy;
}

function begin(path: string, args: readonly string[], uid?: number): OwnedProcess {
  return startProcess([path, "update", ...args], uid === undefined ? {} : { uid });
}

async function run(path: string, ...args: string[]) {
  await using child = begin(path, args);
  const code = await child.exitCode(DEADLINE_MS);
  return { code, out: child.stdout, err: child.stderr };
}

function versionOf(path: string): string {
  return spawnSync(path, ["version", "--short"], { encoding: "utf8" }).stdout.trim();
}

function sumOf(path: string): string {
  return createHash("sha256").update(readFileSync(path)).digest("hex");
}

describe("an update", () => {
  test(
    "comes over HTTP, is tried, takes the place of the old one, and can be undone and done again",
    async () => {
      using at = install();
      await using server = await startReleaseServer(good);
      const { code, out, err } = await run(at.path, "--from", server.url);
      expect({ code, out, err: err.replace(/^Downloaded .*\n/gm, "") }).toEqual({
        code: 11,
        out: `${at.path} is now culvert ${NEW}, before ${OLD}: restart what runs it\n`,
        err: "",
      });
      expect(err).toMatch(/^Downloaded 100 % of 1\d\d\.\d MB$/m);
      expect(versionOf(at.path)).toBe(NEW);
      expect(sumOf(at.path)).toBe(sumOf(newBinary));
      expect(statSync(at.path).mode & 0o777).toBe(0o755);
      expect(readdirSync(at.bin).sort()).toEqual(["culvert", "culvert.previous"]);
      expect(server.requests).toEqual(["manifest.json", "manifest.json.minisig", binaryName(NEW, thisTarget().name)]);

      expect(await run(at.path, "--from", server.url)).toEqual({
        code: 0,
        out: `culvert ${NEW} is the newest version\n`,
        err: "",
      });
      for (const { version, memory } of [
        { version: OLD, memory: [".culvert.rejected"] },
        { version: NEW, memory: [] },
      ]) {
        expect((await run(at.path, "--rollback")).code).toBe(11);
        expect(versionOf(at.path)).toBe(version);
        expect(readdirSync(at.bin).sort()).toEqual([...memory, "culvert", "culvert.previous"]);
      }
    },
    DEADLINE_MS,
  );

  test(
    "leaves what runs alone: it goes on serving while its file is replaced",
    async () => {
      using at = install();
      await using up = startProcess([at.path, "up", "--hello-world"], { cwd: at.folder });
      const [, url = ""] = await up.outputLine(/(http:\S+)/);
      const port = new URL(url).port;
      const ask = async (): Promise<number> =>
        (await fetch(`http://127.0.0.1:${port}/`, { headers: { host: new URL(url).host } })).status;
      await pollUntil(async () => (await ask()) === 200, { what: "the tunnel answers" });
      expect((await run(at.path, "--from", good)).code).toBe(11);
      expect(await ask()).toBe(200);
      expect(versionOf(at.path)).toBe(NEW);
    },
    DEADLINE_MS,
  );

  test("with --check only says what there is", async () => {
    using at = install();
    const before = sumOf(at.path);
    expect(await run(at.path, "--check", "--from", good)).toEqual({
      code: 0,
      out: `culvert ${NEW} can replace ${OLD}\n`,
      err: "",
    });
    expect(sumOf(at.path)).toBe(before);
    expect(readdirSync(at.bin)).toEqual(["culvert"]);
  });

  test(
    "comes from an edge with an authority of its own, when that is given",
    async () => {
      using at = install();
      const state = join(at.folder, "state");
      await using edge = startProcess([
        ...[oldBinary, "edge", "run", "--state-dir", state, "--domain", "localhost", "--release-dir", good],
        ...["--tls-internal", "--https-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--quic=false"],
        ...["--tunnel-listen", "127.0.0.1:0", "--api-listen", "off"],
      ]);
      await edge.errorLine(/Edge is ready/);
      const from = `https://localhost:${/https=\S*:(\d+)/.exec(edge.stderr)?.[1]}/dl`;
      const ca = join(state, "ca.pem");
      expect(await run(at.path, "--from", from, "--check")).toMatchObject({
        code: 10,
        err: expect.stringContaining(`Cannot get "${from}/manifest.json"`),
      });
      writeFileSync(join(at.folder, "empty.pem"), "");
      for (const wrong of ["none.pem", "empty.pem"]) {
        const { code, err } = await run(at.path, "--from", from, "--cacert", join(at.folder, wrong));
        expect({ code, err }).toEqual({ code: 255, err: expect.stringMatching(/Cannot (read|use) CA file/) });
      }
      await using child = startProcess([at.path, "update", "--check"], {
        env: { CULVERT_UPDATE_FROM: from, CULVERT_CACERT: ca },
      });
      expect(await child.exitCode(DEADLINE_MS)).toBe(0);
      expect(child.stdout).toBe(`culvert ${NEW} can replace ${OLD}\n`);
      expect(await run(at.path, "--from", from, "--cacert", ca)).toMatchObject({ code: 11 });
      expect(versionOf(at.path)).toBe(NEW);
    },
    DEADLINE_MS,
  );

  test(
    "a version that somebody went back from is for people only",
    async () => {
      using at = install();
      expect((await run(at.path, "--from", good)).code).toBe(11);
      expect((await run(at.path, "--rollback")).code).toBe(11);
      const { code, out } = await run(at.path, "--check", "--from", good);
      expect({ code, lines: out.split("\n") }).toEqual({
        code: 0,
        lines: [
          `culvert ${NEW} can replace ${OLD}`,
          expect.stringMatching(
            /^It was rolled back by hand at 20\S+: no update takes it by itself, culvert update does$/,
          ),
          "",
        ],
      });
      expect((await run(at.path, "--from", good)).code).toBe(11);
      expect(versionOf(at.path)).toBe(NEW);
    },
    DEADLINE_MS,
  );

  test(
    "does not take a version again that was taken back, unless it is named",
    async () => {
      using at = install();
      const rejected = [{ version: NEW, at: "2026-01-02T03:04:05.678Z", reason: "culvert.service is not connected" }];
      writeFileSync(join(at.bin, ".culvert.rejected"), JSON.stringify({ rejected }));
      for (const check of [["--check"], []]) {
        const { code, out, err } = await run(at.path, "--from", good, ...check);
        expect({ code, err }).toEqual({ code: 0, err: "" });
        expect(out).toBe(
          `culvert ${NEW} was taken back here at 2026-01-02T03:04:05.678Z: culvert.service is not connected\nNo update takes it by itself; culvert update --version ${NEW} does\n`,
        );
        expect(versionOf(at.path)).toBe(OLD);
      }
      const named = await run(at.path, "--from", good, "--version", NEW, "--check");
      expect(named.out).toBe(`culvert ${NEW} can replace ${OLD}\n`);
      expect((await run(at.path, "--from", good, "--version", NEW)).code).toBe(11);
      expect(versionOf(at.path)).toBe(NEW);
      expect(readdirSync(at.bin).sort()).toEqual(["culvert", "culvert.previous"]);
    },
    DEADLINE_MS,
  );

  test(
    "comes from one signed file",
    async () => {
      using at = install();
      const file = join(good, binaryName(NEW, thisTarget().name));
      expect((await run(at.path, "--from", file)).code).toBe(11);
      expect(versionOf(at.path)).toBe(NEW);
    },
    DEADLINE_MS,
  );

  test(
    "takes a version that is named, and an older one only when asked to",
    async () => {
      using at = install(newBinary);
      const both = copyRelease(at.folder);
      publishVersion(both, OLD, oldBinary, key);
      // The newest manifest is now that of the old version: what an attacker with an old signed release has.
      for (const args of [[], ["--version", OLD]]) {
        const refused = await run(at.path, "--from", both, ...args);
        expect(refused.code).toBe(10);
        expect(refused.err).toContain(`Version ${OLD} is older than ${NEW}, which runs`);
        expect(versionOf(at.path)).toBe(NEW);
      }
      expect((await run(at.path, "--from", both, "--version", OLD, "--allow-downgrade")).code).toBe(11);
      expect(versionOf(at.path)).toBe(OLD);
      expect((await run(at.path, "--from", both, "--version", NEW)).code).toBe(11);
      expect(versionOf(at.path)).toBe(NEW);
      expect((await run(at.path, "--from", both, "--version", "7.7.7")).code).toBe(10);
    },
    DEADLINE_MS,
  );

  test(
    "signed with a key that is new is taken when the key is named",
    async () => {
      using at = install();
      const other = join(at.folder, "other");
      publishVersion(other, NEW, newBinary, stranger.key);
      const pub = join(at.folder, "stranger.pub");
      writeFileSync(pub, stranger.publicFile);
      expect((await run(at.path, "--from", other)).code).toBe(10);
      expect((await run(at.path, "--from", other, "--update-key", pub)).code).toBe(11);
      expect(versionOf(at.path)).toBe(NEW);
    },
    DEADLINE_MS,
  );

  test("is not for what a package manager has installed", async () => {
    using at = install();
    mkdirSync(join(at.folder, "lib", "culvert"), { recursive: true });
    writeFileSync(join(at.folder, "lib", "culvert", "package-manager"), "deb\n");
    const { code, err } = await run(at.path, "--from", good);
    expect(code).toBe(0);
    expect(err).toContain("A package manager (deb) has installed this culvert");
    expect(versionOf(at.path)).toBe(OLD);
  });

  test("asks no server unless one is named", async () => {
    using at = install();
    const { code, err } = await run(at.path);
    expect(code).toBe(255);
    expect(err).toContain("no server is asked unless you name it");
  });
});

describe("a bad update is refused, and the old version still runs", () => {
  interface Bad {
    readonly name: string;
    /** Spoils a copy of the good release; may give other arguments. */
    readonly spoil: (release: string) => readonly string[] | undefined;
    readonly says: RegExp;
  }
  const file = (release: string): string => join(release, binaryName(NEW, thisTarget().name));
  const manifest = (release: string): string => join(release, "manifest.json");
  const resign = (release: string, trusted: string, secret = key): void => {
    const signature = signMinisign(secret, minisignDigest(readFileSync(manifest(release))), { trusted, untrusted: "" });
    writeFileSync(`${manifest(release)}.minisig`, signature);
  };
  const edit = (release: string, change: (text: string) => string): void =>
    writeFileSync(manifest(release), change(readFileSync(manifest(release), "utf8")));
  const publishProgram = (release: string, program: string): undefined => {
    publishVersion(release, NEW, Buffer.from(program), key);
  };

  const BAD: readonly Bad[] = [
    {
      name: "a binary with one byte changed",
      spoil: (release) => {
        const content = readFileSync(file(release));
        content.writeUInt8(content.readUInt8(50_000_000) ^ 1, 50_000_000);
        writeFileSync(file(release), content);
        return undefined;
      },
      says: /has not the SHA-256 that the manifest says/,
    },
    {
      name: "a signed file with one byte changed",
      spoil: (release) => {
        const content = readFileSync(file(release));
        content.writeUInt8(content.readUInt8(50_000_000) ^ 1, 50_000_000);
        writeFileSync(file(release), content);
        return ["--from", file(release)];
      },
      says: /the signature does not fit/,
    },
    {
      name: "a file without a signature",
      spoil: (release) => {
        rmSync(`${file(release)}.minisig`);
        return ["--from", file(release)];
      },
      says: /Cannot read ".*\.minisig"/,
    },
    {
      name: "a file signed for another target",
      spoil: (release) => {
        const comments = { trusted: `culvert ${NEW} plan9-mips`, untrusted: "" };
        const signature = signMinisign(key, minisignDigest(readFileSync(file(release))), comments);
        writeFileSync(`${file(release)}.minisig`, signature);
        return ["--from", file(release)];
      },
      says: /is for plan9-mips/,
    },
    {
      name: "a manifest with another version",
      spoil: (release) => void edit(release, (text) => text.replace(NEW, "9.9.9")),
      says: /the signature does not fit/,
    },
    {
      name: "a manifest signed by a stranger",
      spoil: (release) => void resign(release, `culvert ${NEW} manifest`, stranger.key),
      says: /signed with a key that is not trusted/,
    },
    {
      name: "a manifest with the signature of something else",
      spoil: (release) => void copyFileSync(join(release, "SHA256SUMS.minisig"), `${manifest(release)}.minisig`),
      says: /the signature does not fit/,
    },
    {
      name: "something else that the key has signed, in place of the manifest",
      spoil: (release) => void resign(release, `culvert ${NEW} sums`),
      says: /is signed as something else/,
    },
    {
      name: "a manifest without a signature",
      spoil: (release) => void rmSync(`${manifest(release)}.minisig`),
      says: /manifest\.json\.minisig/,
    },
    {
      name: "a signed manifest that is none",
      spoil: (release) => {
        writeFileSync(manifest(release), "{}");
        resign(release, `culvert ${NEW} manifest`);
        return undefined;
      },
      says: /is no manifest: format/,
    },
    {
      name: "an endless manifest",
      spoil: (release) => void truncateSync(manifest(release), 10_000_000),
      says: /is larger than 262144 bytes/,
    },
    {
      name: "a release without a binary for this machine",
      spoil: (release) => void publishVersion(release, NEW, Buffer.from("x"), key, "plan9-mips"),
      says: /has no binary for/,
    },
    {
      name: "a binary shorter than the manifest says",
      spoil: (release) => void truncateSync(file(release), 1_000_000),
      says: /was cut short|answered 416/,
    },
    {
      name: "a binary longer than the manifest says",
      spoil: (release) => void truncateSync(file(release), statSync(file(release)).size + 1),
      says: /is larger than the manifest says/,
    },
    {
      name: "a binary that is no program",
      spoil: (release) => publishProgram(release, "\x7fELF and nothing more"),
      says: /does not run here/,
    },
    {
      name: "a binary that fails",
      spoil: (release) => publishProgram(release, "#!/bin/sh\nexit 3\n"),
      says: /does not run here: it ended with 3/,
    },
    {
      name: "a binary of another version than it is signed as",
      spoil: (release) => publishProgram(release, `#!/bin/sh\necho ${OLD}\n`),
      says: /says "1\.0\.0" instead of version 1\.1\.0/,
    },
  ];

  describe.each(["a folder", "a server"])("from %s", (kind) => {
    test.each(BAD.map((bad) => [bad.name, bad] as const))(
      "%s",
      async (_, { spoil, says }) => {
        using at = install();
        const before = sumOf(at.path);
        const release = copyRelease(at.folder);
        const given = spoil(release);
        await using server = await startReleaseServer(release);
        const args = given ?? ["--from", kind === "a folder" ? release : server.url];
        const { code, err } = await run(at.path, ...args);
        expect(err.replace(/^Downloaded .*\n/gm, "")).toMatch(
          kind === "a server" && given === undefined ? new RegExp(`${says.source}|answered 404`) : says,
        );
        expect(code).toBe(10);
        expect(sumOf(at.path)).toBe(before);
        expect(versionOf(at.path)).toBe(OLD);
        // What came of a binary that was cut stays for the next time; nothing else does.
        const left = readdirSync(at.bin).filter((name) => !/^\.culvert\.[0-9a-f]{16}\.new$/.test(name));
        expect(left).toEqual(["culvert"]);
        if (!says.source.includes("cut short")) expect(readdirSync(at.bin)).toEqual(["culvert"]);
      },
      DEADLINE_MS,
    );
  });

  test("no key at all", async () => {
    using at = install(process.env["CULVERT_BIN"] ?? oldBinary);
    const keyless = join(at.folder, "keyless");
    publishVersion(keyless, NEW, Buffer.from("x"), stranger.key);
    const { code, err } = await run(at.path, "--from", keyless, "--update-key", "RWnonsense");
    expect(code).toBe(255);
    expect(err).toContain("is not a minisign public key");
  });

  test("nothing to go back to", async () => {
    using at = install();
    const { code, err } = await run(at.path, "--rollback");
    expect(code).toBe(10);
    expect(err).toContain("There is no earlier version");
    expect(versionOf(at.path)).toBe(OLD);
  });

  test("an earlier version that does not run any more", async () => {
    using at = install();
    writeFileSync(join(at.bin, "culvert.previous"), "#!/bin/sh\nexit 1\n", { mode: 0o755 });
    const { code, err } = await run(at.path, "--rollback");
    expect(code).toBe(10);
    expect(err).toContain("does not run here");
    expect(versionOf(at.path)).toBe(OLD);
  });

  test.skipIf(!isRoot)("a folder that the user may not write to", async () => {
    using at = install();
    chmodSync(at.folder, 0o755);
    await using child = begin(at.path, ["--from", good], NOBODY);
    chmodSync(built.path, 0o755);
    expect(await child.exitCode(DEADLINE_MS)).toBe(10);
    expect(child.stderr).toContain("run it as the owner");
    expect(versionOf(at.path)).toBe(OLD);
  });
});

describe("a line that breaks", () => {
  test(
    "is taken up again where it broke, as often as it brings something",
    async () => {
      using at = install();
      await using server = await startReleaseServer(good, { cutAfterBytes: 30_000_000 });
      expect((await run(at.path, "--from", server.url)).code).toBe(11);
      expect(versionOf(at.path)).toBe(NEW);
      const resumed = server.requests.filter((request) => request.includes("bytes="));
      expect(resumed.length).toBeGreaterThanOrEqual(3);
    },
    DEADLINE_MS,
  );

  test(
    "from a server that knows no ranges begins anew, and gives up in the end",
    async () => {
      using at = install();
      await using server = await startReleaseServer(good, { cutAfterBytes: 30_000_000, ignoreRanges: true });
      const { code, err } = await run(at.path, "--from", server.url);
      expect(code).toBe(10);
      expect(err).toMatch(/was cut short|Cannot get/);
      expect(versionOf(at.path)).toBe(OLD);
    },
    DEADLINE_MS,
  );

  test(
    "and a killed update cost nothing: the next one goes on",
    async () => {
      using at = install();
      await using held = await startReleaseServer(good, { holdAfterBytes: 20_000_000, go: new Promise(() => {}) });
      await using first = begin(at.path, ["--from", held.url]);
      await first.errorLine(/Downloaded 10 %/);
      // The first one still has the lock.
      const second = await run(at.path, "--from", good);
      expect(second.code).toBe(10);
      expect(second.err).toContain(`Another update is under way (process ${first.pid})`);
      await first.kill();
      expect(versionOf(at.path)).toBe(OLD);
      await using server = await startReleaseServer(good);
      expect((await run(at.path, "--from", server.url)).code).toBe(11);
      expect(versionOf(at.path)).toBe(NEW);
      expect(server.requests.at(-1)).toMatch(/ bytes=\d{7,}-$/);
      expect(readdirSync(at.bin).sort()).toEqual(["culvert", "culvert.previous"]);
    },
    DEADLINE_MS,
  );

  test(
    "and what an earlier try left is checked: rubbish is fetched again",
    async () => {
      using at = install();
      const sum = sumOf(newBinary);
      writeFileSync(join(at.bin, `.culvert.${sum.slice(0, 16)}.new`), Buffer.alloc(1_000_000, "x"));
      writeFileSync(join(at.bin, ".culvert.0123456789abcdef.new"), "of a version that nobody wants any more");
      expect((await run(at.path, "--from", good)).code).toBe(11);
      expect(sumOf(at.path)).toBe(sum);
      expect(readdirSync(at.bin).sort()).toEqual(["culvert", "culvert.previous"]);
    },
    DEADLINE_MS,
  );

  test(
    "and SIGTERM ends it in good order",
    async () => {
      using at = install();
      await using held = await startReleaseServer(good, { holdAfterBytes: 20_000_000, go: new Promise(() => {}) });
      await using child = begin(at.path, ["--from", held.url]);
      await child.errorLine(/Downloaded 10 %/);
      child.signal("SIGTERM");
      expect(await child.exitCode()).toBe(10);
      expect(readdirSync(at.bin).filter((name) => name.endsWith(".update"))).toEqual([]);
      expect(versionOf(at.path)).toBe(OLD);
    },
    DEADLINE_MS,
  );
});

describe.skipIf(!isRoot)("a full disk", () => {
  /** A disk of its own of this size, with the old version on it. */
  function installOnDisk(sizeBytes: number) {
    const temp = makeTempDir();
    const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", `size=${Math.floor(sizeBytes)}`, "tmpfs", temp.path]);
    if (mounted.status !== 0) throw new Error(`mount: ${mounted.stderr}`);
    const path = join(temp.path, "culvert");
    copyFileSync(oldBinary, path);
    chmodSync(path, 0o755);
    return {
      path,
      bin: temp.path,
      [Symbol.dispose]: () => {
        spawnSync("umount", ["--lazy", temp.path]);
        temp[Symbol.dispose]();
      },
    };
  }
  const size = (): number => statSync(newBinary).size;

  test(
    "is seen before anything is written",
    async () => {
      using at = installOnDisk(size() * 1.5);
      const { code, err } = await run(at.path, "--from", good);
      expect({ code, err }).toEqual({ code: 10, err: `culvert: There is no space left in "${at.bin}"\n` });
      expect(readdirSync(at.bin)).toEqual(["culvert"]);
      expect(versionOf(at.path)).toBe(OLD);
    },
    DEADLINE_MS,
  );

  test(
    "that fills meanwhile gets back what the download took",
    async () => {
      using at = installOnDisk(size() * 2.2);
      const go = Promise.withResolvers<void>();
      await using server = await startReleaseServer(good, { holdAfterBytes: 20_000_000, go: go.promise });
      await using child = begin(at.path, ["--from", server.url]);
      await child.errorLine(/Downloaded 10 %/);
      spawnSync("dd", ["if=/dev/zero", `of=${join(at.bin, "filler")}`, "bs=1M"]);
      go.resolve();
      expect(await child.exitCode(DEADLINE_MS)).toBe(10);
      expect(child.stderr).toContain("There is no space left");
      expect(readdirSync(at.bin).sort()).toEqual(["culvert", "filler"]);
      expect(versionOf(at.path)).toBe(OLD);
    },
    DEADLINE_MS,
  );
});

test("a culvert that runs from source says so", async () => {
  const main = join(import.meta.dirname, "..", "..", "src", "main.ts");
  await using child = startProcess([process.execPath, main, "update", "--from", good]);
  expect(await child.exitCode(DEADLINE_MS)).toBe(10);
  expect(child.stderr).toContain("runs from source");
});
