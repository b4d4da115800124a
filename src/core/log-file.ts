import { mkdirSync } from "node:fs";
import { type FileHandle, open, readdir, rename, stat, unlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Clock } from "./clock.ts";
import { delay } from "./clock.ts";
import { describe, TunnelError } from "./errors.ts";
import type { LogRecord } from "./log.ts";
import { renderJson } from "./log.ts";
import { LogLosses } from "./log-losses.ts";

/** Name in a log directory, which whoever collects cloudflared's logs looks for. */
const NAME = "cloudflared";
const EXTENSION = ".log";
/** Text that may wait for the disk; what comes on top is dropped and counted. */
export const MAX_QUEUED_CHARS = 4 * 1024 * 1024;
const FILE_MODE = 0o644;
const DIRECTORY_MODE = 0o744;
/** Between two looks whether the file was moved away, in ms. */
const LOOK_MS = 2_000;
/** How long what waits may take to be written at the end, in ms. */
const CLOSE_MS = 2_000;
const MIB = 1024 * 1024;
const NEWLINE = 0x0a;
const SLOW = "the disk does not keep up";

/** Where lines go (surface: section 17). */
export type LogFileTarget =
  | { readonly kind: "file"; readonly path: string }
  | {
      readonly kind: "directory";
      readonly path: string;
      /** A file that would become larger is put aside, in MiB. */
      readonly maxMegabytes: number;
      /** Files put aside that are kept; 0 = all. */
      readonly maxFiles: number;
      /** How long they are kept, in ms; 0 = for ever. */
      readonly maxAgeMs: number;
    };

/**
 * Log lines as JSON in a file, or in a directory with files that are put aside when they are full
 * (`cloudflared-2006-01-02T15-04-05.000.log`). Adding a line never waits: a bounded queue is written in the background.
 * A file that was moved away (logrotate) is opened anew. A full disk loses lines and nothing else: the next one never
 * goes on where a torn one ended.
 */
export class LogFile {
  readonly #target: LogFileTarget;
  readonly #path: string;
  readonly #clock: Clock;
  #file: FileHandle | undefined;
  #inode = 0;
  #bytes = 0;
  #lookedAtMs = 0;
  #lines: string[] = [];
  #chars = 0;
  #writing: Promise<void> | undefined;
  #closed = false;
  /** The file ends within a line. */
  #torn = false;
  readonly #losses: LogLosses;

  private constructor(target: LogFileTarget, clock: Clock, onLost: (lines: number, why: string) => void) {
    this.#target = target;
    this.#path = target.kind === "file" ? target.path : join(target.path, `${NAME}${EXTENSION}`);
    this.#clock = clock;
    this.#losses = new LogLosses(clock, (lines, why) => onLost(lines, why));
  }

  /**
   * Opens the file for appending, making its folder where that is missing, as cloudflared does. Rejects with
   * `config.invalid`. `onLost` is told of lines that were lost, at most every
   * ten seconds; it must not write them here.
   */
  static async open(
    target: LogFileTarget,
    clock: Clock,
    onLost: (lines: number, why: string) => void = () => {},
  ): Promise<LogFile> {
    const file = new LogFile(target, clock, onLost);
    try {
      const folder = target.kind === "directory" ? target.path : dirname(target.path);
      mkdirSync(folder, { recursive: true, mode: DIRECTORY_MODE });
      await file.#open();
    } catch (error) {
      throw new TunnelError("config.invalid", `Cannot write the log file "${file.#path}": ${describe(error)}`);
    }
    return file;
  }

  /** Lines that were lost: the queue was full, or the disk. */
  get dropped(): number {
    return this.#losses.total;
  }

  readonly take = (record: LogRecord): void => {
    if (this.#closed) return;
    const line = `${renderJson(record)}\n`;
    if (this.#chars + line.length > MAX_QUEUED_CHARS) {
      this.#losses.add(1, SLOW);
      return;
    }
    this.#lines.push(line);
    this.#chars += line.length;
    this.#start();
  };

  /** Writes what waits, within two seconds. */
  async close(): Promise<void> {
    const patience = new AbortController();
    await Promise.race([this.#writing, delay(this.#clock, CLOSE_MS, patience.signal)]);
    patience.abort();
    this.#closed = true;
    this.#losses.add(this.#lines.length, SLOW);
    this.#losses.flush();
    await this.#file?.close().catch(() => {});
    this.#file = undefined;
  }

  #start(): void {
    this.#writing ??= this.#drain().finally(() => {
      this.#writing = undefined;
      if (this.#lines.length > 0 && !this.#closed) this.#start();
    });
  }

  async #drain(): Promise<void> {
    while (this.#lines.length > 0 && !this.#closed) {
      const batch = this.#nextBatch();
      let written = 0;
      try {
        await this.#prepare(batch.bytes.length);
        await this.#endTornLine();
        while (written < batch.bytes.length) written += await this.#write(batch.bytes.subarray(written));
      } catch (error) {
        this.#losses.add(batch.lines - linesIn(batch.bytes.subarray(0, written)), describe(error));
      }
    }
  }

  async #endTornLine(): Promise<void> {
    if (this.#torn) await this.#write(Buffer.of(NEWLINE));
  }

  /** Gives how much of it was written: a disk takes what it has room for before it says that it is full. */
  async #write(bytes: Buffer): Promise<number> {
    const { bytesWritten = 0 } = (await this.#file?.write(bytes)) ?? {};
    if (bytesWritten === 0) throw new TunnelError("config.invalid", "nothing was written");
    this.#bytes += bytesWritten;
    this.#torn = bytes[bytesWritten - 1] !== NEWLINE;
    return bytesWritten;
  }

  /** As many lines as fit into one file; one that fits into none has a file of its own. */
  #nextBatch(): { readonly bytes: Buffer; readonly lines: number } {
    const maxBytes = this.#target.kind === "file" ? Number.POSITIVE_INFINITY : this.#target.maxMegabytes * MIB;
    const room = this.#bytes < maxBytes ? maxBytes - this.#bytes : maxBytes;
    let bytes = 0;
    let count = 0;
    for (const line of this.#lines) {
      const length = Buffer.byteLength(line);
      if (count > 0 && bytes + length > room) break;
      bytes += length;
      count += 1;
    }
    const lines = this.#lines.splice(0, count);
    const text = lines.join("");
    this.#chars -= text.length;
    return { bytes: Buffer.from(text), lines: count };
  }

  /** Sees to it that the right file is open and has room. */
  async #prepare(bytes: number): Promise<void> {
    const nowMs = this.#clock.nowMs();
    if (this.#file === undefined) await this.#open();
    else if (nowMs - this.#lookedAtMs >= LOOK_MS) {
      this.#lookedAtMs = nowMs;
      const there = await stat(this.#path).catch(() => undefined);
      if (there?.ino !== this.#inode) await this.#open();
    }
    const { kind } = this.#target;
    if (kind === "directory" && this.#bytes > 0 && this.#bytes + bytes > this.#target.maxMegabytes * MIB) {
      await this.#putAside(this.#target);
    }
  }

  async #open(): Promise<void> {
    await this.#file?.close().catch(() => {});
    this.#file = undefined;
    const file = await open(this.#path, "a", FILE_MODE);
    const found = await file.stat();
    const { ino, size } = found;
    this.#file = file;
    this.#inode = ino;
    this.#bytes = size;
    this.#torn = found.isFile() && (await endsWithinLine(this.#path, size));
  }

  async #putAside(target: Extract<LogFileTarget, { kind: "directory" }>): Promise<void> {
    const aside = join(target.path, `${NAME}-${stamp(this.#clock.wallMs())}${EXTENSION}`);
    await rename(this.#path, aside);
    await this.#open();
    await this.#prune(target).catch(() => {});
  }

  async #prune(target: Extract<LogFileTarget, { kind: "directory" }>): Promise<void> {
    const names = (await readdir(target.path)).filter((name) => ASIDE.test(name)).sort();
    const tooMany = target.maxFiles === 0 ? 0 : Math.max(0, names.length - target.maxFiles);
    const oldest = target.maxAgeMs === 0 ? "" : `${NAME}-${stamp(this.#clock.wallMs() - target.maxAgeMs)}${EXTENSION}`;
    for (const [index, name] of names.entries()) {
      if (index < tooMany || name < oldest) await unlink(join(target.path, name)).catch(() => {});
    }
  }
}

/** Whoever wrote it before may have had a full disk too, or an end in the middle. Who may not read it does not know. */
async function endsWithinLine(path: string, size: number): Promise<boolean> {
  if (size === 0) return false;
  try {
    await using file = await open(path, "r");
    const { bytesRead, buffer } = await file.read(Buffer.alloc(1), 0, 1, size - 1);
    return bytesRead === 1 && buffer[0] !== NEWLINE;
  } catch {
    return false;
  }
}

function linesIn(bytes: Buffer): number {
  let lines = 0;
  for (let at = bytes.indexOf(NEWLINE); at >= 0; at = bytes.indexOf(NEWLINE, at + 1)) lines += 1;
  return lines;
}

const ASIDE = /^cloudflared-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{3}\.log$/;

/** Local time would jump with the season; UTC sorts. */
function stamp(wallMs: number): string {
  return new Date(wallMs).toISOString().slice(0, 23).replaceAll(":", "-");
}
