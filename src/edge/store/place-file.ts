import { linkSync, renameSync, rmSync } from "node:fs";
import { dirname } from "node:path";
import { systemCode } from "../../core/errors.ts";
import { replaceFile } from "../../core/whole-file.ts";
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

/** {@link replaceFile} as the owner of the folder. */
export function writeWhole(path: string, text: string, mode: number): void {
  asOwnerOf(dirname(path), () => replaceFile(path, text, { mode }));
}
