import { closeSync, fchownSync, fsyncSync, linkSync, openSync, renameSync, rmSync, statSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { systemCode } from "../../core/errors.ts";

/**
 * Gives a finished file its name, unless that exists by now: of several processes that start on an empty directory the
 * first one's file stays. True when it is this one. `temporary` is gone afterwards.
 */
export function placeFile(temporary: string, path: string): boolean {
  try {
    linkSync(temporary, path);
    return true;
  } catch (error) {
    if (systemCode(error) === "EEXIST") return false;
    // Some file systems have no hard links; there the first start must be alone.
    renameSync(temporary, path);
    return true;
  } finally {
    rmSync(temporary, { force: true });
  }
}

/** Writes a file whole or not at all. */
export function writeWhole(path: string, text: string, mode: number): void {
  renameSync(writeTemporary(path, text, mode), path);
}

/** Root works in the folder of a service, too, whose account must be able to read what root leaves there. */
export function giveToFolderOwner(file: number, path: string): void {
  if (process.getuid?.() !== 0) return;
  const { uid, gid } = statSync(dirname(path));
  if (uid !== 0) fchownSync(file, uid, gid);
}

/** Writes a file beside `path`, down to the disk, and gives its name. */
export function writeTemporary(path: string, text: string, mode: number): string {
  const temporary = `${path}.${process.pid}.tmp`;
  // One that a crash left behind may have other permissions.
  rmSync(temporary, { force: true });
  const file = openSync(temporary, "wx", mode);
  try {
    giveToFolderOwner(file, path);
    writeSync(file, text);
    fsyncSync(file);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  } finally {
    closeSync(file);
  }
  return temporary;
}
