import { closeSync, fsyncSync, linkSync, openSync, renameSync, rmSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { systemCode } from "../../core/errors.ts";
import { asOwnerOf } from "./folder-owner.ts";

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
  asOwnerOf(dirname(path), () => renameSync(writeTemporary(path, text, mode), path));
}

/** Writes a file beside `path`, down to the disk, and gives its name. */
export function writeTemporary(path: string, text: string, mode: number): string {
  const temporary = `${path}.${process.pid}.tmp`;
  // One that a crash left behind may have other permissions.
  rmSync(temporary, { force: true });
  const file = openSync(temporary, "wx", mode);
  try {
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
