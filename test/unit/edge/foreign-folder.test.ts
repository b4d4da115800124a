import { describe, expect, test } from "bun:test";
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { restoreEdgeBackup, writeEdgeBackup } from "../../../src/edge/backup-file.ts";
import { loadSettings, saveSettings } from "../../../src/edge/settings-file.ts";
import { openStateDir } from "../../../src/edge/state-dir.ts";
import { asOwnerOf } from "../../../src/edge/store/folder-owner.ts";
import { lockStateDir } from "../../../src/edge/store/lock.ts";
import { openSqliteStore } from "../../../src/edge/store/sqlite/index.ts";
import { makeTempDir } from "../../support/temp-dir.ts";

const NOW = 1_700_000_000_000;
const UID = 65_534;
const isRoot = process.getuid?.() === 0;

/** A folder of a service's account, a file of root's that it would like to have written, and a place where it cannot write. */
function makePlaces() {
  const temp = makeTempDir();
  chmodSync(temp.path, 0o755);
  const [own, roots] = [join(temp.path, "state"), join(temp.path, "roots")];
  mkdirSync(own, { mode: 0o700 });
  chownSync(own, UID, UID);
  mkdirSync(roots, { mode: 0o755 });
  const victim = join(roots, "victim");
  writeFileSync(victim, "root's", { mode: 0o644 });
  return { temp, own, roots, victim, ghost: join(roots, "ghost"), [Symbol.dispose]: () => temp[Symbol.dispose]() };
}

function expectUntouched({ victim, roots }: ReturnType<typeof makePlaces>): void {
  expect(readFileSync(victim, "utf8")).toBe("root's");
  expect(statSync(victim)).toMatchObject({ uid: 0, gid: 0 });
  expect(readdirSync(roots)).toEqual(["victim"]);
}

function expectRootAgain(): void {
  expect([process.geteuid?.(), process.getegid?.()]).toEqual([0, 0]);
}

async function makeBackup(folder: string): Promise<string> {
  const dir = join(folder, "other");
  const state = openStateDir(dir, NOW);
  const store = openSqliteStore(state.databasePath, state.sealingKey);
  const file = join(folder, "edge.backup");
  await writeEdgeBackup(state, store, file);
  store.close();
  return file;
}

function restore(file: string, dir: string): string | undefined {
  using _lock = lockStateDir(dir);
  return restoreEdgeBackup(file, dir, NOW, (fresh) => {
    const state = openStateDir(fresh, NOW);
    openSqliteStore(state.databasePath, state.sealingKey).close();
  });
}

describe.skipIf(!isRoot)("root in a folder of another account", () => {
  test("leaves files there that the account can use, also where the account may not pass", async () => {
    using places = makePlaces();
    const closed = join(places.temp.path, "private");
    mkdirSync(closed, { mode: 0o700 });
    const hidden = join(closed, "state");
    mkdirSync(hidden, { mode: 0o700 });
    chownSync(hidden, UID, UID);
    const file = await makeBackup(places.temp.path);
    chmodSync(file, 0o600);
    for (const dir of [places.own, hidden]) {
      const state = openStateDir(dir, NOW);
      openSqliteStore(state.databasePath, state.sealingKey).close();
      saveSettings(state, { domain: "edge.example.test" });
      expect(loadSettings(dir)).toEqual({ domain: "edge.example.test" });
      const aside = restore(file, dir) ?? "";
      expect(readdirSync(aside)).toContain("edge.json");
      for (const name of readdirSync(dir)) {
        expect({ name, uid: statSync(join(dir, name)).uid }).toEqual({ name, uid: UID });
      }
      expectRootAgain();
    }
  });

  test("does not follow links in the place of the lock and its temporary files", () => {
    using places = makePlaces();
    symlinkSync(places.victim, join(places.own, `edge.pid.${process.pid}.tmp`));
    lockStateDir(places.own)[Symbol.dispose]();
    expectUntouched(places);
    rmSync(join(places.own, "edge.lock"));
    symlinkSync(places.ghost, join(places.own, "edge.lock"));
    expect(() => lockStateDir(places.own)).toThrow("Cannot lock");
    expectUntouched(places);
    expectRootAgain();
  });

  test("does not make or change what a link in the place of the database leads to", () => {
    using places = makePlaces();
    const { databasePath, sealingKey } = openStateDir(places.own, NOW);
    symlinkSync(places.ghost, databasePath);
    expect(() => openSqliteStore(databasePath, sealingKey)).toThrow("Cannot open database");
    expectUntouched(places);
    // An empty file is a database to SQLite.
    rmSync(databasePath);
    writeFileSync(places.victim, "");
    symlinkSync(places.victim, databasePath);
    expect(() => openSqliteStore(databasePath, sealingKey)).toThrow();
    expect(statSync(places.victim)).toMatchObject({ uid: 0, size: 0 });
  });

  test("restores past links in the folder that it unpacks into, and where the account had put one of its own", async () => {
    using places = makePlaces();
    const file = await makeBackup(places.temp.path);
    const planted = join(places.own, `.restore-${process.pid}`);
    mkdirSync(planted);
    chownSync(planted, UID, UID);
    symlinkSync(places.victim, join(planted, "culvert.db"));
    restore(file, places.own);
    expectUntouched({ ...places, roots: places.roots });
    // The folder itself is a link, into which the account would have root write.
    symlinkSync(places.roots, planted);
    restore(file, places.own);
    expectUntouched(places);
    for (const name of ["restore.pending", "culvert.db", "edge.json"]) {
      symlinkSync(places.victim, join(places.own, `${name}.${process.pid}.tmp`));
    }
    restore(file, places.own);
    expectUntouched(places);
    expectRootAgain();
  });

  test("puts nothing into a backup that only root may read", async () => {
    using places = makePlaces();
    chmodSync(places.victim, 0o600);
    const state = openStateDir(places.own, NOW);
    const store = openSqliteStore(state.databasePath, state.sealingKey);
    symlinkSync(places.victim, join(places.own, "advertised.json"));
    const file = join(places.temp.path, "edge.backup");
    await expect(writeEdgeBackup(state, store, file)).rejects.toThrow("Cannot write backup");
    expect(existsSync(file)).toBe(false);
    rmSync(join(places.own, "advertised.json"));
    await writeEdgeBackup(state, store, file);
    store.close();
    expect(statSync(file)).toMatchObject({ uid: 0 });
    const db = new DatabaseSync(file);
    expect(
      db
        .prepare("SELECT name FROM backup_files ORDER BY name")
        .all()
        .map((row) => row["name"]),
    ).toEqual(["ca.key", "ca.pem", "seal.key"]);
    db.close();
  });

  test("is root again when the work throws, and in its own folders all the time", () => {
    using places = makePlaces();
    const thrown = (): never =>
      asOwnerOf(places.own, () => {
        expect(process.geteuid?.()).toBe(UID);
        throw new Error("so");
      });
    expect(thrown).toThrow("so");
    expectRootAgain();
    expect(asOwnerOf(places.roots, () => process.geteuid?.())).toBe(0);
    expect(asOwnerOf(places.ghost, () => process.geteuid?.())).toBe(0);
  });
});
