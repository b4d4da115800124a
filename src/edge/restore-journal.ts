import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { z } from "zod";
import { describe, systemCode, TunnelError } from "../core/errors.ts";
import { syncFolder } from "../core/whole-file.ts";
import { writeWhole } from "./store/place-file.ts";

/** There while a restore is under way in the directory: what is moved where. */
export const RESTORE_JOURNAL = "restore.pending";
const DATABASE = "culvert.db";
/** Folders of a state directory: what a restore unpacks, and what restores have put aside. */
const FRESH = /^\.restore-\d+$/;
const ASIDE = /^before-\w+$/;
/** A file of the directory, or of a folder in it that restores make. */
const PLACE = /^((\.restore-\d+|before-\w+)\/)?(?!\.{1,2}$)[^/\\\0]+$/;

const place = z.string().regex(PLACE);
const Journal = z.object({
  /** `[from, to]`, below the directory, in order. */
  moves: z.array(z.tuple([place, place])),
});
export type Move = readonly [from: string, to: string];

/** What restores leave in a directory or keep there meanwhile, which is no state of the edge. */
export function isRestoresOwn(name: string): boolean {
  return name === RESTORE_JOURNAL || name.startsWith(`${RESTORE_JOURNAL}.`) || FRESH.test(name) || ASIDE.test(name);
}

/**
 * Moves files and folders inside of `dir`: all of them, or none when one fails. When the process dies in between, what is
 * there stays marked as half of something until {@link undoMoves} is called. On disk when it returns.
 */
export function moveAll(dir: string, moves: readonly Move[]): void {
  const journal = join(dir, RESTORE_JOURNAL);
  writeWhole(journal, `${JSON.stringify({ moves })}\n`, 0o600);
  syncFolder(dir);
  try {
    for (const [from, to] of moves) renameSync(join(dir, from), join(dir, to));
    for (const folder of new Set(moves.flat().map((path) => dirname(join(dir, path))))) syncFolder(folder);
  } catch (error) {
    undoMoves(dir);
    throw error;
  }
  rmSync(journal);
  syncFolder(dir);
}

/**
 * Puts back what a restore that died has moved, and removes what it has unpacked: the directory is as it was before. Can be
 * called again when it dies as well. Throws `store.failed` for a journal that nobody here wrote.
 */
export function undoMoves(dir: string): void {
  const journal = join(dir, RESTORE_JOURNAL);
  if (!existsSync(journal)) return;
  const moves = readMoves(journal);
  const is = (path: string): boolean => existsSync(join(dir, path));
  const folders = [...new Set(moves.flat().map((path) => dirname(path)))];
  for (const folder of folders) mkdirSync(join(dir, folder), { recursive: true, mode: 0o700 });
  const moved = new Map(moves);
  for (const [from, to] of moves.toReversed()) {
    // Not moved yet, or moved back already.
    if (is(from) || !is(to)) continue;
    const former = moved.get(to);
    // What was there before is there again.
    if (former !== undefined && !is(former)) continue;
    renameSync(join(dir, to), join(dir, from));
  }
  for (const folder of folders) syncFolder(join(dir, folder));
  rmSync(journal);
  syncFolder(dir);
  // Not before: as long as the journal says so, what these folders lack was moved out of them.
  removeLeftovers(dir);
}

/** Removes what restores left that died, but what they put aside; whoever calls makes sure that none is at work. */
export function removeLeftovers(dir: string): void {
  for (const name of namesIn(dir)) {
    const path = join(dir, name);
    if (FRESH.test(name) || name.startsWith(`${RESTORE_JOURNAL}.`)) rmSync(path, { recursive: true, force: true });
    else if (ASIDE.test(name)) removeEmpty(path);
  }
}

/**
 * Throws `store.failed` for a directory in which a restore has died, or is at work: an edge that starts there would make new
 * keys without a word, and its connectors and their tunnels would be lost.
 */
export function refuseHalfRestored(dir: string): void {
  const names = namesIn(dir);
  const again = "run culvert edge restore FILE again";
  const refuse = (why: string, other: string): never => {
    throw new TunnelError("store.failed", `Cannot use state directory "${dir}": ${why}: ${again}, or ${other}`);
  };
  if (names.includes(RESTORE_JOURNAL)) {
    const journal = join(dir, RESTORE_JOURNAL);
    const aside = readMoves(journal).find(([, to]) => ASIDE.test(dirname(to)))?.[1];
    const back = aside === undefined ? "" : `move back from ${join(dir, dirname(aside))} what is there, and `;
    refuse("a restore was cut off in the middle, or is still at work", `${back}remove ${journal}`);
  }
  if (names.includes(DATABASE)) return;
  const left = names.filter((name) => FRESH.test(name) || ASIDE.test(name)).toSorted();
  const [found] = left;
  if (found === undefined) return;
  const back = ASIDE.test(found) ? `move back from ${join(dir, found)} what is there, or ` : "";
  const places = left.map((name) => join(dir, name)).join(", ");
  refuse(`its ${DATABASE} is missing, and a restore was there`, `${back}move ${places} away to start over`);
}

function readMoves(journal: string): readonly Move[] {
  try {
    return Journal.parse(JSON.parse(readFileSync(journal, "utf8"))).moves;
  } catch (error) {
    const why = error instanceof z.ZodError ? z.prettifyError(error) : describe(error);
    throw new TunnelError("store.failed", `Cannot read "${journal}": ${why}`, { cause: error });
  }
}

function namesIn(dir: string): readonly string[] {
  try {
    return readdirSync(dir);
  } catch (error) {
    if (systemCode(error) === "ENOENT") return [];
    throw error;
  }
}

/** What somebody else has put there stays. */
function removeEmpty(folder: string): void {
  try {
    rmdirSync(folder);
  } catch (error) {
    if (!["ENOENT", "ENOTEMPTY", "EEXIST"].includes(systemCode(error) ?? "")) throw error;
  }
}
