import { expect, test } from "bun:test";
import { readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { readControlFile, removeControlFile, writeControlFile } from "../../../../src/edge/control/control-file.ts";
import { makeTempDir } from "../../../support/temp-dir.ts";

const OLD = { host: "127.0.0.1", port: 1, token: "0".repeat(64) } as const;
const NEW = { host: "::1", port: 65_535, token: "f".repeat(64) } as const;

test("is its owner's alone, replaces what was there, and leaves nothing else behind", () => {
  using dir = makeTempDir();
  writeFileSync(join(dir.path, "control.json"), "from a killed edge", { mode: 0o666 });
  writeControlFile(dir.path, OLD);
  writeControlFile(dir.path, NEW);
  expect(readControlFile(dir.path)).toEqual(NEW);
  expect(statSync(join(dir.path, "control.json")).mode & 0o777).toBe(0o600);
  expect(readdirSync(dir.path)).toEqual(["control.json"]);
});

test("an edge that stops takes its own file away, not that of its successor", () => {
  using dir = makeTempDir();
  writeControlFile(dir.path, NEW);
  removeControlFile(dir.path, OLD);
  expect(readControlFile(dir.path)).toEqual(NEW);
  removeControlFile(dir.path, NEW);
  expect(readdirSync(dir.path)).toEqual([]);
  removeControlFile(dir.path, NEW);
});

test.each([
  { what: "nothing", text: "" },
  { what: "half of it", text: '{"port":12' },
  { what: "no object", text: "null" },
  { what: "no token", text: '{"host":"127.0.0.1","port":1234}' },
  {
    what: "a token that would end the header line",
    text: JSON.stringify({ ...OLD, token: `${"0".repeat(63)}\n` }),
  },
  { what: "no host", text: JSON.stringify({ ...OLD, host: undefined }) },
  { what: "another machine, which must not get the token", text: JSON.stringify({ ...OLD, host: "192.0.2.1" }) },
  { what: "a port that is none", text: JSON.stringify({ ...OLD, port: 65_536 }) },
  { what: "a port as text", text: JSON.stringify({ ...OLD, port: "80" }) },
])("a file with $what counts as none", ({ text }) => {
  using dir = makeTempDir();
  writeFileSync(join(dir.path, "control.json"), text);
  expect(readControlFile(dir.path)).toBeUndefined();
});

test("a file that cannot be read is an error with its path", () => {
  using dir = makeTempDir();
  expect(() => readControlFile(join(dir.path, "x".repeat(300)))).toThrow(/^Cannot read ".*control\.json": /);
});
