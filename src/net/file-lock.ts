import { closeSync, existsSync, openSync, rmSync } from "node:fs";
import { systemCode } from "../core/errors.ts";

/** `SQLITE_FCNTL_HAS_MOVED` of sqlite3.h: whether the path leads to another file by now, or to none. */
const HAS_MOVED = 20;
/** Each try that is in vain means that another holder has come and gone. */
const MAX_TRIES = 100;

/** Kept from the garbage collector, which closes what nobody can reach, and so would unlock it. */
const held = new Set<{ close(): void }>();

/**
 * Takes the file at `path`, which is made with mode 0600 and removed at the end, for this process alone. The lock is one
 * of the operating system, by way of SQLite, which knows the right one on each: it ends with its process, in whatever
 * way that ends, and no number of a process is compared. Throws the system's error when the file cannot be made.
 *
 * @returns gives it back; undefined = another process, or another part of this one, has it
 */
export async function lockFile(path: string): Promise<(() => void) | undefined> {
  const { Database } = await import("bun:sqlite");
  for (let tries = 0; tries < MAX_TRIES; tries++) {
    makeFile(path);
    const db = open(Database, path);
    if (db === undefined) continue;
    try {
      // Nothing is written, so no journal is wanted beside it.
      db.run("PRAGMA busy_timeout = 0; PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE");
    } catch (error) {
      const moved = hasMoved(db);
      db.close();
      if (!isBusy(error)) throw error;
      // Its holder has just given it back.
      if (moved) continue;
      return undefined;
    }
    if (!hasMoved(db)) {
      held.add(db);
      return () => release(path, db);
    }
    // Removed by its holder between our opening and our locking: others lock another file under this name.
    db.close();
  }
  return undefined;
}

/** Removed while it is held: whoever has opened it by now sees that it has moved. */
function release(path: string, db: { close(): void }): void {
  if (!held.delete(db)) return;
  const remove = (): void => rmSync(path, { force: true });
  if (process.platform !== "win32") remove();
  db.close();
  if (process.platform !== "win32") return;
  try {
    // Refused there while anybody has it open, and then it is in use.
    remove();
  } catch {}
}

/** One that is there is not opened: closing it would unlock it where this process has it (POSIX, fcntl). */
function makeFile(path: string): void {
  try {
    closeSync(openSync(path, "wx", 0o600));
  } catch (error) {
    if (systemCode(error) !== "EEXIST") throw error;
  }
}

/** Undefined when its holder has removed it meanwhile. Made by SQLite it would be readable for all. */
function open(Database: typeof import("bun:sqlite").Database, path: string) {
  try {
    return new Database(path, { readwrite: true, create: false });
  } catch (error) {
    if (existsSync(path)) throw error;
    return undefined;
  }
}

function hasMoved(db: { fileControl(name: string, op: number, result: Int32Array): number }): boolean {
  // Windows, where SQLite does not know the question, removes no file that is open.
  const answer = new Int32Array(2);
  db.fileControl("main", HAS_MOVED, answer);
  return answer[0] !== 0;
}

function isBusy(error: unknown): boolean {
  return /^SQLITE_(BUSY|LOCKED)/.test(systemCode(error) ?? "");
}
