import { expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { writeEdgeBackup } from "../../../src/edge/backup-file.ts";
import { openStateDir } from "../../../src/edge/state-dir.ts";
import { openSqliteStore } from "../../../src/edge/store/sqlite/index.ts";
import { makeTempDir } from "../../support/temp-dir.ts";

/** A backup at each of these paths fails with this reason, says the path that was asked for, and leaves nothing. */
async function expectFailures(dir: string, cases: readonly (readonly [path: string, why: string])[]): Promise<void> {
  const state = openStateDir(join(dir, "state"), 1_700_000_000_000);
  const store = openSqliteStore(state.databasePath, state.sealingKey);
  for (const [path, why] of cases) {
    const said = await writeEdgeBackup(state, store, path).then(
      () => "it was written",
      (error: unknown) => (error instanceof Error ? error.message : String(error)),
    );
    expect(said).toBe(`Cannot write backup "${path}": ${why}`);
  }
  store.close();
}

test("a backup that cannot be written says where it was to go, and why", async () => {
  using dir = makeTempDir();
  const [file, state] = [join(dir.path, "file"), join(dir.path, "state")];
  writeFileSync(file, "theirs");
  await expectFailures(dir.path, [
    [join(file, "x.backup"), "part of its path is not a folder"],
    [join(dir.path, "none", "x.backup"), "there is no such folder"],
    [file, "the file exists"],
  ]);
  expect(readdirSync(dir.path).sort()).toEqual(["file", "state"]);
  expect(existsSync(join(state, "culvert.db"))).toBe(true);
});

test("nor where nothing may be written, nor on a full disk", async () => {
  using dir = makeTempDir();
  using disks = new DisposableStack();
  const mount = (name: string, options: string): string => {
    const path = join(dir.path, name);
    mkdirSync(path);
    execFileSync("mount", ["-t", "tmpfs", "-o", options, "tmpfs", path], { stdio: "pipe" });
    disks.defer(() => void execFileSync("umount", [path]));
    return path;
  };
  let paths: readonly [string, string];
  try {
    paths = [mount("closed", "ro"), mount("small", "size=16k")];
  } catch (error) {
    console.warn(`Not tested: only root can mount file systems (${error instanceof Error ? error.message : error})`);
    return;
  }
  const [closed, small] = paths;
  await expectFailures(dir.path, [
    [join(closed, "x.backup"), "the file system is read-only"],
    [join(small, "x.backup"), "no space left for the database"],
  ]);
  expect([...readdirSync(closed), ...readdirSync(small)]).toEqual([]);
});
