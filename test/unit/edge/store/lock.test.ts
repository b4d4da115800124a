import { expect, test } from "bun:test";
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { TunnelError } from "../../../../src/core/errors.ts";
import { lockStateDir } from "../../../../src/edge/store/lock.ts";
import { startProcess } from "../../../support/processes.ts";
import { makeTempDir } from "../../../support/temp-dir.ts";

const LOCK = join(import.meta.dir, "../../../../src/edge/store/lock.ts");

/** Takes the lock in a process of its own, which forgets what it was given, and keeps it. */
async function lockElsewhere(dir: string) {
  const code = `
    import { lockStateDir } from ${JSON.stringify(LOCK)};
    (() => void lockStateDir(process.argv.at(-1)))();
    for (let i = 0; i < 10; i += 1) {
      await new Promise(setImmediate);
      Bun.gc(true);
    }
    console.log("locked");
    setInterval(() => {}, 1000);`;
  const holder = startProcess([process.execPath, "-e", code, "--", dir]);
  await holder.outputLine(/locked/);
  return holder;
}

function refusal(dir: string): TunnelError {
  try {
    using _lock = lockStateDir(dir);
  } catch (error) {
    if (error instanceof TunnelError) return error;
    throw error;
  }
  throw new Error("It was not refused");
}

test("a directory is for one edge, whose process the refusal names, and is free when that is killed", async () => {
  using dir = makeTempDir();
  await using holder = await lockElsewhere(dir.path);
  for (let i = 0; i < 3; i += 1) {
    const error = refusal(dir.path);
    expect(error.code).toBe("store.conflict");
    expect(error.message).toContain(`process ${holder.pid}`);
    expect(error.message).toContain(dir.path);
  }
  await holder.kill();
  using _lock = lockStateDir(dir.path);
  expect(refusal(dir.path).message).toContain(`process ${process.pid}`);
});

test("asking again in the same process does not open the lock for another one", async () => {
  using dir = makeTempDir();
  {
    using _lock = lockStateDir(dir.path);
    expect(refusal(dir.path).code).toBe("store.conflict");
    await expect(lockElsewhere(dir.path)).rejects.toThrow(/another edge runs/);
    for (const name of readdirSync(dir.path)) expect(statSync(join(dir.path, name)).mode & 0o777).toBe(0o600);
  }
  await using holder = await lockElsewhere(dir.path);
  expect(refusal(dir.path).message).toContain(`process ${holder.pid}`);
});

test("what nobody can give back any more stays locked through garbage collections", async () => {
  using dir = makeTempDir();
  (() => void lockStateDir(dir.path))();
  for (let i = 0; i < 10; i += 1) {
    await new Promise(setImmediate);
    Bun.gc(true);
  }
  expect(refusal(dir.path).message).toContain(`process ${process.pid}`);
  await expect(lockElsewhere(dir.path)).rejects.toThrow(/another edge runs/);
});

test("a directory that cannot be locked is refused with its path", () => {
  const error = refusal("/nonexistent");
  expect(error.code).toBe("store.failed");
  expect(error.message).toContain("/nonexistent");
});
