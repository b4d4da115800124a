import { closeSync, openSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { describe, systemCode, TunnelError } from "../../core/errors.ts";
import { asOwnerOf } from "./folder-owner.ts";
import { writeWhole } from "./place-file.ts";
import { isBusy } from "./sqlite/sqlite-errors.ts";

const LOCK_FILE = "edge.lock";
const PID_FILE = "edge.pid";

/** Kept from the garbage collector, which closes what nobody can reach, and so would unlock it. */
const held = new Set<DatabaseSync>();

/**
 * Takes a state directory for the edge in this process. The lock is one of the operating system on a file that nobody
 * reads, by way of SQLite: runtimes have no other call for it, and what the system holds cannot be left behind by
 * `kill -9` as a file can. Held until it is disposed, or the process is gone in whatever way. Throws `store.conflict` while
 * another edge has it, `store.failed` when it cannot be asked.
 */
export function lockStateDir(dir: string): Disposable {
  return asOwnerOf(dir, () => take(dir));
}

function take(dir: string): Disposable {
  const pidPath = join(dir, PID_FILE);
  const db = openLock(dir);
  try {
    // Never in WAL mode, where an exclusive lock lets others in.
    db.exec("PRAGMA busy_timeout = 0; PRAGMA journal_mode = DELETE; BEGIN EXCLUSIVE");
  } catch (error) {
    db.close();
    if (!isBusy(error)) throw failed(dir, error);
    throw new TunnelError(
      "store.conflict",
      `Cannot use state directory "${dir}": another edge runs on it${owner(pidPath)}`,
      { cause: error },
    );
  }
  try {
    writeWhole(pidPath, `${process.pid}\n`, 0o600);
  } catch (error) {
    db.close();
    throw failed(dir, error);
  }
  held.add(db);
  return {
    [Symbol.dispose]() {
      if (!held.delete(db)) return;
      rmSync(pidPath, { force: true });
      db.close();
    },
  };
}

function openLock(dir: string): DatabaseSync {
  const path = join(dir, LOCK_FILE);
  try {
    // SQLite would make it readable for all. Only a new file is opened: closing one that this process has locked would
    // unlock it (POSIX, fcntl).
    closeSync(openSync(path, "wx", 0o600));
  } catch (error) {
    if (systemCode(error) !== "EEXIST") throw failed(dir, error);
  }
  try {
    return new DatabaseSync(path);
  } catch (error) {
    throw failed(dir, error);
  }
}

/** The file may be missing for a moment while its writer starts. */
function owner(pidPath: string): string {
  try {
    const pid = readFileSync(pidPath, "utf8").trim();
    return /^\d{1,10}$/.test(pid) ? ` (process ${pid})` : "";
  } catch {
    return "";
  }
}

function failed(dir: string, error: unknown): TunnelError {
  return new TunnelError("store.failed", `Cannot lock state directory "${dir}": ${describe(error)}`, { cause: error });
}
