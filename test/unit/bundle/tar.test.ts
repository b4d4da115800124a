import { describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TarFile, tar } from "../../../src/bundle/tar.ts";
import { makeTempDir } from "../../support/temp-dir.ts";

const MTIME_S = 1_767_225_600;

function file(name: string, content: string | Uint8Array, mode = 0o644): TarFile {
  const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
  return { name, mode, sizeBytes: bytes.length, content: [bytes] };
}

async function pack(files: readonly TarFile[]): Promise<Buffer> {
  return Buffer.concat(await Array.fromAsync(tar(files, MTIME_S)));
}

/** The tars that this machine has. */
const TARS = [["tar"], ["busybox", "tar"], ["bsdtar"]].filter(
  ([command = "", ...rest]) => spawnSync(command, [...rest, "--help"]).error === undefined,
);

describe.each(TARS.map((command) => ({ name: command.join(" "), command })))("$name unpacks it", ({ command }) => {
  test.each([0, 1, 511, 512, 513, 10_240, 1_000_000])("a file of %d bytes", async (size) => {
    using dir = makeTempDir();
    const content = new Uint8Array(size).map((_, index) => index % 251);
    const archive = join(dir.path, "a.tar");
    writeFileSync(archive, await pack([file("top/first", "first\n", 0o755), file("top/second", content)]));
    const out = join(dir.path, "out");
    mkdirSync(out);
    const [program = "", ...rest] = command;
    const { status, stderr } = spawnSync(program, [...rest, "-xf", archive, "-C", out], { encoding: "utf8" });
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(readdirSync(join(out, "top")).sort()).toEqual(["first", "second"]);
    expect(readFileSync(join(out, "top", "second"))).toEqual(Buffer.from(content));
    expect(statSync(join(out, "top", "first")).mode & 0o777).toBe(0o755);
    expect(statSync(join(out, "top", "second")).mtimeMs).toBe(MTIME_S * 1000);
  });
});

test("the same files give the same bytes, whole blocks and two empty ones at the end", async () => {
  const files = [file("a", "x"), file("b", "y".repeat(600))];
  const archive = await pack(files);
  expect(archive.equals(await pack(files))).toBe(true);
  expect(archive.length).toBe(512 * (2 + 3 + 2));
  expect(archive.subarray(-1024).every((byte) => byte === 0)).toBe(true);
});

test.each(["", "x".repeat(101), "a b", "ä", "a\nb"])("the name %j is refused", async (name) => {
  await expect(pack([file(name, "")])).rejects.toThrow("cannot stand in an archive");
});

test.each([{ sizeBytes: 3 }, { sizeBytes: 5 }])(
  "a file that has not $sizeBytes bytes as it said is an error",
  async ({ sizeBytes }) => {
    await expect(pack([{ ...file("a", "four"), sizeBytes }])).rejects.toThrow(`"a" changed while it was written`);
  },
);

test("a size that the format has no room for is refused", async () => {
  await expect(pack([{ ...file("a", ""), sizeBytes: 8 ** 11 }])).rejects.toThrow("too large");
});
