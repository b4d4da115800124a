import {
  closeSync,
  constants,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  writeSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { describe, TunnelError } from "../core/errors.ts";
import { discard, removeLeftover, replaceFile } from "../core/whole-file.ts";
import { whyNotWritten } from "../core/write-failure.ts";
import { isRestoresOwn, moveAll, removeLeftovers, undoMoves } from "./restore-journal.ts";
import type { EdgeState } from "./state-dir.ts";
import { asOwnerOf } from "./store/folder-owner.ts";
import type { Store } from "./store/port.ts";

/** What a state directory needs beside its database, and may be without. */
const NEEDED = ["seal.key", "ca.key", "ca.pem"] as const;
const OPTIONAL = ["edge.json", "advertised.json"] as const;
const MODES: Readonly<Record<string, number>> = { "ca.pem": 0o644 };
const DATABASE = "culvert.db";
const ASIDE = "before-";
/** In bytes. */
const COPIED_AT_ONCE = 1 << 20;
/** What is held meanwhile. */
const LOCK = /^edge\.(lock|pid)$/;

/**
 * Writes everything an edge is made of into one file: a copy of its database with its keys in a table beside. Whoever has
 * the file has the edge, so it is its owner's alone. The edge may run meanwhile. Throws `store.conflict` when the file
 * exists, else as {@link Store.backup}.
 */
export async function writeEdgeBackup(state: EdgeState, store: Store, path: string): Promise<void> {
  if (existsSync(path)) throw new TunnelError("store.conflict", `Cannot write backup "${path}": the file exists`);
  const temporary = join(dirname(path), `.${basename(path)}.${process.pid}.tmp`);
  try {
    removeLeftover(temporary);
    await store.backup(temporary, path);
    const db = new DatabaseSync(temporary);
    try {
      db.exec(
        "PRAGMA journal_mode = DELETE; CREATE TABLE backup_files (name TEXT PRIMARY KEY, content BLOB NOT NULL) STRICT",
      );
      const insert = db.prepare("INSERT INTO backup_files (name, content) VALUES (?, ?)");
      for (const name of [...NEEDED, ...OPTIONAL]) {
        const content = readOwn(state.dir, name, path);
        if (content !== undefined) insert.run(name, content);
      }
    } finally {
      db.close();
    }
    renameSync(temporary, path);
  } catch (error) {
    throw error instanceof TunnelError
      ? error
      : new TunnelError("store.failed", `Cannot write backup "${path}": ${whyNotWritten(error)}`, { cause: error });
  } finally {
    discard(temporary);
  }
}

/**
 * Makes a state directory of a backup. What was in the directory goes into a folder there, whose path is given; undefined
 * = it was empty. All of it happens inside the directory, which may be a mount, or lie where its owner cannot write. The
 * caller makes sure that no edge runs on it. What an earlier restore left that died in the middle is put back first, and
 * when this one dies {@link refuseHalfRestored} says so. `prepare`: looks at the new files before they are put into
 * place, and may throw. Throws `store.failed` for a file that is no backup; then nothing is changed.
 */
export function restoreEdgeBackup(
  path: string,
  dir: string,
  nowMs: number,
  prepare: (fresh: string) => void,
): string | undefined {
  const backup = openBackup(path);
  try {
    return asOwnerOf(dir, () => restoreInto(dir, { path, backup, nowMs, prepare }));
  } finally {
    closeSync(backup);
  }
}

interface Restoring {
  readonly path: string;
  /** The file, open. */
  readonly backup: number;
  readonly nowMs: number;
  readonly prepare: (fresh: string) => void;
}

function restoreInto(dir: string, { path, backup, nowMs, prepare }: Restoring): string | undefined {
  const name = `.restore-${process.pid}`;
  const fresh = join(dir, name);
  const made = !existsSync(dir);
  try {
    undoMoves(dir);
    removeLeftovers(dir);
    unpack(path, backup, fresh);
    prepare(fresh);
    for (const each of readdirSync(fresh)) syncFile(join(fresh, each));
    return exchange(dir, name, freeName(dir, `${ASIDE}${stamp(nowMs)}`));
  } catch (error) {
    if (made) rmSync(dir, { recursive: true, force: true });
    throw error instanceof TunnelError
      ? error
      : new TunnelError("store.failed", `Cannot restore "${path}": ${describe(error)}`, { cause: error });
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
}

/** Moves what is in a directory aside, and what is in `fresh` to its place; or nothing, when that fails. */
function exchange(dir: string, fresh: string, aside: string): string | undefined {
  const old = readdirSync(dir).filter((name) => !LOCK.test(name) && !isRestoresOwn(name));
  if (old.length > 0) mkdirSync(join(dir, aside), { mode: 0o700 });
  moveAll(dir, [
    ...old.map((name) => [name, `${aside}/${name}`] as const),
    ...readdirSync(join(dir, fresh)).map((name) => [`${fresh}/${name}`, name] as const),
  ]);
  return old.length > 0 ? join(dir, aside) : undefined;
}

/** The name itself, or with a number when there was another restore within the same second. */
function freeName(dir: string, name: string): string {
  let free = name;
  for (let n = 2; existsSync(join(dir, free)); n += 1) free = `${name}_${n}`;
  return free;
}

/** Before anything else: what root may read may be closed to the owner of the state directory. */
function openBackup(path: string): number {
  if (!existsSync(path)) throw new TunnelError("store.failed", `Cannot restore "${path}": there is no such file`);
  try {
    return openSync(path, "r");
  } catch (error) {
    throw new TunnelError("store.failed", `Cannot restore "${path}": ${describe(error)}`, { cause: error });
  }
}

function unpack(path: string, backup: number, dir: string): void {
  mkdirSync(dirname(dir), { recursive: true, mode: 0o700 });
  mkdirSync(dir, { mode: 0o700 });
  const database = join(dir, DATABASE);
  copyFrom(backup, database);
  const db = new DatabaseSync(database);
  try {
    const rows = readFiles(db, path);
    for (const name of NEEDED) {
      if (!rows.has(name)) throw new TunnelError("store.failed", `Cannot restore "${path}": it lacks ${name}`);
    }
    for (const [name, content] of rows) replaceFile(join(dir, name), content, { mode: MODES[name] ?? 0o600 });
    // Overwritten, too: the database alone must not give its keys away.
    db.exec("PRAGMA secure_delete = ON; DROP TABLE backup_files; PRAGMA journal_mode = WAL");
  } finally {
    db.close();
  }
}

/** Only the names we write: a backup from elsewhere must not place files where it likes. */
function readFiles(db: DatabaseSync, path: string): ReadonlyMap<string, Uint8Array> {
  try {
    const found = new Map<string, Uint8Array>();
    for (const row of db.prepare("SELECT name, content FROM backup_files").all()) {
      const { name, content } = row as { readonly name: string; readonly content: Uint8Array };
      if ([...NEEDED, ...OPTIONAL].some((known) => known === name)) found.set(name, content);
    }
    return found;
  } catch (error) {
    throw new TunnelError(
      "store.failed",
      `Cannot restore "${path}": it is not a backup that culvert edge backup wrote`,
      { cause: error },
    );
  }
}

/** Whoever kept the backup may have let others read it, so the copy has a mode of its own. */
function copyFrom(backup: number, path: string): void {
  const file = openSync(path, "wx", 0o600);
  try {
    const chunk = new Uint8Array(COPIED_AT_ONCE);
    for (let read = readSync(backup, chunk); read > 0; read = readSync(backup, chunk)) {
      for (let written = 0; written < read; ) written += writeSync(file, chunk, written, read - written);
    }
  } finally {
    closeSync(file);
  }
}

/** A file of the state directory for a backup, and nothing that a link there leads to; undefined where there is none. */
function readOwn(dir: string, name: string, backup: string): Uint8Array | undefined {
  const path = join(dir, name);
  if (!existsSync(path)) return undefined;
  try {
    return asOwnerOf(dir, () => {
      // Windows does not know the last one.
      const file = openSync(path, constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0));
      try {
        return readFileSync(file);
      } finally {
        closeSync(file);
      }
    });
  } catch (error) {
    throw new TunnelError("store.failed", `Cannot write backup "${backup}": ${describe(error)}`, { cause: error });
  }
}

/** What SQLite and others wrote last may be in memory only. */
function syncFile(path: string): void {
  const file = openSync(path, "r+");
  try {
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

/** Such as `20261121T101500Z`. */
function stamp(nowMs: number): string {
  return new Date(nowMs).toISOString().replace(/\.\d+|[-:]/g, "");
}
