import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { open, rm, stat, statfs } from "node:fs/promises";
import { dirname } from "node:path";
import { type Clock, delay } from "../core/clock.ts";
import { systemCode, TunnelError, toTunnelError } from "../core/errors.ts";
import type { ReleaseFile } from "./manifest.ts";
import type { ReleaseFolder } from "./source.ts";

/** Tries in a row that bring nothing. */
const MAX_VAIN_TRIES = 4;
const FIRST_PAUSE_MS = 500;
/** What a disk is left with beside the download, in bytes. */
const SPARE_BYTES = 1024 * 1024;
const NO_SPACE: ReadonlySet<string | undefined> = new Set(["ENOSPC", "EDQUOT", "EFBIG"]);

export interface DownloadOptions {
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly onProgress: (doneBytes: number, totalBytes: number) => void;
  /** The first pause between tries, in ms; doubles while they bring nothing. @default 500 */
  readonly firstPauseMs?: number;
}

/**
 * Downloads one file of a release to `path`, going on with what an earlier try left there. Resolves when the content
 * has the size and the SHA-256 of the manifest. Throws a TunnelError; what has come by then stays for the next time,
 * unless it was wrong or the disk is full.
 */
export async function download(
  folder: ReleaseFolder,
  file: ReleaseFile,
  path: string,
  options: DownloadOptions,
): Promise<void> {
  const before = await sizeOf(path);
  if (before > file.sizeBytes) await rm(path, { force: true });
  await transfer(folder, file, path, options);
  if (await isWhole(path, file)) return;
  if (before > 0) {
    // What lay there may have been of something else: once more, from the start.
    await transfer(folder, file, path, options);
    if (await isWhole(path, file)) return;
  }
  throw new TunnelError("update.failed", `"${file.name}" has not the SHA-256 that the manifest says`);
}

/** Whether the content is what the manifest says; if not, it is removed. */
async function isWhole(path: string, { sha256 }: ReleaseFile): Promise<boolean> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path)) hash.update(chunk as Uint8Array);
  if (hash.digest("hex") === sha256) return true;
  await rm(path, { force: true });
  return false;
}

/** Until the file has its size. */
async function transfer(
  folder: ReleaseFolder,
  file: ReleaseFile,
  path: string,
  options: DownloadOptions,
): Promise<void> {
  await checkSpace(path, file.sizeBytes - (await sizeOf(path)));
  const { firstPauseMs = FIRST_PAUSE_MS } = options;
  let most = 0;
  for (let vain = 0; ; ) {
    const have = await sizeOf(path);
    // A server that knows no ranges begins anew each time: only more than ever before is worth going on for.
    most = Math.max(most, have);
    if (have === file.sizeBytes) return;
    let failure: TunnelError;
    try {
      await transferOnce(folder, file, path, have, options);
      failure = new TunnelError("update.failed", `"${file.name}" was cut short`, { retry: "same" });
    } catch (error) {
      failure = await explain(error, path);
    }
    const now = await sizeOf(path);
    if (now === file.sizeBytes) return;
    if (failure.retry === "never") throw failure;
    vain = now > most ? 0 : vain + 1;
    if (vain >= MAX_VAIN_TRIES) throw failure;
    if (!(await delay(options.clock, firstPauseMs * 2 ** vain, options.signal))) {
      throw new TunnelError("aborted", "Stopped");
    }
  }
}

/** As much as one request brings. */
async function transferOnce(
  folder: ReleaseFolder,
  file: ReleaseFile,
  path: string,
  have: number,
  { onProgress }: DownloadOptions,
): Promise<void> {
  const { offset, chunks } = await folder.open(file.name, have);
  const handle = await open(path, offset > 0 ? "r+" : "w", 0o600);
  let at = offset;
  try {
    for await (const chunk of chunks) {
      if (at + chunk.length > file.sizeBytes) {
        await rm(path, { force: true });
        throw new TunnelError("update.failed", `"${file.name}" is larger than the manifest says`);
      }
      await writeAll(handle, chunk, at);
      at += chunk.length;
      onProgress(at, file.sizeBytes);
    }
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function writeAll(handle: Awaited<ReturnType<typeof open>>, chunk: Uint8Array, at: number): Promise<void> {
  for (let done = 0; done < chunk.length; ) {
    const { bytesWritten } = await handle.write(chunk, done, chunk.length - done, at + done);
    done += bytesWritten;
  }
}

async function explain(error: unknown, path: string): Promise<TunnelError> {
  if (!NO_SPACE.has(systemCode(error))) return toTunnelError(error, "update.failed", `Cannot write "${path}"`);
  // A full disk hurts others too: give back what we took.
  await rm(path, { force: true });
  return noSpace(path, error);
}

async function checkSpace(path: string, wantedBytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(dirname(path));
  if (bavail * bsize < wantedBytes + SPARE_BYTES) throw noSpace(path);
}

function noSpace(path: string, cause?: unknown): TunnelError {
  return new TunnelError("update.failed", `There is no space left in "${dirname(path)}"`, { cause });
}

async function sizeOf(path: string): Promise<number> {
  return await stat(path).then(
    ({ size }) => size,
    () => 0,
  );
}
