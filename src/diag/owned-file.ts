import { closeSync, constants, fstatSync, openSync, readSync, statSync } from "node:fs";
import { isAbsolute } from "node:path";

/** Whose file may be read. */
export interface Reader {
  /** The account of whoever named the file; undefined = not known. */
  readonly namedBy: number | undefined;
  /** The account that reads; undefined = this system has no such numbers. */
  readonly self: number | undefined;
}

/**
 * The end of a file that somebody else named: only of a regular file, which belongs to the account that named it, so that
 * nobody has another one's file read for them. Where that account is not known, the reader's own files count, but not
 * root's. Throws when it may or can not be read.
 */
export function readOwnedTail(path: string, maxBytes: number, { namedBy, self }: Reader): string {
  if (!isAbsolute(path)) throw new Error(`It is not known in which directory ${path} is`);
  // A device is not even opened, and nothing that took its place is waited for.
  if (!statSync(path).isFile()) throw new Error(`${path} is no regular file`);
  const file = openSync(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
  try {
    const stats = fstatSync(file);
    const { size, uid } = stats;
    if (!stats.isFile()) throw new Error(`${path} is no regular file`);
    const owner = namedBy ?? (self === 0 ? undefined : self);
    if (self !== undefined && uid !== owner) {
      throw new Error(`${path} belongs to another account than the connector: add it by hand if it is the log`);
    }
    const bytes = Buffer.alloc(Math.min(size, maxBytes));
    const length = readSync(file, bytes, 0, bytes.length, size - bytes.length);
    return bytes.toString("utf8", 0, length);
  } finally {
    closeSync(file);
  }
}
