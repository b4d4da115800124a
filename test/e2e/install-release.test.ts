import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { spawnSync } from "node:child_process";
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { Downloads } from "../../src/bundle/downloads.ts";
import { renderInstallScript } from "../../src/bundle/install-script.ts";
import { minisignDigest, signMinisign } from "../../src/update/signature.ts";
import { encodeMinisignPublicKey } from "../../src/wire/minisign.ts";
import { hasCommand, InstallLab, programOf, SHELLS } from "../support/installer.ts";
import { makeMinisignKey } from "../support/minisign-key.ts";
import { startProcess } from "../support/processes.ts";
import { startReleaseServer } from "../support/release-server.ts";
import { thisTarget } from "../support/releases.ts";
import { quoteWords } from "../support/shell.ts";
import { startTerminal } from "../support/terminal.ts";

// busybox's awk takes seconds for a signature, and refuses a bad one only after that.
setDefaultTimeout(90_000);

const LARGE = 6_000_000;
const IS_ROOT = process.getuid?.() === 0;
const CAN_MOUNT = IS_ROOT && spawnSync("unshare", ["-m", "true"]).status === 0;
const SHA = "[0-9a-f]{16}";

/** What is in a folder, without what a test's program notes. */
function entries(dir: string): string[] {
  return readdirSync(dir)
    .filter((name) => name !== "culvert.log")
    .sort();
}

/** A lab with one release and a server for it. */
async function publish(version = "1.0.0", sizeBytes = 0) {
  const lab = new InstallLab();
  const name = lab.publish(version, { sizeBytes });
  const server = await startReleaseServer(lab.releases);
  return {
    ...{ lab, name, server, at: { baseUrl: server.url } },
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]();
      lab[Symbol.dispose]();
    },
  };
}

describe.each(SHELLS.map((shell) => ({ name: shell.name, shell })))("install.sh in $name", ({ shell }) => {
  test("installs, stays, upgrades, keeps the version before, and does not go back unasked", async () => {
    await using it = await publish("1.0.0");
    const { lab } = it;
    const at = { ...it.at, shell };
    const first = await lab.install([], at);
    expect(first).toMatchObject({ code: 0, err: "" });
    expect(first.out).toContain(`installed ${lab.dir}/culvert: culvert version 1.0.0`);
    expect(entries(lab.dir)).toEqual(["culvert"]);
    expect(statSync(join(lab.dir, "culvert")).mode & 0o777).toBe(0o755);

    const asked = it.server.requests.length;
    const again = await lab.install([], at);
    expect(again).toMatchObject({ code: 0, err: "" });
    expect(again.out).toContain("culvert 1.0.0 is installed already");
    expect(it.server.requests.slice(asked)).toEqual(["SHA256SUMS", "SHA256SUMS.minisig"]);

    lab.publish("1.1.0");
    expect(await lab.install([], at)).toMatchObject({ code: 0, err: "" });
    expect(entries(lab.dir)).toEqual(["culvert", "culvert.previous"]);
    expect(readFileSync(join(lab.dir, "culvert"), "utf8")).toBe(programOf("1.1.0"));
    expect(readFileSync(join(lab.dir, "culvert.previous"), "utf8")).toBe(programOf("1.0.0"));

    const back = await lab.install(["--version", "1.0.0"], at);
    expect(back.code).toBe(1);
    expect(back.err).toContain("culvert 1.0.0 is older than 1.1.0, which is installed; nothing was changed");
    expect(readFileSync(join(lab.dir, "culvert"), "utf8")).toBe(programOf("1.1.0"));
    expect(await lab.install(["--version", "v1.0.0", "--yes"], at)).toMatchObject({ code: 0, err: "" });
    expect(readFileSync(join(lab.dir, "culvert"), "utf8")).toBe(programOf("1.0.0"));
  });

  test("refuses a binary, sums and a comment that were changed, and leaves what is there", async () => {
    await using it = await publish("1.0.0");
    const { lab } = it;
    const at = { ...it.at, shell };
    await lab.install([], at);
    const name = lab.publish("1.1.0");
    const before = entries(lab.dir);
    const refused = async (why: string): Promise<void> => {
      const { code, err } = await lab.install([], at);
      expect({ code, err }).toEqual({ code: 1, err: expect.stringContaining(why) });
      expect(err).toContain("nothing was installed");
      expect(entries(lab.dir)).toEqual(before);
      expect(readFileSync(join(lab.dir, "culvert"), "utf8")).toBe(programOf("1.0.0"));
    };
    const binary = join(lab.releases, name);
    const good = readFileSync(binary);
    writeFileSync(binary, `${good.toString().slice(0, -1)}\t`);
    await refused(`${name} has the wrong checksum`);
    writeFileSync(binary, good);

    const sums = join(lab.releases, "SHA256SUMS");
    const listed = readFileSync(sums, "utf8");
    writeFileSync(sums, `${listed}${"0".repeat(64)}  more\n`);
    await refused("SHA256SUMS does not fit its signature");
    writeFileSync(sums, listed);

    const signature = readFileSync(`${sums}.minisig`, "utf8");
    writeFileSync(`${sums}.minisig`, signature.replace("culvert 1.1.0 sums", "culvert 9.9.9 sums"));
    await refused("SHA256SUMS does not fit its signature");
  });

  test("a script that is cut off anywhere does nothing", async () => {
    await using it = await publish();
    const { lab } = it;
    const script = renderInstallScript({ ...it.at, keys: [lab.key] });
    const last = script.lastIndexOf("{ main");
    const cuts = new Set(Array.from(script.slice(last, -2), (_, index) => last + index));
    for (let i = 0; i < 20; i++) cuts.add(Math.floor(Math.random() * last));
    const file = join(lab.path, "cut");
    for (const cut of cuts) {
      writeFileSync(file, script.slice(0, cut));
      const [command = "", ...rest] = shell.argv;
      const { stdout } = spawnSync(
        "sh",
        ["-c", 'exec "$@" <"$0"', file, command, ...rest, "-s", "--", "--dir", lab.dir],
        {
          env: { HOME: lab.home, PATH: `${process.env["PATH"]}` },
          cwd: lab.path,
          encoding: "utf8",
        },
      );
      expect({ cut, stdout, home: readdirSync(lab.home), asked: it.server.requests }).toEqual({
        ...{ cut, stdout: "", home: [], asked: [] },
      });
    }
  });
});

describe("what is trusted", () => {
  test("a release that another key has signed is refused, with the keys that would do", async () => {
    await using it = await publish();
    const other = makeMinisignKey().key;
    const script = renderInstallScript({ ...it.at, keys: [other] });
    const { code, err } = await it.lab.install([], { script });
    expect(code).toBe(1);
    expect(err).toContain("SHA256SUMS is signed with a key that is not trusted");
    expect(err).toContain(encodeMinisignPublicKey(other));
    expect(existsSync(it.lab.dir)).toBe(false);
  });

  test("also when that key calls itself by the same id", async () => {
    await using it = await publish();
    const script = renderInstallScript({ ...it.at, keys: [{ ...makeMinisignKey().key, id: it.lab.key.id }] });
    const { code, err } = await it.lab.install([], { script });
    expect({ code, err }).toEqual({ code: 1, err: expect.stringContaining("does not fit its signature") });
  });

  test("a key is taken from an option, a file or the environment; none at all is no reason to trust", async () => {
    await using it = await publish();
    const { lab } = it;
    const script = renderInstallScript({ ...it.at, keys: [] });
    const none = await lab.install([], { script });
    expect(none.code).toBe(1);
    expect(none.err).toContain("there is no key to verify a release with");
    expect(none.err).toContain("--insecure-no-signature");
    expect(existsSync(lab.dir)).toBe(false);
    const text = encodeMinisignPublicKey(lab.key);
    const pub = join(lab.path, "release.pub");
    writeFileSync(pub, `untrusted comment: a key\n${text}\n`);
    for (const [args, env] of [
      [["--key", text], {}],
      [["--key", pub], {}],
      [[], { CULVERT_UPDATE_KEY: text }],
      [[], { CULVERT_UPDATE_KEY: `${encodeMinisignPublicKey(makeMinisignKey().key)},${pub}` }],
    ] as const) {
      const dir = join(lab.home, `${args[1] ?? env.CULVERT_UPDATE_KEY}`.slice(-20).replaceAll("/", "_"));
      expect(await lab.run([...args, "--dir", dir], { script, env })).toMatchObject({ code: 0, err: "" });
      expect(entries(dir)).toEqual(["culvert"]);
    }
  });

  test("an unsigned release is taken only when that is said, and its checksums still count", async () => {
    await using it = await publish();
    const { lab } = it;
    const sums = join(lab.releases, "SHA256SUMS");
    renameSync(`${sums}.minisig`, `${sums}.away`);
    const refused = await lab.install([], it.at);
    expect(refused.code).toBe(1);
    expect(refused.err).toContain("SHA256SUMS.minisig: the server has no such file");
    const taken = await lab.install(["--insecure-no-signature"], it.at);
    expect(taken).toMatchObject({ code: 0, err: expect.stringContaining("warning: the signature is not looked at") });
    appendFileSync(join(lab.releases, it.name), "more");
    const damaged = await lab.run(["--insecure-no-signature", "--dir", join(lab.home, "b")], it.at);
    expect(damaged).toMatchObject({ code: 1, err: expect.stringContaining("wrong checksum") });
  });

  test("the signature of something else, or of another version, does not stand in", async () => {
    await using it = await publish();
    const { lab } = it;
    const digest = minisignDigest(readFileSync(join(lab.releases, "SHA256SUMS")));
    const sign = (name: string, trusted: string): void =>
      writeFileSync(join(lab.releases, `${name}.minisig`), signMinisign(lab.key, digest, { trusted, untrusted: "x" }));
    sign("SHA256SUMS", "culvert 1.0.0 manifest");
    expect((await lab.install([], it.at)).err).toContain(
      `SHA256SUMS is signed as something else: "culvert 1.0.0 manifest"`,
    );
    writeFileSync(join(lab.releases, "culvert-2.0.0-SHA256SUMS"), readFileSync(join(lab.releases, "SHA256SUMS")));
    sign("culvert-2.0.0-SHA256SUMS", "culvert 1.0.0 sums");
    const { code, err } = await lab.install(["--version", "2.0.0"], it.at);
    expect({ code, err }).toEqual({ code: 1, err: expect.stringContaining("is of version 1.0.0, not 2.0.0") });
    writeFileSync(join(lab.releases, "SHA256SUMS.minisig"), "untrusted comment: x\nAAAA\ntrusted comment: y\nAAAA\n");
    expect((await lab.install([], it.at)).err).toContain("no minisign signature");
    expect(existsSync(lab.dir)).toBe(false);
  });

  test("an older release, really signed, in place of the newest is taken by a machine that has none, else refused", async () => {
    await using it = await publish();
    const { lab } = it;
    expect(await lab.install([], it.at)).toMatchObject({ code: 0, err: "" });
    rmSync(lab.releases, { recursive: true });
    lab.publish("0.9.0");
    const refused = await lab.install([], it.at);
    expect(refused.code).toBe(1);
    expect(refused.err).toContain("culvert 0.9.0 is older than 1.0.0, which is installed; nothing was changed");
    const fresh = await lab.run(["--dir", join(lab.home, "fresh")], it.at);
    expect(fresh).toMatchObject({ code: 0, out: expect.stringContaining("culvert version 0.9.0") });
    const wanted = await lab.run(["--dir", join(lab.home, "wanted"), "--version", "1.0.0"], it.at);
    expect(wanted.code).toBe(1);
    expect(existsSync(join(lab.home, "wanted"))).toBe(false);
  });

  test.each(["gawk", "mawk", "original-awk"].filter(hasCommand))(
    "%s verifies where there is no openssl",
    async (awk) => {
      await using it = await publish();
      const { lab } = it;
      const bin = join(lab.path, "bin");
      mkdirSync(bin);
      writeFileSync(join(bin, "openssl"), "#!/bin/sh\nexit 1\n", { mode: 0o755 });
      writeFileSync(join(bin, "awk"), `#!/bin/sh\nexec ${awk} "$@"\n`, { mode: 0o755 });
      const at = { ...it.at, env: { INSTALLER_PATH: `${bin}:${process.env["PATH"]}` } };
      expect(await lab.install([], at)).toMatchObject({ code: 0, err: "" });
      const signature = join(lab.releases, "SHA256SUMS.minisig");
      writeFileSync(signature, readFileSync(signature, "utf8").replace("1.0.0 sums", "1.0.1 sums"));
      expect(await lab.install([], at)).toMatchObject({
        code: 1,
        err: expect.stringContaining("does not fit its signature"),
      });
    },
  );

  test.skipIf(!hasCommand("minisign"))("what minisign itself has signed is accepted", async () => {
    await using it = await publish();
    const { lab } = it;
    const [pub, sec] = [join(lab.path, "m.pub"), join(lab.path, "m.sec")];
    expect(spawnSync("minisign", ["-G", "-W", "-p", pub, "-s", sec]).status).toBe(0);
    const sums = join(lab.releases, "SHA256SUMS");
    const signed = spawnSync("minisign", ["-S", "-s", sec, "-m", sums, "-t", "culvert 1.0.0 sums"]);
    expect(signed.status).toBe(0);
    for (const shell of SHELLS) {
      const dir = join(lab.home, shell.name.slice(0, 4));
      const outcome = await lab.run(["--dir", dir, "--key", pub], { ...it.at, shell });
      expect(outcome).toMatchObject({ code: 0, err: "" });
    }
  });
});

describe("a download", () => {
  test.each(SHELLS.map((shell) => ({ name: shell.name, shell })))(
    "that is cut goes on where it stopped ($name)",
    async ({ shell }) => {
      using lab = new InstallLab();
      const name = lab.publish("1.0.0", { sizeBytes: LARGE });
      await using server = await startReleaseServer(lab.releases, { cutAfterBytes: LARGE / 3 });
      const { code, err } = await lab.install([], { baseUrl: server.url, shell });
      expect({ code, err }).toMatchObject({ code: 0 });
      expect(server.requests.filter((request) => new RegExp(`^${name} bytes=[1-9]\\d+-$`).test(request)).length).toBe(
        2,
      );
      expect(entries(lab.dir)).toEqual(["culvert"]);
    },
  );

  test("that never gets anywhere is given up; the next run goes on with what came", async () => {
    using lab = new InstallLab();
    const name = lab.publish("1.0.0", { sizeBytes: LARGE });
    {
      await using server = await startReleaseServer(lab.releases, { cutAfterBytes: 1_000_000 });
      const { code, err } = await lab.install([], { baseUrl: server.url });
      expect(code).toBe(1);
      expect(err).toContain(`cannot download ${server.url}/dl/${name}: the connection was cut`);
    }
    expect(entries(lab.dir)).toEqual([expect.stringMatching(new RegExp(`^\\.culvert\\.${SHA}\\.new$`))]);
    await using server = await startReleaseServer(lab.releases);
    expect(await lab.install([], { baseUrl: server.url })).toMatchObject({ code: 0, err: "" });
    expect(server.requests.at(-1)).toMatch(new RegExp(`^${name} bytes=[1-9]\\d+-$`));
    expect(entries(lab.dir)).toEqual(["culvert"]);
  });

  test.each([{ ignoreRanges: true }, { ignoreRanges: false }])(
    "begins anew where the first part is of something else (%p)",
    async ({ ignoreRanges }) => {
      using lab = new InstallLab();
      const name = lab.publish("1.0.0", { sizeBytes: LARGE });
      const [sum = ""] = readFileSync(join(lab.releases, "SHA256SUMS"), "utf8").split(" ");
      mkdirSync(lab.dir, { recursive: true });
      writeFileSync(join(lab.dir, `.culvert.${sum.slice(0, 16)}.new`), "y".repeat(5000));
      await using server = await startReleaseServer(lab.releases, { ignoreRanges });
      expect(await lab.install([], { baseUrl: server.url })).toMatchObject({ code: 0 });
      expect(server.requests.at(-1)).toBe(name);
      expect(entries(lab.dir)).toEqual(["culvert"]);
    },
  );

  test("of nothing: no release, no version, nobody there, no such host, dead proxy, neither curl nor wget", async () => {
    await using it = await publish();
    const { lab } = it;
    const fails = async (args: readonly string[], options: Parameters<typeof lab.run>[1], want: string) => {
      const { code, err } = await lab.install(args, { ...it.at, ...options });
      expect({ code, err }).toEqual({ code: 1, err: expect.stringContaining(want) });
      expect(existsSync(lab.dir)).toBe(false);
      return err;
    };
    await fails(["--version", "7.7.7"], {}, "/dl/culvert-7.7.7-SHA256SUMS: the server has no such file");
    const gone = await publish();
    await gone[Symbol.asyncDispose]();
    await fails([], gone.at, "nothing answers there");
    await fails([], { baseUrl: "http://nowhere.invalid" }, "its host name is not known");
    const proxied = await fails(
      [],
      { env: { http_proxy: `http://me:pass@${gone.at.baseUrl.slice(7)}` } },
      "nothing answers",
    );
    expect(proxied).toContain(`through the proxy ${gone.at.baseUrl}`);
    expect(proxied).not.toContain("pass");
    const bare = join(lab.path, "bare");
    mkdirSync(bare);
    for (const tool of [
      "id",
      "uname",
      "od",
      "tr",
      "grep",
      "head",
      "mktemp",
      "rm",
      "sed",
      "cat",
      "dirname",
      "pwd",
      "df",
    ]) {
      symlinkSync(spawnSync("sh", ["-c", `command -v ${tool}`], { encoding: "utf8" }).stdout.trim(), join(bare, tool));
    }
    await fails([], { env: { INSTALLER_PATH: bare } }, "neither curl nor wget is installed");
  });

  test("from https never goes on without it", async () => {
    await using it = await publish();
    // A certificate that nobody trusts is all that is needed to see that it is looked at.
    const { code, err } = await it.lab.install([], { baseUrl: it.at.baseUrl.replace("http:", "https:") });
    expect(code).toBe(1);
    expect(err).toContain("the server's certificate or TLS is refused");
  });
});

describe("the machine", () => {
  /** A program that stands in front of the real one. */
  function fake(lab: InstallLab, name: string, script: string): Record<string, string> {
    const bin = join(lab.path, "fake");
    mkdirSync(bin, { recursive: true });
    writeFileSync(join(bin, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    return { INSTALLER_PATH: `${bin}:${process.env["PATH"]}` };
  }

  test.each([
    { system: "Linux armv7l", want: "there is no culvert for this CPU (Linux armv7l)" },
    { system: "Linux riscv64", want: "there is no culvert for this CPU (Linux riscv64)" },
    { system: "FreeBSD amd64", want: "there is no culvert for FreeBSD" },
    { system: "MINGW64_NT-10.0 x86_64", want: "does not install on Windows" },
  ])("$system is told that there is nothing for it", async ({ system, want }) => {
    await using it = await publish();
    const [os, cpu] = system.split(" ");
    const env = fake(it.lab, "uname", `case $1 in -s) echo ${os} ;; *) echo ${cpu} ;; esac`);
    const { code, err } = await it.lab.install([], { ...it.at, env });
    expect({ code, err }).toEqual({ code: 1, err: expect.stringContaining(want) });
    expect(it.server.requests).toEqual([]);
  });

  test("of another kind is told what the release has", async () => {
    await using it = await publish();
    const env = fake(it.lab, "uname", "case $1 in -s) echo Darwin ;; *) echo arm64 ;; esac");
    const { code, err } = await it.lab.install([], { ...it.at, env });
    expect(code).toBe(1);
    expect(err).toContain("version 1.0.0 has no binary for this machine (darwin-arm64)");
    expect(err).toContain(`It has: ${thisTarget().name}`);
  });

  test.skipIf(!CAN_MOUNT || process.arch !== "x64").each([
    { flags: "fpu sse4_2 avx avx2", want: /would install culvert 1\.0\.0 \(linux-x64\)/ },
    { flags: "fpu sse4_2 avx", want: /no binary for this machine \(linux-x64-baseline\)/ },
    { flags: "fpu sse3", want: /this CPU is too old: it lacks SSE4\.2/ },
  ])("with a CPU that has $flags", async ({ flags, want }) => {
    await using it = await publish();
    const cpuinfo = join(it.lab.path, "cpuinfo");
    writeFileSync(cpuinfo, `processor\t: 0\nflags\t\t: ${flags}\n`);
    const wrap = ["unshare", "-m", "sh", "-c", `mount --bind ${cpuinfo} /proc/cpuinfo && exec "$@"`, "sh"];
    const { out, err } = await it.lab.install(["--dry-run"], { ...it.at, wrap });
    expect(out + err).toMatch(want);
    expect(existsSync(it.lab.dir)).toBe(false);
  });

  test("with SELinux and no label for the file is told so, and how to set it", async () => {
    await using it = await publish();
    fake(it.lab, "selinuxenabled", "exit 0");
    const env = fake(it.lab, "restorecon", "echo no >&2; exit 1");
    const { code, err } = await it.lab.install([], { ...it.at, env });
    expect(code).toBe(0);
    expect(err).toContain("SELinux is on");
    expect(err).toContain(`restorecon -v ${it.lab.dir}/culvert`);
    fake(it.lab, "restorecon", 'echo "$*" >"$0.log"');
    it.lab.publish("1.0.1");
    expect(await it.lab.install([], { ...it.at, env })).toMatchObject({ code: 0, err: "" });
    expect(readFileSync(join(it.lab.path, "fake", "restorecon.log"), "utf8")).toBe(`-F ${it.lab.dir}/culvert\n`);
  });

  /** Runs with a file system of its own at the target folder. */
  const mounted = (dir: string, command: string): string[] => [
    ...["unshare", "-m", "sh", "-c", `${command.replaceAll("DIR", dir)} && exec "$@"`, "sh"],
  ];

  test.skipIf(!CAN_MOUNT).each(SHELLS.map((shell) => ({ name: shell.name, shell })))(
    "with a full disk: refused, and the old version still there ($name)",
    async ({ shell }) => {
      await using it = await publish("1.1.0", LARGE);
      mkdirSync(it.lab.dir);
      const old = join(it.lab.path, "old");
      writeFileSync(old, programOf("1.0.0"), { mode: 0o755 });
      const list = join(it.lab.path, "list");
      const command = `mount -t tmpfs -o size=3m tmpfs DIR && cp ${old} DIR/culvert`;
      const wrap = [
        ...mounted(it.lab.dir, command).slice(0, -2),
        `${command.replaceAll("DIR", it.lab.dir)}; "$@"; code=$?; ls -A ${it.lab.dir} >${list}; ${it.lab.dir}/culvert --version >>${list}; exit $code`,
        "sh",
      ];
      const { code, err } = await it.lab.install([], { ...it.at, shell, wrap });
      expect({ code, err }).toEqual({ code: 1, err: expect.stringContaining(`no space left in ${it.lab.dir}`) });
      expect(readFileSync(list, "utf8")).toBe("culvert\nculvert version 1.0.0 (built TEST)\n");
    },
  );

  test.skipIf(!CAN_MOUNT)("with a read-only folder is told of --dir and --user", async () => {
    await using it = await publish();
    mkdirSync(it.lab.dir);
    const wrap = mounted(it.lab.dir, "mount -t tmpfs -o ro tmpfs DIR");
    const { code, err } = await it.lab.install([], { ...it.at, wrap });
    expect(code).toBe(1);
    expect(err).toContain(`${it.lab.dir} is on a file system that is read-only`);
    expect(err).toContain("--user");
    // Also where it is a folder above.
    const deep = await it.lab.run(["--dir", join(it.lab.dir, "a", "b")], { ...it.at, wrap });
    expect(deep.err).toContain("read-only");
  });

  test.skipIf(!CAN_MOUNT)("with a folder that no program runs from is told so", async () => {
    await using it = await publish();
    mkdirSync(it.lab.dir);
    const { code, err } = await it.lab.install([], {
      ...it.at,
      wrap: mounted(it.lab.dir, "mount -t tmpfs -o noexec tmpfs DIR"),
    });
    expect(code).toBe(1);
    expect(err).toContain("does not run on this machine");
    expect(err).toContain(`${it.lab.dir} is mounted noexec`);
  });

  test.skipIf(!IS_ROOT)("where somebody else may not write is told of sudo and --user", async () => {
    await using it = await publish();
    chmodSync(it.lab.path, 0o755);
    const { code, err } = await it.lab.run(["--dir", join(it.lab.path, "theirs")], { ...it.at, uid: 65534 });
    expect(code).toBe(1);
    expect(err).toContain("permission denied");
    expect(err).toContain("--user");
  });

  test.skipIf(!IS_ROOT)("an account without root gets it below its home", async () => {
    await using it = await publish();
    chmodSync(it.lab.path, 0o755);
    chmodSync(it.lab.home, 0o777);
    const { code, out } = await it.lab.run([], { ...it.at, uid: 65534 });
    expect({ code, out }).toEqual({
      code: 0,
      out: expect.stringContaining(`installed ${it.lab.home}/.local/bin/culvert`),
    });
    expect(statSync(join(it.lab.home, ".local", "bin", "culvert")).uid).toBe(65534);
  });
});

describe("at the same time", () => {
  test("as another installation: refused; one that was killed is no hindrance", async () => {
    await using it = await publish();
    const { lab } = it;
    await using other = startProcess(["sleep", "60"]);
    mkdirSync(lab.dir);
    writeFileSync(join(lab.dir, ".culvert.update"), `${other.pid}\n`);
    const { code, err } = await lab.install([], it.at);
    expect(code).toBe(1);
    expect(err).toContain(
      `another installation or update of ${lab.dir}/culvert is already running (process ${other.pid})`,
    );
    expect(entries(lab.dir)).toEqual([".culvert.update"]);
    await other.kill();
    expect(await lab.install([], it.at)).toMatchObject({ code: 0, err: "" });
    expect(entries(lab.dir)).toEqual(["culvert"]);
  });

  test.each(SHELLS.filter(({ busyboxOnly }) => !busyboxOnly).map((shell) => ({ name: shell.name, shell })))(
    "as another one that finds the same dead mark: only one goes on, with $name",
    async ({ shell }) => {
      await using it = await publish();
      const { lab } = it;
      await using other = startProcess(["sleep", "60"]);
      mkdirSync(lab.dir);
      const mark = join(lab.dir, ".culvert.update");
      writeFileSync(mark, "4194305 update\n");
      // The other one is quicker: its mark is there when this one removes what it has judged.
      const tools = join(lab.path, "tools");
      mkdirSync(tools);
      for (const tool of ["mv", "rm"]) {
        const quicker = `case "$*" in *.culvert.update\\ * | *.culvert.update) [ -e "$0.done" ] || { : >"$0.done"; echo ${other.pid} >"${mark}"; } ;; esac`;
        writeFileSync(join(tools, tool), `#!/bin/sh\n${quicker}\nexec ${Bun.which(tool)} "$@"\n`, { mode: 0o755 });
      }
      const env = { INSTALLER_PATH: `${tools}:${process.env["PATH"]}` };
      const { code, err } = await lab.install([], { ...it.at, shell, env });
      expect({ code, err }).toMatchObject({ code: 1, err: expect.stringContaining(`(process ${other.pid})`) });
      expect(entries(lab.dir)).toEqual([".culvert.update"]);
      expect(readFileSync(mark, "utf8")).toBe(`${other.pid}\n`);
      await other.kill();
      expect(await lab.install([], { ...it.at, shell })).toMatchObject({ code: 0, err: "" });
      expect(entries(lab.dir)).toEqual(["culvert"]);
    },
  );

  test.each([
    { there: "1.1.0", code: 1, says: "culvert 1.0.0 is older than 1.1.0, which is installed" },
    { there: "1.0.0", code: 0, says: "culvert 1.0.0 is installed already" },
  ])("as another one puts $there there: it is seen", async ({ there, code, says }) => {
    using lab = new InstallLab();
    lab.publish("1.0.0");
    mkdirSync(lab.dir);
    const target = join(lab.dir, "culvert");
    const server = createServer((request, response) => {
      const name = `${request.url}`.slice("/dl/".length);
      // By then the installer has looked at what there is, and has not yet taken the lock.
      if (name === "SHA256SUMS") writeFileSync(target, programOf(there), { mode: 0o755 });
      response.end(readFileSync(join(lab.releases, name)));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    try {
      const baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
      const outcome = await lab.install([], { baseUrl });
      expect({ code: outcome.code, said: outcome.out + outcome.err }).toEqual({
        ...{ code, said: expect.stringContaining(says) },
      });
      expect(readFileSync(target, "utf8")).toBe(programOf(there));
      expect(entries(lab.dir)).toEqual(["culvert"]);
    } finally {
      server.close();
    }
  });

  test("as the version before runs: it goes on, and is named", async () => {
    await using it = await publish();
    const { lab } = it;
    mkdirSync(lab.dir);
    // A real program, because a script runs as its shell.
    writeFileSync(join(lab.dir, "culvert"), readFileSync("/bin/sleep"), { mode: 0o755 });
    await using old = startProcess([join(lab.dir, "culvert"), "60"]);
    const { code, out } = await lab.install([], it.at);
    expect(code).toBe(0);
    expect(out).toContain(`note: process ${old.pid} runs the version before`);
    expect(old.end).toBeUndefined();
  });
});

test.skipIf(!hasCommand("script"))(
  "on a terminal a downgrade is asked about, while the script comes through a pipe",
  async () => {
    await using it = await publish("1.0.0");
    const { lab } = it;
    lab.publish("1.1.0");
    await lab.install([], it.at);
    const script = join(lab.path, "script");
    const target = join(lab.dir, "culvert");
    for (const { answer, version } of [
      { answer: "n\n", version: "1.1.0" },
      { answer: "y\n", version: "1.0.0" },
    ]) {
      const words = ["sh", "-s", "--", "--dir", lab.dir, "--version", "1.0.0"];
      const command = `cat ${script} | ${quoteWords(words)}; echo over`;
      const env = { HOME: lab.home, PATH: `${process.env["PATH"]}` };
      await using terminal = await startTerminal(["sh", "-c", command], { rows: 24, columns: 200 }, { env });
      await terminal.process.outputLine(/Replace it by the older 1\.0\.0\? \[y\/N\]/);
      terminal.type(answer);
      await terminal.process.outputLine(/over/);
      expect(readFileSync(target, "utf8")).toBe(programOf(version));
    }
  },
);

describe("versions", () => {
  test.each([
    { from: "1.0.0-rc.2", to: "1.0.0", down: false },
    { from: "1.0.0", to: "1.0.0-rc.2", down: true },
    { from: "1.0.0-rc.2", to: "1.0.0-rc.10", down: false },
    { from: "1.0.0-rc.10", to: "1.0.0-rc.2", down: true },
    { from: "1.9.0", to: "1.10.0", down: false },
    { from: "1.0.0-alpha.1", to: "1.0.0-alpha", down: true },
    { from: "1.0.0-alpha.1", to: "1.0.0-beta", down: false },
    { from: "1.0.0-1", to: "1.0.0-alpha", down: false },
  ])("from $from to $to is a downgrade: $down", async ({ from, to, down }) => {
    await using it = await publish(to);
    mkdirSync(it.lab.dir);
    writeFileSync(join(it.lab.dir, "culvert"), programOf(from), { mode: 0o755 });
    const { code, out } = await it.lab.install(["--dry-run"], it.at);
    expect(code).toBe(0);
    expect(out.includes(`would ask whether to replace culvert ${from} by the older ${to}`)).toBe(down);
    expect(entries(it.lab.dir)).toEqual(["culvert"]);
  });
});

describe("services", () => {
  const TOKEN = "eyJhIjoiYWJjIn0=";
  const asked = (lab: InstallLab): string => readFileSync(join(lab.dir, "culvert.log"), "utf8");
  const stoppedService = (program: string): string =>
    `[ "$2" != status ] || { echo '{"unit":"x","active":"stopped","program":"${program}"}'; exit 3; }`;

  test("a token goes to `service install` through a pipe: neither on a command line nor in the environment", async () => {
    await using it = await publish();
    const want = `service install --token-file -; environment without\n${TOKEN}\n`;
    expect(await it.lab.install([TOKEN], it.at)).toMatchObject({ code: 0, err: "" });
    expect(asked(it.lab)).toContain(want);
    const second = join(it.lab.home, "second");
    await it.lab.run(["--dir", second], { ...it.at, env: { CULVERT_TOKEN: TOKEN } });
    expect(readFileSync(join(second, "culvert.log"), "utf8")).toContain(want);
  });

  test("a token's file is handed on as it is", async () => {
    await using it = await publish();
    const file = join(it.lab.path, "token");
    writeFileSync(file, TOKEN, { mode: 0o600 });
    expect(await it.lab.install(["--token-file", file], it.at)).toMatchObject({ code: 0, err: "" });
    expect(asked(it.lab)).toContain(`service install --token-file ${file}; environment without\n`);
  });

  test("a service that cannot be installed fails the whole, and the binary stays", async () => {
    await using it = await publish();
    mkdirSync(it.lab.dir);
    writeFileSync(join(it.lab.dir, "culvert.answer"), 'echo "culvert: no init system" >&2; exit 1');
    const { code, err } = await it.lab.install([TOKEN], it.at);
    expect(code).toBe(1);
    expect(err).toContain("culvert: no init system");
    expect(err).toContain("culvert is installed, but its service is not as it should be");
    expect(existsSync(join(it.lab.dir, "culvert"))).toBe(true);
  });

  test("an upgrade has the services of this very program run it, and no others", async () => {
    await using it = await publish();
    const { lab } = it;
    mkdirSync(lab.dir);
    writeFileSync(join(lab.dir, "culvert"), readFileSync("/bin/sleep"), { mode: 0o755 });
    await using ours = startProcess([join(lab.dir, "culvert"), "60"]);
    await using other = startProcess(["sleep", "60"]);
    for (const name of ["web", "mail"])
      mkdirSync(join(lab.home, ".config", "culvert", "tunnels", name), { recursive: true });
    const answer = (pid: number): string => `echo '{"unit":"x","pid":${pid},"active":"running"}'; exit 0`;
    writeFileSync(
      join(lab.dir, "culvert.answer"),
      `[ "$2" = status ] || exit 0
case "$*" in *--edge*) exit 4 ;; *"--name web"*) ${answer(ours.pid)} ;; *"--name mail"*) exit 3 ;; *) ${answer(other.pid)} ;; esac`,
    );
    expect(await lab.install([], it.at)).toMatchObject({ code: 0, err: "" });
    const installs = asked(lab)
      .split("\n")
      .filter((line) => line.startsWith("service install"));
    expect(installs).toEqual(["service install --name web; environment without"]);
    lab.publish("1.0.1");
    writeFileSync(join(lab.dir, "culvert.log"), "");
    expect(await lab.install(["--no-service"], it.at)).toMatchObject({ code: 0, err: "" });
    expect(asked(lab)).toBe("");
  });

  test("uninstalling removes services first, then the program and all that was beside it", async () => {
    await using it = await publish();
    const { lab } = it;
    await lab.install([], it.at);
    lab.publish("1.0.1");
    await lab.install([], it.at);
    const leftovers = ["0123456789abcdef.new", "rejected", "trial", "lock", "update.4194305"];
    for (const name of leftovers) writeFileSync(join(lab.dir, `.culvert.${name}`), "part");
    writeFileSync(join(lab.dir, "culvert.answer"), stoppedService(join(lab.dir, "culvert")));
    writeFileSync(join(lab.dir, "culvert.log"), "");
    expect((await lab.install(["--uninstall", "--dry-run"])).out).toContain(`would remove ${lab.dir}/culvert\n`);
    expect(asked(lab)).toContain("service uninstall --dry-run; environment without\n");
    expect(existsSync(join(lab.dir, "culvert"))).toBe(true);
    writeFileSync(join(lab.dir, "culvert.log"), "");
    expect(await lab.install(["--uninstall", "--purge"])).toMatchObject({ code: 0, err: "" });
    expect(asked(lab)).toContain("service uninstall --purge; environment without\n");
    expect(asked(lab)).toContain("service uninstall --edge --purge; environment without\n");
    expect(entries(lab.dir)).toEqual(["culvert.answer"]);
    expect(await lab.install(["--uninstall"])).toMatchObject({
      code: 0,
      out: expect.stringContaining("nothing to remove"),
    });
  });

  test("uninstalling decides by the program of a service, however it is doing, and asks where it is not told", async () => {
    await using it = await publish();
    const { lab } = it;
    await lab.install([], it.at);
    const target = join(lab.dir, "culvert");
    for (const name of ["crashing", "old"])
      mkdirSync(join(lab.home, ".config", "culvert", "tunnels", name), { recursive: true });
    writeFileSync(
      `${target}.answer`,
      `[ "$2" = status ] || exit 0
case "$*" in
*--edge*) exit 4 ;;
*crashing*) echo '{"active":"starting","program":"${target}"}' ;;
*old*) echo '{"active":"stopped"}'; exit 3 ;;
*) echo '{"active":"stopped","program":"/opt/other/culvert"}'; exit 3 ;;
esac`,
    );
    writeFileSync(`${target}.log`, "");
    const { code, out, err } = await lab.install(["--uninstall", "--purge"]);
    expect(code).toBe(0);
    const removed = readFileSync(`${target}.log`, "utf8").split("\n");
    expect(removed.filter((line) => line.startsWith("service uninstall"))).toEqual([
      "service uninstall --name crashing --purge; environment without",
    ]);
    expect(out).toContain("left alone: service culvert runs /opt/other/culvert\n");
    expect(out).toContain("kept: configuration, tokens and state without a service");
    expect(err).toContain("does not say which program service culvert --name old runs");
    expect(existsSync(target)).toBe(false);
  });

  test("a service that cannot be removed keeps the program", async () => {
    await using it = await publish();
    const { lab } = it;
    await lab.install([], it.at);
    writeFileSync(join(lab.dir, "culvert.answer"), `${stoppedService(join(lab.dir, "culvert"))}; exit 1`);
    expect(await lab.install(["--uninstall"])).toMatchObject({
      code: 1,
      err: expect.stringContaining("cannot remove the service"),
    });
    expect(existsSync(join(lab.dir, "culvert"))).toBe(true);
    expect(await lab.install(["--uninstall", "--no-service"])).toMatchObject({ code: 0 });
    expect(existsSync(join(lab.dir, "culvert"))).toBe(false);
  });
});

describe("what is there already", () => {
  test("a package's, a link or a folder is not replaced", async () => {
    await using it = await publish();
    const { lab } = it;
    mkdirSync(join(lab.home, "lib", "culvert"), { recursive: true });
    mkdirSync(lab.dir);
    writeFileSync(join(lab.home, "lib", "culvert", "package-manager"), "apt\n");
    const target = join(lab.dir, "culvert");
    writeFileSync(target, programOf("0.9.0"), { mode: 0o755 });
    expect((await lab.install([], it.at)).err).toContain("a package manager (apt) has installed");
    const other = join(lab.home, "other");
    mkdirSync(other);
    symlinkSync(target, join(other, "culvert"));
    expect((await lab.run(["--dir", other], it.at)).err).toContain(`is a link to ${target}`);
    const third = join(lab.home, "third");
    mkdirSync(join(third, "culvert"), { recursive: true });
    expect((await lab.run(["--dir", third], it.at)).err).toContain("is a folder");
    expect(readFileSync(target, "utf8")).toBe(programOf("0.9.0"));
  });

  test("a broken program is replaced, and is nothing to go back to", async () => {
    await using it = await publish();
    mkdirSync(it.lab.dir);
    writeFileSync(join(it.lab.dir, "culvert"), "broken", { mode: 0o755 });
    expect(await it.lab.install([], it.at)).toMatchObject({ code: 0, err: "" });
    expect(entries(it.lab.dir)).toEqual(["culvert"]);
  });
});

test("curl | sh from the edge's own downloads: no address and no key to name", async () => {
  using lab = new InstallLab();
  lab.publish("1.0.0", { sizeBytes: LARGE });
  const downloads = new Downloads({ folder: lab.releases, keys: [lab.key] });
  const server = createServer((request, response) => {
    const url = new URL(request.url ?? "/", `http://${request.headers.host}`);
    const headers = new Headers(
      Object.entries(request.headers).flatMap(([k, v]) => (typeof v === "string" ? [[k, v]] : [])),
    );
    const asked = new Request(url.href, { method: `${request.method}`, headers });
    const answer =
      url.pathname === "/install.sh" ? downloads.script(asked) : downloads.file(url.pathname.slice(4), asked);
    Promise.resolve(answer)
      .then(async (given) => {
        response.writeHead(given.status, Object.fromEntries(given.headers));
        for await (const chunk of given.body ?? []) response.write(chunk);
        response.end();
      })
      .catch(() => response.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    await using run = startProcess(["sh", "-c", `curl -fsSL ${url}/install.sh | sh -s -- --dir ${lab.dir}`], {
      env: { HOME: lab.home, PATH: `${process.env["PATH"]}` },
    });
    expect({ code: await run.exitCode(30_000), err: run.stderr }).toEqual({ code: 0, err: "" });
    expect(entries(lab.dir)).toEqual(["culvert"]);
  } finally {
    server.close();
  }
});

test.skipIf(!hasCommand("shellcheck"))("shellcheck has nothing to say about the script", () => {
  const path = join(import.meta.dirname, "..", "..", "install.sh");
  for (const dialect of ["sh", "dash", "bash"]) {
    const { status, stdout } = spawnSync("shellcheck", ["--shell", dialect, path], { encoding: "utf8" });
    expect({ dialect, status, stdout }).toEqual({ dialect, status: 0, stdout: "" });
  }
});
