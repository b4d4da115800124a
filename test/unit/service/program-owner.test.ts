import { describe, expect, test } from "bun:test";
import { chmodSync, chownSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { replaceable } from "../../../src/service/program-owner.ts";
import { makeTempDir } from "../../support/temp-dir.ts";

const isRoot = process.getuid?.() === 0;
const STRANGER = 54_321;

function makeProgram(): { readonly dir: string; readonly program: string } & Disposable {
  const temp = makeTempDir();
  const dir = join(temp.path, "bin");
  mkdirSync(dir, { mode: 0o755 });
  const program = join(dir, "culvert");
  writeFileSync(program, "");
  chmodSync(program, 0o755);
  return { dir, program, [Symbol.dispose]: () => temp[Symbol.dispose]() };
}

test.skipIf(process.platform === "win32")("what comes with the system is root's alone", () => {
  expect(replaceable("/bin/sh")).toBeUndefined();
  expect(replaceable("/usr/bin/../bin/env")).toBeUndefined();
  expect(replaceable("/bin/no-such-program")).toContain("cannot be looked at");
});

test.skipIf(isRoot || process.platform === "win32")("an account's own program is replaceable", () => {
  using made = makeProgram();
  expect(replaceable(made.program)).toContain(`belongs to user ${process.getuid?.()}`);
});

describe.skipIf(!isRoot)("as root", () => {
  test("a program of root in folders of root is accepted, also below a sticky folder", () => {
    using made = makeProgram();
    const { dir, program } = made;
    expect(replaceable(program)).toBeUndefined();
    chmodSync(dir, 0o1777);
    expect(replaceable(program)).toBeUndefined();
  });

  test("one of another account is refused, also in a sticky folder", () => {
    using made = makeProgram();
    const { dir, program } = made;
    chownSync(program, STRANGER, 0);
    expect(replaceable(program)).toBe(`${program} belongs to user ${STRANGER}, not to root`);
    chmodSync(dir, 0o1777);
    expect(replaceable(program)).toBe(`${program} belongs to user ${STRANGER}, not to root`);
  });

  test("one that others may write is refused, and so is one in such a folder", () => {
    using made = makeProgram();
    const { dir, program } = made;
    chmodSync(program, 0o757);
    expect(replaceable(program)).toBe(`${program} can be written by everybody`);
    chmodSync(program, 0o755);
    chmodSync(dir, 0o775);
    expect(replaceable(program)).toBe(`${dir} can be written by group 0`);
    chmodSync(dir, 0o755);
    chownSync(dir, STRANGER, 0);
    expect(replaceable(program)).toBe(`${dir} belongs to user ${STRANGER}, not to root`);
  });

  test("links are followed to what they lead to", () => {
    using made = makeProgram();
    const { dir, program } = made;
    using other = makeProgram();
    const link = join(dir, "link");
    symlinkSync(other.program, link);
    expect(replaceable(link)).toBeUndefined();
    chmodSync(other.dir, 0o777);
    expect(replaceable(link)).toBe(`${other.dir} can be written by everybody`);
    symlinkSync("culvert", join(dir, "near"));
    chownSync(program, STRANGER, 0);
    expect(replaceable(join(dir, "near"))).toBe(`${program} belongs to user ${STRANGER}, not to root`);
    symlinkSync("round", join(dir, "round"));
    expect(replaceable(join(dir, "round"))).toContain("too many links");
  });
});
