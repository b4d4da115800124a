import { describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { otherTargets, placeOf, publish } from "../../../scripts/release/publish.ts";
import { binaryName } from "../../../scripts/release/targets.ts";
import { minisignDigest, verifyMinisign } from "../../../src/update/signature.ts";
import { makeMinisignKey } from "../../support/minisign-key.ts";
import { makeTempDir } from "../../support/temp-dir.ts";

const { key } = makeMinisignKey();
const TARGETS = ["linux-arm64", "linux-x64"];

/** Publishes a version the way scripts/build does, with a few bytes for a program. */
function release(out: string, version: string, targets: readonly string[] = TARGETS): void {
  const { newest } = placeOf(out, version, targets);
  const work = mkdtempSync(join(out, ".work-"));
  const files = targets.map((target) => {
    const content = `${target} of ${version}`;
    const name = binaryName(version, target);
    writeFileSync(join(work, name), content);
    return { target, name, sizeBytes: content.length, sha256: createHash("sha256").update(content).digest("hex") };
  });
  publish(files, { work, out, version, date: "2026-01-01T00:00:00Z", secret: key, newest });
}

/** What a client would make of a manifest: the version that it is signed as. */
function newestOf(out: string, name = "manifest.json"): string {
  const signature = readFileSync(join(out, `${name}.minisig`), "utf8");
  const signed = verifyMinisign([key], signature, minisignDigest(readFileSync(join(out, name))));
  return signed.ok ? signed.value : "not signed";
}

describe("publishing", () => {
  test("makes the higher version the newest, and leaves nothing of its work", () => {
    using out = makeTempDir();
    for (const version of ["1.9.0", "1.10.0"]) {
      release(out.path, version);
      expect(newestOf(out.path)).toBe(`culvert ${version} manifest`);
      expect(newestOf(out.path, "SHA256SUMS")).toBe(`culvert ${version} sums`);
    }
    for (const name of readdirSync(out.path).filter((name) => name.startsWith("."))) {
      expect(readdirSync(join(out.path, name))).toEqual([]);
    }
  });

  test("a lower version is there to be asked for, and the newest stays", () => {
    using out = makeTempDir();
    release(out.path, "1.1.0");
    const installer = readFileSync(join(out.path, "install.sh.minisig"), "utf8");
    release(out.path, "1.0.9");
    expect(newestOf(out.path)).toBe("culvert 1.1.0 manifest");
    expect(newestOf(out.path, "SHA256SUMS")).toBe("culvert 1.1.0 sums");
    expect(readFileSync(join(out.path, "install.sh.minisig"), "utf8")).toBe(installer);
    expect(newestOf(out.path, "culvert-1.0.9.json")).toBe("culvert 1.0.9 manifest");
    expect(readFileSync(join(out.path, binaryName("1.0.9", "linux-x64")), "utf8")).toBe("linux-x64 of 1.0.9");
  });

  test("a version does not lose targets that it has, whether or not it is the newest", () => {
    using out = makeTempDir();
    release(out.path, "1.0.0");
    expect(otherTargets(out.path, "1.0.0", ["linux-x64"])).toEqual(["linux-arm64"]);
    expect(otherTargets(out.path, "1.0.1", ["linux-x64"])).toEqual([]);
    expect(() => placeOf(out.path, "1.0.0", ["linux-x64"])).toThrow(/has version 1\.0\.0 for linux-arm64 too/);
    release(out.path, "1.1.0", ["linux-x64"]);
    expect(() => placeOf(out.path, "1.0.0", ["linux-x64"])).toThrow(/linux-arm64/);
    expect(placeOf(out.path, "1.1.0", TARGETS)).toEqual({ newest: true });
    writeFileSync(join(out.path, "manifest.json"), "{");
    expect(() => placeOf(out.path, "1.2.0", TARGETS)).toThrow(/is no manifest, not JSON/);
  });

  // A folder in the way stands for a full disk, or a process that is killed.
  test.each([binaryName("1.1.0", "linux-x64"), "culvert-1.1.0.json"])(
    "that breaks off at %s leaves the version before, whole",
    (name) => {
      using out = makeTempDir();
      release(out.path, "1.0.0");
      mkdirSync(join(out.path, `${name}.minisig`, "in-the-way"), { recursive: true });
      expect(() => release(out.path, "1.1.0")).toThrow();
      expect(newestOf(out.path)).toBe("culvert 1.0.0 manifest");
      expect(newestOf(out.path, "SHA256SUMS")).toBe("culvert 1.0.0 sums");
      expect(newestOf(out.path, "install.sh")).toBe("culvert 1.0.0 installer");
    },
  );

  test("that breaks off at the newest manifest has all that the new one names in place", () => {
    using out = makeTempDir();
    mkdirSync(join(out.path, "manifest.json.minisig", "in-the-way"), { recursive: true });
    expect(() => release(out.path, "1.1.0")).toThrow();
    expect(newestOf(out.path, "culvert-1.1.0.json")).toBe("culvert 1.1.0 manifest");
    for (const line of readFileSync(join(out.path, "SHA256SUMS"), "utf8").trim().split("\n")) {
      const [sum, name = ""] = line.split("  ");
      expect(
        createHash("sha256")
          .update(readFileSync(join(out.path, name)))
          .digest("hex"),
      ).toBe(sum as string);
    }
    expect(readdirSync(out.path)).not.toContain("manifest.json");
  });
});
