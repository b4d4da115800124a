import { closeSync, fsyncSync, openSync } from "node:fs";
import { dirname } from "node:path";
import { TunnelError } from "../../../core/errors.ts";
import { discard, removeLeftover } from "../../../core/whole-file.ts";
import { placeFile } from "../place-file.ts";
import type { Database } from "./database.ts";
import { toStoreError } from "./sqlite-errors.ts";

/**
 * Writes the database as it is now into a file of its own, readable by its owner only, that is there whole or not at
 * all. Other processes go on writing meanwhile; this one waits, about 2 ms for each MB. What was deleted is not in it.
 * `named`: what errors call the file.
 */
export function writeBackup(db: Database, path: string, named: string): void {
  const doing = `Cannot write backup "${named}"`;
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    removeLeftover(temporary);
    closeSync(openSync(temporary, "wx", 0o600));
    db.copyTo(temporary);
    toDisk(temporary);
    if (!placeFile(temporary, path)) throw new TunnelError("store.conflict", `${doing}: the file exists`);
    toDisk(dirname(path));
  } catch (error) {
    throw toStoreError(error, doing, true);
  } finally {
    discard(temporary);
  }
}

function toDisk(path: string): void {
  const file = openSync(path, "r");
  try {
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}
