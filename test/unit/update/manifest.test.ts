import { describe, expect, test } from "bun:test";
import { MAX_BINARY_BYTES, parseManifest } from "../../../src/update/manifest.ts";

const FILE = { target: "linux-x64", name: "culvert-1.2.3-linux-x64", sizeBytes: 1000, sha256: "a".repeat(64) };
const GOOD = { format: 1, version: "1.2.3", date: "2026-01-01T00:00:00Z", files: [FILE] };

describe("a release manifest", () => {
  test("is read, and what a later version may add is skipped", () => {
    const more = { ...GOOD, notes: "new", files: [{ ...FILE, zstd: true }] };
    expect(parseManifest(JSON.stringify(more))).toEqual({ ok: true, value: GOOD } as never);
  });

  test.each<[string, unknown]>([
    ["nothing", ""],
    ["a list", []],
    ["another format", { ...GOOD, format: 2 }],
    ["no version", { ...GOOD, version: undefined }],
    ["a version that is none", { ...GOOD, version: "../1.2.3" }],
    ["no files", { ...GOOD, files: undefined }],
    ["too many files", { ...GOOD, files: Array(65).fill(FILE) }],
    ["a path for a name", { ...GOOD, files: [{ ...FILE, name: "../culvert" }] }],
    ["an address for a name", { ...GOOD, files: [{ ...FILE, name: "https://example.com/culvert" }] }],
    ["a hidden name", { ...GOOD, files: [{ ...FILE, name: ".culvert" }] }],
    ["a short sum", { ...GOOD, files: [{ ...FILE, sha256: "abc" }] }],
    ["no size", { ...GOOD, files: [{ ...FILE, sizeBytes: 0 }] }],
    ["a broken size", { ...GOOD, files: [{ ...FILE, sizeBytes: 1.5 }] }],
    ["too large a size", { ...GOOD, files: [{ ...FILE, sizeBytes: MAX_BINARY_BYTES + 1 }] }],
  ])("%s is refused", (_, value) => {
    expect(parseManifest(typeof value === "string" ? value : JSON.stringify(value)).ok).toBe(false);
  });
});
