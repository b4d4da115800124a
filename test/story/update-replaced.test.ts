import { describe, expect, test } from "bun:test";
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { systemClock } from "../../src/core/clock.ts";
import { TunnelError } from "../../src/core/errors.ts";
import { minisignDigest, signMinisign } from "../../src/update/signature.ts";
import { updateOnTrial } from "../../src/update/trial.ts";
import { type UpdateOptions, update } from "../../src/update/update.ts";
import { makeMinisignKey } from "../support/minisign-key.ts";
import { makeTempDir } from "../support/temp-dir.ts";

const OLD = "1.0.0";
const NEW = "1.1.0";
const TARGET = "linux-x64";
const { key } = makeMinisignKey();

/** A program that is asked for its version and says it. */
function writeProgram(path: string, version: string): void {
  writeFileSync(path, `#!/bin/sh\necho ${version}\n`);
  chmodSync(path, 0o755);
}

/** The old version as it is installed, and the new one, signed. */
function install() {
  const temp = makeTempDir();
  const bin = join(temp.path, "bin");
  mkdirSync(bin);
  const path = join(bin, "culvert");
  writeProgram(path, OLD);
  const from = join(temp.path, "new");
  writeProgram(from, NEW);
  const comments = { trusted: `culvert ${NEW} ${TARGET}`, untrusted: "" };
  writeFileSync(`${from}.minisig`, signMinisign(key, minisignDigest(readFileSync(from)), comments));
  const options: UpdateOptions = {
    ...{ from, running: { path, version: OLD, target: TARGET }, keys: [key], allowDowngrade: false, check: false },
    ...{ clock: systemClock, signal: new AbortController().signal, onProgress: () => {}, evenIfRejected: true },
  };
  return { bin, path, options, [Symbol.dispose]: () => temp[Symbol.dispose]() };
}

/** What fails, as a disk without room does. */
const OBSTACLES = {
  /** Of two memories one is to go, so the file is written anew; there is no way to. */
  memory: (bin: string) => {
    const rejected = [NEW, "0.9.0"].map((version) => ({ version, at: "2026-01-02T03:04:05.678Z", reason: "broken" }));
    writeFileSync(join(bin, ".culvert.rejected"), JSON.stringify({ rejected }));
    mkdirSync(join(bin, ".culvert.rejected.tmp", "in-the-way"), { recursive: true });
  },
  trial: (bin: string) => mkdirSync(join(bin, ".culvert.trial", "in-the-way"), { recursive: true }),
};

describe.skipIf(process.platform === "win32")("what fails beside a program that was replaced", () => {
  test.each(["memory", "trial"] as const)("is not said to be the replacement: %s", async (obstacle) => {
    using at = install();
    OBSTACLES[obstacle](at.bin);
    const failed = await update(at.options).then(String, String);
    expect(failed).toContain(
      `"${at.path}" is version ${NEW} now, but what is remembered beside it cannot be changed: `,
    );
    expect(readFileSync(at.path, "utf8")).toContain(NEW);
  });

  test.each(["memory", "trial"] as const)("comes before it on trial, and nothing is replaced: %s", async (obstacle) => {
    using at = install();
    OBSTACLES[obstacle](at.bin);
    const takeOver = (): Promise<void> => Promise.reject(new TunnelError("update.failed", "It is not connected"));
    expect(await updateOnTrial({ ...at.options, takeOver }).then(String, String)).toContain(
      `Cannot replace "${at.path}": `,
    );
    expect(readFileSync(at.path, "utf8")).toContain(OLD);
    rmSync(join(at.bin, ".culvert.rejected.tmp"), { recursive: true, force: true });
    rmSync(join(at.bin, ".culvert.trial"), { recursive: true, force: true });
    expect(await updateOnTrial({ ...at.options, takeOver })).toMatchObject({
      ...{ kind: "failed", version: NEW, backTo: OLD, rejected: true },
    });
    expect(readFileSync(at.path, "utf8")).toContain(OLD);
  });

  test("and a replacement on trial that fails takes nothing from what is remembered", async () => {
    using at = install();
    const rejection = { version: NEW, at: "2026-01-02T03:04:05.678Z", reason: "broken" };
    writeFileSync(join(at.bin, ".culvert.rejected"), JSON.stringify({ rejected: [rejection] }));
    mkdirSync(join(at.bin, "culvert.previous", "in-the-way"), { recursive: true });
    expect(await update({ ...at.options, onTrial: true }).then(String, String)).toContain("Cannot replace");
    expect(await update({ ...at.options, evenIfRejected: false })).toEqual({ kind: "rejected", rejection });
    expect(readdirSync(at.bin)).not.toContain(".culvert.trial");
    expect(readFileSync(at.path, "utf8")).toContain(OLD);
  });

  test("and a replacement that fails is, with the old version in its place", async () => {
    using at = install();
    mkdirSync(join(at.bin, "culvert.previous", "in-the-way"), { recursive: true });
    expect(await update(at.options).then(String, String)).toContain(`Cannot replace "${at.path}": `);
    expect(readFileSync(at.path, "utf8")).toContain(OLD);
  });
});
