import { describe, expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { replaceFile, writeBeside } from "../../../src/core/whole-file.ts";
import { makeTempDir } from "../../support/temp-dir.ts";

const ROOM_KB = 64;
const isRoot = process.getuid?.() === 0;

function codeOf(work: () => void): unknown {
  try {
    work();
  } catch (error) {
    return error instanceof Error && "code" in error ? error.code : error;
  }
  return "nothing thrown";
}

/** A folder on a file system that a command mounts at the path behind its arguments, or why there is none. */
function makeDisk(command: string, args: readonly string[]): (Disposable & { readonly path: string }) | string {
  if (!isRoot) return "this is another account";
  const dir = makeTempDir();
  try {
    execFileSync(command, [...args, dir.path], { stdio: "pipe" });
  } catch (error) {
    dir[Symbol.dispose]();
    return error instanceof Error ? error.message.trim() : String(error);
  }
  return {
    path: dir.path,
    [Symbol.dispose]() {
      execFileSync("umount", [dir.path]);
      dir[Symbol.dispose]();
    },
  };
}

describe("replacing a file", () => {
  test.each([
    ["text", "grüße\n"],
    ["bytes", new Uint8Array([0, 255, 10])],
    ["nothing", ""],
  ])("gives it the content and leaves nothing beside it: %s", (_, content) => {
    using dir = makeTempDir();
    const path = join(dir.path, "file");
    writeFileSync(path, "the old one, which is longer");
    for (const durable of ["none", "content", "name"] as const) {
      replaceFile(path, content, { mode: 0o600, durable });
      expect(new Uint8Array(readFileSync(path))).toEqual(new Uint8Array(Buffer.from(content)));
      expect(readdirSync(dir.path)).toEqual(["file"]);
    }
  });

  test.each([0o600, 0o644, 0o640, 0o666, 0o400])("gives it exactly the mode %o, whatever the umask", (mode) => {
    using dir = makeTempDir();
    const path = join(dir.path, "file");
    for (const umask of [0, 0o022, 0o077, 0o277]) {
      const before = process.umask(umask);
      try {
        replaceFile(path, "x", { mode });
      } finally {
        process.umask(before);
      }
      expect({ umask, mode: statSync(path).mode & 0o7777 }).toEqual({ umask, mode });
    }
  });

  test("replaces a link, and follows none in the place of its temporary file", () => {
    using dir = makeTempDir();
    const [path, victim] = [join(dir.path, "file"), join(dir.path, "victim")];
    writeFileSync(victim, "theirs", { mode: 0o640 });
    for (const temporary of [undefined, join(dir.path, "growing")]) {
      symlinkSync(victim, path);
      symlinkSync(victim, temporary ?? `${path}.${process.pid}.tmp`);
      replaceFile(path, "ours", { mode: 0o600, temporary });
      expect(readFileSync(path, "utf8")).toBe("ours");
      expect(lstatSync(path).isFile()).toBe(true);
      expect({ text: readFileSync(victim, "utf8"), mode: statSync(victim).mode & 0o777 }).toEqual({
        ...{ text: "theirs", mode: 0o640 },
      });
      expect(readdirSync(dir.path).toSorted()).toEqual(["file", "victim"]);
      rmSync(path);
    }
  });

  test("leaves nothing beside what it cannot replace, and what is not its own", () => {
    using dir = makeTempDir();
    const path = join(dir.path, "folder");
    mkdirSync(join(path, "full"), { recursive: true });
    expect(codeOf(() => replaceFile(path, "x", { mode: 0o600 }))).toMatch(/EISDIR|ENOTEMPTY|EEXIST|EPERM/);
    expect(readdirSync(dir.path)).toEqual(["folder"]);
    // A folder in the place of the temporary file is nobody's leftover.
    const options = { mode: 0o600, temporary: path };
    expect(codeOf(() => replaceFile(join(dir.path, "file"), "x", options))).toBeString();
    expect(existsSync(join(path, "full"))).toBe(true);
    expect(codeOf(() => replaceFile(join(dir.path, "missing", "file"), "x", { mode: 0o600 }))).toBe("ENOENT");
    writeFileSync(join(dir.path, "plain"), "");
    expect(codeOf(() => replaceFile(join(dir.path, "plain", "file"), "x", { mode: 0o600 }))).toBe("ENOTDIR");
  });

  test("a full disk leaves the old one whole, and nothing beside it", () => {
    const disk = makeDisk("mount", ["-t", "tmpfs", "-o", `size=${ROOM_KB}k`, "tmpfs"]);
    if (typeof disk === "string") {
      console.warn(`Not tested: a full disk needs a small file system, which only root can mount (${disk})`);
      return;
    }
    using dir = disk;
    const path = join(dir.path, "file");
    replaceFile(path, "old", { mode: 0o600 });
    // There is room for a part, which a single write takes without an error.
    for (const content of ["x".repeat(ROOM_KB * 2 * 1024), new Uint8Array(ROOM_KB * 2 * 1024)]) {
      expect(codeOf(() => replaceFile(path, content, { mode: 0o600 }))).toBe("ENOSPC");
      expect(readFileSync(path, "utf8")).toBe("old");
      expect(readdirSync(dir.path)).toEqual(["file"]);
    }
    replaceFile(path, "new", { mode: 0o600 });
    expect(readFileSync(path, "utf8")).toBe("new");
  });

  test("a file system that keeps no permissions gives it its own, whatever the mode", () => {
    using below = makeTempDir();
    // As FAT is, which not every kernel can mount.
    const disk = makeDisk("bindfs", ["--chmod-deny", "--perms=0755", below.path]);
    if (typeof disk === "string") {
      console.warn(`Not tested: a file system without permissions needs bindfs, FUSE and root (${disk})`);
      return;
    }
    using dir = disk;
    const path = join(dir.path, "file");
    for (const mode of [0o600, 0o644, 0o640]) {
      for (const content of ["old", "new"]) {
        replaceFile(path, content, { mode });
        expect({ mode, text: readFileSync(path, "utf8") }).toEqual({ mode, text: content });
      }
      expect(statSync(path).mode & 0o777).toBe(0o755);
      // Below it is what it was made as: nobody else's.
      expect(statSync(join(below.path, "file")).mode & 0o777).toBe(0o600);
      expect(readdirSync(dir.path)).toEqual(["file"]);
    }
    expect(codeOf(() => chmodSync(path, 0o644))).toBe("EPERM");
  });

  test.skipIf(!isRoot)("root gives it to an account, with the mode", () => {
    using dir = makeTempDir();
    const path = join(dir.path, "file");
    replaceFile(path, "x", { mode: 0o640, owner: 65_534 });
    const { uid, gid, mode } = statSync(path);
    expect({ uid, gid, mode: mode & 0o777 }).toEqual({ uid: 65_534, gid: process.getgid?.() ?? 0, mode: 0o640 });
  });
});

test("the first half leaves the old file, and a leftover of before lends it no permissions", () => {
  using dir = makeTempDir();
  const path = join(dir.path, "file");
  writeFileSync(path, "old");
  const leftover = `${path}.${process.pid}.tmp`;
  writeFileSync(leftover, "half of something that is longer");
  chmodSync(leftover, 0o666);
  const temporary = writeBeside(path, "new", { mode: 0o600 });
  expect({ text: readFileSync(temporary, "utf8"), mode: statSync(temporary).mode & 0o777 }).toEqual({
    ...{ text: "new", mode: 0o600 },
  });
  expect(readFileSync(path, "utf8")).toBe("old");
});
