import { describe, systemCode, TunnelError } from "../../../core/errors.ts";
import { whyNotWritten } from "../../../core/write-failure.ts";

/** SQLite's result codes (https://www.sqlite.org/rescode.html). */
const BUSY = 5;
const IO_ERROR = 10;
const FULL = 13;
/** Input or output that failed for another reason than a lack of room: reading, reading too little, a broken file system. */
const NOT_FULL: ReadonlySet<number> = new Set([266, 522, 8_458]);
const FOREIGN_KEY = 787;
const PRIMARY_KEY = 1555;
const UNIQUE = 2067;

/** The same in the messages of a runtime that keeps the number to itself. */
const BY_MESSAGE: readonly (readonly [string, number])[] = [
  ["database is locked", BUSY],
  ["disk I/O error", IO_ERROR],
  ["database or disk is full", FULL],
  ["FOREIGN KEY constraint failed", FOREIGN_KEY],
  ["UNIQUE constraint failed", UNIQUE],
];

/**
 * What the store throws for what SQLite or the file system threw. `writing`: a failed input or output means then that
 * there is no room, which is how a file that cannot grow under a memory map shows.
 */
export function toStoreError(thrown: unknown, doing: string, writing: boolean): TunnelError {
  if (thrown instanceof TunnelError) return thrown;
  const code = resultCode(thrown);
  const fail = (
    kind: "store.full" | "store.conflict" | "store.missing" | "store.failed",
    why: string,
    retry: "same" | "never" = "never",
  ): TunnelError => new TunnelError(kind, `${doing}: ${why}`, { cause: thrown, retry });
  if (isFull(thrown, writing)) return fail("store.full", "no space left for the database", "same");
  if (code === UNIQUE || code === PRIMARY_KEY) return fail("store.conflict", "it exists already");
  if (code === FOREIGN_KEY) return fail("store.missing", "what it refers to does not exist");
  if (isBusy(thrown)) return fail("store.failed", "another process holds the database", "same");
  return fail("store.failed", writing ? whyNotWritten(thrown) : describe(thrown));
}

/** Another process or connection has the file. */
export function isBusy(thrown: unknown): boolean {
  return (resultCode(thrown) ?? 0) % 256 === BUSY;
}

function isFull(thrown: unknown, writing: boolean): boolean {
  const code = resultCode(thrown) ?? 0;
  const system = systemCode(thrown);
  const noGrowth = writing && code % 256 === IO_ERROR && !NOT_FULL.has(code);
  return code % 256 === FULL || noGrowth || system === "ENOSPC" || system === "EDQUOT";
}

function resultCode(thrown: unknown): number | undefined {
  if (!(thrown instanceof Error)) return undefined;
  if ("errcode" in thrown && typeof thrown.errcode === "number") return thrown.errcode;
  return BY_MESSAGE.find(([message]) => thrown.message.includes(message))?.[1];
}
