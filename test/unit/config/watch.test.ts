import { expect, test } from "bun:test";
import { renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { watchFile } from "../../../src/config/watch.ts";
import { makeTempDir } from "../../support/temp-dir.ts";
import { VirtualClock } from "../../support/virtual-clock.ts";

function watched(path: string) {
  const clock = new VirtualClock();
  const told = { changes: 0, missing: 0 };
  const stop = watchFile(path, {
    clock,
    onChange: () => {
      told.changes += 1;
    },
    onMissing: () => {
      told.missing += 1;
    },
  });
  return { clock, told, stop };
}

test("a change counts once, when the file rests; the first look is one", async () => {
  using dir = makeTempDir();
  const file = join(dir.path, "c.yml");
  writeFileSync(file, "1");
  const { clock, told, stop } = watched(file);
  await clock.advance(500);
  expect(told.changes).toBe(0);
  await clock.advance(100);
  expect(told.changes).toBe(1);
  await clock.advance(5_000);
  expect(told.changes).toBe(1);
  for (let piece = 0; piece < 3; piece += 1) {
    writeFileSync(file, "x".repeat(10 + piece));
    await clock.advance(piece === 0 ? 500 : 100);
    expect(told.changes).toBe(1);
  }
  await clock.advance(100);
  expect(told.changes).toBe(2);
  stop();
  expect(clock.pending).toBe(0);
});

test("a file that never rests counts all the same", async () => {
  using dir = makeTempDir();
  const file = join(dir.path, "c.yml");
  writeFileSync(file, "");
  const { clock, told, stop } = watched(file);
  await clock.advance(600);
  for (let size = 1; size <= 40; size += 1) {
    writeFileSync(file, "x".repeat(size));
    await clock.advance(100);
  }
  expect(told.changes).toBeGreaterThan(1);
  stop();
});

test("what a path leads to is watched: links anywhere in it, and files renamed onto it", async () => {
  using dir = makeTempDir();
  const at = (...names: string[]): string => join(dir.path, ...names);
  for (const name of ["one", "two"]) writeFileSync(at(name), name);
  symlinkSync("one", at("link"));
  symlinkSync("link", at("c.yml"));
  const { clock, told, stop } = watched(at("c.yml"));
  await clock.advance(600);
  expect(told.changes).toBe(1);
  symlinkSync("two", at("link.new"));
  renameSync(at("link.new"), at("link"));
  await clock.advance(600);
  expect(told.changes).toBe(2);
  writeFileSync(at("three"), "two");
  renameSync(at("three"), at("two"));
  await clock.advance(600);
  expect(told.changes).toBe(3);
  stop();
});

test("a file that is gone for a moment is no news; for seconds it is, once", async () => {
  using dir = makeTempDir();
  const file = join(dir.path, "c.yml");
  writeFileSync(file, "1");
  const { clock, told, stop } = watched(file);
  await clock.advance(600);
  rmSync(file);
  await clock.advance(1_000);
  writeFileSync(file, "2");
  await clock.advance(600);
  expect(told).toEqual({ changes: 2, missing: 0 });
  rmSync(file);
  await clock.advance(10_000);
  expect(told).toEqual({ changes: 2, missing: 1 });
  stop();
});
