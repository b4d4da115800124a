import { describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { renderInstallScript } from "../../src/bundle/install-script.ts";
import { makeTempDir } from "../support/temp-dir.ts";

const ROOT = join(import.meta.dirname, "..", "..");
const BUILT = join(ROOT, "dist", "culvert");
const PROGRAM = "#!/bin/sh\necho culvert version 9.8.7\n";

interface Outcome {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

function install(...args: string[]): Outcome {
  const { status, stdout, stderr } = spawnSync("sh", [join(ROOT, "install.sh"), ...args], { encoding: "utf8" });
  return { code: status, out: stdout, err: stderr };
}

/** A folder with a fake binary in it, and an empty target folder that does not exist yet. */
function prepare(program = PROGRAM) {
  const temp = makeTempDir();
  const binary = join(temp.path, "fake");
  writeFileSync(binary, program);
  return { binary, dir: join(temp.path, "bin", "deep"), [Symbol.dispose]: () => temp[Symbol.dispose]() };
}

describe("install.sh", () => {
  test("installs a binary, says its version, and leaves nothing else behind", () => {
    using at = prepare();
    const { code, out, err } = install("--binary", at.binary, "--dir", at.dir);
    expect({ code, err }).toEqual({ code: 0, err: "" });
    expect(out).toContain(`installed ${at.dir}/culvert: culvert version 9.8.7`);
    expect(out).toContain("is not in your PATH");
    expect(readdirSync(at.dir)).toEqual(["culvert"]);
    expect(statSync(join(at.dir, "culvert")).mode & 0o777).toBe(0o755);
    expect(readFileSync(join(at.dir, "culvert"), "utf8")).toBe(PROGRAM);
  });

  test("replaces an older one by a rename: whoever runs the old file keeps it", () => {
    using at = prepare();
    mkdirSync(at.dir, { recursive: true });
    const target = join(at.dir, "culvert");
    writeFileSync(target, "old");
    const before = statSync(target).ino;
    expect(install("--binary", at.binary, "--dir", at.dir).code).toBe(0);
    expect(statSync(target).ino).not.toBe(before);
  });

  test("takes the right SHA-256, in either case", () => {
    using at = prepare();
    const sum = createHash("sha256").update(PROGRAM).digest("hex").toUpperCase();
    expect(install("--binary", at.binary, "--dir", at.dir, "--sha256", sum).code).toBe(0);
  });

  test("refuses a wrong SHA-256 and installs nothing", () => {
    using at = prepare();
    const { code, err } = install("--binary", at.binary, "--dir", at.dir, "--sha256", "00");
    expect(code).toBe(1);
    expect(err).toContain("nothing was installed");
    expect(existsSync(at.dir)).toBe(false);
  });

  test.each([
    { name: "fails", program: "#!/bin/sh\nexit 3\n" },
    { name: "is silent", program: "#!/bin/sh\nexit 0\n" },
    { name: "is not a program", program: "\u0000\u0001" },
  ])("a binary that $name leaves the old one in place", ({ program }) => {
    using at = prepare(program);
    mkdirSync(at.dir, { recursive: true });
    writeFileSync(join(at.dir, "culvert"), "old");
    const { code, err } = install("--binary", at.binary, "--dir", at.dir);
    expect(code).toBe(1);
    expect(err).toContain("does not run on this machine");
    expect(readdirSync(at.dir)).toEqual(["culvert"]);
    expect(readFileSync(join(at.dir, "culvert"), "utf8")).toBe("old");
  });

  test("--dry-run says what it would do and does nothing", () => {
    using at = prepare();
    const { code, out } = install("--binary", at.binary, "--dir", at.dir, "--dry-run");
    expect({ code, out }).toEqual({ code: 0, out: `would install ${at.binary} as ${at.dir}/culvert\n` });
    expect(existsSync(at.dir)).toBe(false);
  });

  test("--uninstall removes the one file, and may be repeated", () => {
    using at = prepare();
    install("--binary", at.binary, "--dir", at.dir);
    expect(install("--uninstall", "--dir", at.dir, "--dry-run").out).toContain("would remove");
    expect(install("--uninstall", "--dir", at.dir)).toMatchObject({ code: 0, out: `removed ${at.dir}/culvert\n` });
    expect(readdirSync(at.dir)).toEqual([]);
    expect(install("--uninstall", "--dir", at.dir)).toMatchObject({ code: 0 });
  });

  test.each([
    { args: ["--binary"], want: "--binary needs a value" },
    { args: ["--binary", "/nowhere/culvert"], want: `there is no file "/nowhere/culvert"` },
    { args: ["--prefix", "/x"], want: `unknown option "--prefix"` },
  ])("$args is refused with a reason", ({ args, want }) => {
    using at = prepare();
    const { code, err } = install("--dir", at.dir, ...args);
    expect(code).toBe(1);
    expect(err).toContain(want);
  });

  test("outside a checkout it asks for a binary instead of guessing", () => {
    using at = prepare();
    const script = readFileSync(join(ROOT, "install.sh"), "utf8");
    const { status, stderr } = spawnSync("sh", ["-s", "--", "--dir", at.dir], {
      input: script,
      cwd: join(at.binary, ".."),
      encoding: "utf8",
    });
    expect(status).toBe(1);
    expect(stderr).toContain("give the binary with --binary PATH");
  });

  describe("beside something to build", () => {
    /** A folder that looks like a checkout, whose build leaves a mark. */
    function checkout(script: string) {
      const at = prepare();
      const folder = join(at.dir, "..", "..", "checkout");
      const build = join(folder, "scripts", "build");
      mkdirSync(join(folder, "scripts"), { recursive: true });
      mkdirSync(join(folder, "dist"));
      writeFileSync(join(folder, "package.json"), '{\n  "name": "culvert"\n}\n');
      writeFileSync(join(folder, "install.sh"), script);
      writeFileSync(join(folder, "dist", "culvert"), PROGRAM);
      writeFileSync(build, `#!/bin/sh\ntouch ${folder}/built\n`, { mode: 0o755 });
      const run = (): Outcome => {
        const { status, stdout, stderr } = spawnSync("sh", [join(folder, "install.sh"), "--dir", at.dir], {
          encoding: "utf8",
        });
        return { code: status, out: stdout, err: stderr };
      };
      const built = (): boolean => existsSync(join(folder, "built"));
      return { build, run, built, dir: at.dir, [Symbol.dispose]: () => at[Symbol.dispose]() };
    }
    const OWN = readFileSync(join(ROOT, "install.sh"), "utf8");

    test("the repository's own script builds it", () => {
      using at = checkout(OWN);
      expect(at.run()).toMatchObject({ code: 0, err: "" });
      expect({ built: at.built(), installed: readdirSync(at.dir) }).toEqual({ built: true, installed: ["culvert"] });
    });

    test("one that was handed out runs nothing of it", () => {
      using at = checkout(renderInstallScript({ baseUrl: undefined, keys: [] }));
      expect(at.run()).toMatchObject({ code: 1, err: expect.stringContaining("there is no place to install from") });
      expect(at.built()).toBe(false);
    });

    test("nothing is run that others may write to", () => {
      using at = checkout(OWN);
      chmodSync(at.build, 0o777);
      expect(at.run()).toMatchObject({ code: 1, err: expect.stringContaining(`may write to ${at.build}`) });
      chmodSync(at.build, 0o755);
      if (process.getuid?.() === 0) {
        chownSync(at.build, 65_534, 65_534);
        expect(at.run()).toMatchObject({ code: 1, err: expect.stringContaining(`may write to ${at.build}`) });
      }
      expect(at.built()).toBe(false);
    });

    test.skipIf(process.getuid?.() !== 0)(
      "what a group may write to is built by root after the command it names",
      () => {
        using at = checkout(OWN);
        chownSync(at.build, 0, 65_534);
        chmodSync(at.build, 0o775);
        const { code, err } = at.run();
        expect({ code, err }).toEqual({
          code: 1,
          err: expect.stringContaining(`whoever is in its group may write to ${at.build}`),
        });
        expect(at.built()).toBe(false);
        const [, command = ""] = /sudo (chmod -R g-w .*)/.exec(err) ?? [];
        expect(spawnSync("sh", ["-c", command]).status).toBe(0);
        expect(at.run()).toMatchObject({ code: 0, err: "" });
        expect(at.built()).toBe(true);
      },
    );
  });

  test.skipIf(!existsSync(BUILT))("installs the built binary, which runs from where it was put", () => {
    using at = prepare();
    expect(install("--binary", BUILT, "--dir", at.dir, "--no-service")).toMatchObject({ code: 0, err: "" });
    const { status, stdout } = spawnSync(join(at.dir, "culvert"), ["--version"], { env: {}, encoding: "utf8" });
    expect(status).toBe(0);
    expect(stdout).toContain(
      (JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { version: string }).version,
    );
  });
});
