import { readFile, rm, stat } from "node:fs/promises";
import { replaceFile } from "../core/whole-file.ts";
import { parseVersion } from "./version.ts";

const MAX_FILE_BYTES = 64 * 1024;
const MAX_VERSIONS = 16;
const MAX_REASON_CHARS = 300;
/** Whoever runs `--check` may read it. */
const MODE = 0o644;

/** A version that was installed here and taken back. */
export interface Rejection {
  readonly version: string;
  /** When, ISO 8601. */
  readonly at: string;
  readonly reason: string;
  /** Somebody went back from it: a person's update takes it again, and only updates by themselves do not. */
  readonly byHand?: true;
}

/** The rejection of this version that is written in a file; undefined when there is none, or no file that says so. */
export async function rejectionOf(path: string, version: string): Promise<Rejection | undefined> {
  return (await readRejections(path)).find((each) => each.version === version);
}

/** Remembers a rejection, beside the latest others. Call it with the lock. */
export async function remember(path: string, { reason, ...rest }: Rejection): Promise<void> {
  const others = (await readRejections(path)).filter((each) => each.version !== rest.version);
  const line = reason.replaceAll(/\s+/g, " ").slice(0, MAX_REASON_CHARS);
  await writeRejections(path, [{ ...rest, reason: line }, ...others].slice(0, MAX_VERSIONS));
}

/** Forgets what was remembered of a version. Call it with the lock. */
export async function forget(path: string, version: string): Promise<void> {
  const all = await readRejections(path);
  const others = all.filter((each) => each.version !== version);
  if (others.length < all.length) await writeRejections(path, others);
}

/** A damaged file says nothing: it must not keep a machine from its updates. */
async function readRejections(path: string): Promise<readonly Rejection[]> {
  try {
    if ((await stat(path)).size > MAX_FILE_BYTES) return [];
    const raw: unknown = JSON.parse(await readFile(path, "utf8"));
    if (typeof raw !== "object" || raw === null || !("rejected" in raw) || !Array.isArray(raw.rejected)) return [];
    return (raw.rejected as unknown[]).filter(isRejection).slice(0, MAX_VERSIONS);
  } catch {
    return [];
  }
}

function isRejection(raw: unknown): raw is Rejection {
  if (typeof raw !== "object" || raw === null || !("version" in raw && "at" in raw && "reason" in raw)) return false;
  const { version, at, reason } = raw;
  if ("byHand" in raw && raw.byHand !== true) return false;
  if (typeof version !== "string" || typeof at !== "string" || typeof reason !== "string") return false;
  return parseVersion(version) !== undefined && at.length <= 64 && reason.length <= MAX_REASON_CHARS;
}

async function writeRejections(path: string, rejected: readonly Rejection[]): Promise<void> {
  if (rejected.length === 0) return await rm(path, { force: true });
  // One name, since only the holder of the lock writes.
  const temporary = `${path}.tmp`;
  replaceFile(path, `${JSON.stringify({ rejected }, undefined, 2)}\n`, { mode: MODE, temporary });
}
