import {
  closeSync,
  fchmodSync,
  fchownSync,
  fstatSync,
  fsyncSync,
  openSync,
  renameSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname } from "node:path";
import { systemCode } from "./errors.ts";

const PERMISSIONS = 0o777;
/** Whatever it gets at the end: nobody else reads it before. */
const FIRST_MODE = 0o600;
/** The answers of a file system that keeps no permissions. */
const NO_PERMISSIONS: ReadonlySet<string | undefined> = new Set(["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS"]);

export interface WholeFileOptions {
  /**
   * Permissions, exactly these whatever the umask is; Windows has none, and a file system that keeps none gives its own.
   */
  readonly mode: number;
  /** Id of the account that gets the file; default: whose the process is. Only root gives files away. */
  readonly owner?: number | undefined;
  /**
   * What a loss of power after the return cannot take any more: `none`, for what says nothing after one; `content`
   * (default): the file is the old one or the new one; `name`: it is the new one.
   */
  readonly durable?: "none" | "content" | "name";
  /**
   * Where the content grows, in the folder of the file; default `PATH.PID.tmp`. What is there is removed. One name for all
   * processes is only for callers that never write at the same time.
   */
  readonly temporary?: string | undefined;
}

/**
 * Gives a path a new content, whole or not at all: whoever reads it meanwhile, and after a failure, finds the old one. A
 * link in its place is replaced and what it leads to left alone, and none is followed in the place of the temporary file,
 * which is gone in any case. Throws the system's error.
 */
export function replaceFile(path: string, content: string | Uint8Array, options: WholeFileOptions): void {
  const temporary = writeBeside(path, content, options);
  try {
    renameSync(temporary, path);
  } catch (error) {
    discard(temporary);
    throw error;
  }
  if (options.durable === "name") syncFolder(dirname(path));
}

/**
 * The first half of {@link replaceFile}, for whoever gives the file its name in another way.
 *
 * @returns the temporary file
 */
export function writeBeside(path: string, content: string | Uint8Array, options: WholeFileOptions): string {
  const temporary = options.temporary ?? `${path}.${process.pid}.tmp`;
  // One that a crash left behind may be another's.
  removeLeftover(temporary);
  const file = openSync(temporary, "wx", FIRST_MODE);
  try {
    // Called with a descriptor it goes on after a write that took a part only.
    writeFileSync(file, content);
    setPermissions(file, options);
    if (options.durable !== "none") fsyncSync(file);
  } catch (error) {
    discard(temporary);
    throw error;
  } finally {
    closeSync(file);
  }
  return temporary;
}

/** Removes a file where there is one. Throws the system's error; that of Bun's `rmSync` says something else. */
export function removeLeftover(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if (systemCode(error) !== "ENOENT") throw error;
  }
}

/** Removes what a failure leaves, as far as that can be done: the failure is what its caller has to know. */
export function discard(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // It is not there, or whatever hindered the work hinders this too.
  }
}

/** Names that were given or taken in a folder survive a loss of power after that. Windows cannot be asked for it. */
export function syncFolder(path: string): void {
  if (process.platform === "win32") return;
  const folder = openSync(path, "r");
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}

/** Of the open file: its name may lead elsewhere by now, where another account may write in the folder. */
function setPermissions(file: number, { mode, owner }: WholeFileOptions): void {
  if (process.platform === "win32") return;
  const now = fstatSync(file);
  if ((now.mode & PERMISSIONS) !== mode) {
    try {
      fchmodSync(file, mode);
    } catch (error) {
      // Who has made a file may set its mode, unless modes do not count there: whoever mounted that decides who reads it,
      // a secret too, and no other way to write the file would change that.
      if (!NO_PERMISSIONS.has(systemCode(error))) throw error;
    }
  }
  if (owner !== undefined && now.uid !== owner) fchownSync(file, owner, now.gid);
}
