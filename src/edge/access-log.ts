import { constants, write } from "node:fs";
import { type FileHandle, open, stat } from "node:fs/promises";
import type { CancelTimer, Clock } from "../core/clock.ts";
import { delay } from "../core/clock.ts";
import { describe, systemCode, TunnelError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";

/** Text that may wait for the disk; what comes when it is full is dropped and counted. */
export const MAX_QUEUED_BYTES = 4 * 1024 * 1024;
/** Bytes of one write. */
const BATCH_BYTES = 256 * 1024;
/** Between two looks whether the file was moved away, in ms. */
const LOOK_MS = 2_000;
/** Between two words about lines that were lost, in ms. */
const SAY_EVERY_MS = 10_000;
/** How long a reader that is behind is waited for until it is asked again, in ms. */
const READER_RETRY_MS = 50;
/** How long what waits may take to be written at the end, in ms. */
const CLOSE_MS = 2_000;
const STDOUT = 1;

export interface AccessLogCounters {
  lines: number;
  /** Lines that were lost: the queue was full, or the disk. */
  dropped: number;
}

/**
 * Lines of the access log on their way to a file, or to standard output (`-`). Adding one never waits: a queue of
 * bounded size is written in the background, and what does not fit is dropped, counted and said. A file that was
 * renamed or removed (logrotate) is opened anew, at {@link reopen} at once. A full disk loses lines and nothing else.
 */
export class AccessLog {
  readonly counters: AccessLogCounters = { lines: 0, dropped: 0 };
  readonly #path: string | undefined;
  readonly #clock: Clock;
  readonly #log: Logger;
  #file: FileHandle | undefined;
  #inode = "";
  #queue: Buffer[] = [];
  #queuedBytes = 0;
  #writing: Promise<void> | undefined;
  #reopen = false;
  #closed = false;
  #saidAtMs = Number.NEGATIVE_INFINITY;
  #unsaid = 0;
  #reason = "";
  #cancelLook: CancelTimer = () => {};

  private constructor(path: string | undefined, deps: { readonly clock: Clock; readonly log: Logger }) {
    this.#path = path;
    this.#clock = deps.clock;
    this.#log = deps.log;
  }

  /** Opens the file for appending; `-` = standard output. Rejects with `config.invalid`. */
  static async open(path: string, deps: { readonly clock: Clock; readonly log: Logger }): Promise<AccessLog> {
    const log = new AccessLog(path === "-" ? undefined : path, deps);
    if (path !== "-") {
      try {
        await log.#openFile(path);
      } catch (error) {
        throw new TunnelError("config.invalid", `Cannot write the access log "${path}": ${describe(error)}`);
      }
      log.#look(path);
    }
    return log;
  }

  /** Text that waits, in bytes. */
  get queuedBytes(): number {
    return this.#queuedBytes;
  }

  /** `line`: with its end. */
  add(line: string): void {
    if (this.#closed) return;
    const bytes = Buffer.from(line);
    if (this.#queuedBytes + bytes.length > MAX_QUEUED_BYTES) {
      this.#drop(1, "the disk, or whoever reads, does not keep up");
      return;
    }
    this.counters.lines += 1;
    this.#queue.push(bytes);
    this.#queuedBytes += bytes.length;
    this.#start();
  }

  /** Opens the file anew before the next line: the one that is open was moved away. */
  reopen(): void {
    this.#reopen = true;
    this.#start();
  }

  /** Writes what waits, within two seconds. */
  async close(): Promise<void> {
    this.#cancelLook();
    const patience = new AbortController();
    await Promise.race([this.#writing, delay(this.#clock, CLOSE_MS, patience.signal)]);
    patience.abort();
    this.#closed = true;
    await this.#file?.close().catch(() => {});
    this.#file = undefined;
  }

  #start(): void {
    if (this.#writing !== undefined || this.#closed) return;
    this.#writing = this.#drain().finally(() => {
      this.#writing = undefined;
      if (this.#queue.length > 0 && !this.#closed) this.#start();
    });
  }

  async #drain(): Promise<void> {
    if (this.#reopen && this.#path !== undefined) {
      this.#reopen = false;
      await this.#openFile(this.#path).catch((error: unknown) => {
        this.#log.error("Cannot open the access log anew; the old file goes on", { error: describe(error) });
      });
    }
    while (this.#queue.length > 0 && !this.#closed && !this.#reopen) {
      const { batch, lines } = this.#take();
      try {
        await this.#writeAll(batch);
      } catch (error) {
        this.counters.lines -= lines;
        this.#drop(lines, describe(error));
      }
    }
  }

  #take(): { batch: Buffer; lines: number } {
    let bytes = 0;
    let lines = 0;
    while (lines < this.#queue.length && (lines === 0 || bytes < BATCH_BYTES)) {
      bytes += (this.#queue[lines] as Buffer).length;
      lines += 1;
    }
    const batch = Buffer.concat(this.#queue.slice(0, lines), bytes);
    this.#queue = this.#queue.slice(lines);
    this.#queuedBytes -= bytes;
    return { batch, lines };
  }

  async #writeAll(batch: Buffer): Promise<void> {
    const fd = this.#path === undefined ? STDOUT : this.#file?.fd;
    if (fd === undefined) throw new TunnelError("config.invalid", "the file is not open");
    let sent = 0;
    while (sent < batch.length && !this.#closed) {
      try {
        sent += await writeOnce(fd, batch, sent);
      } catch (error) {
        if (systemCode(error) !== "EAGAIN") throw error;
        await delay(this.#clock, READER_RETRY_MS);
      }
    }
  }

  async #openFile(path: string): Promise<void> {
    // Not blocking: a pipe without a reader must not hold up a thread for ever.
    const flags = constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_NONBLOCK;
    const file = await open(path, flags, 0o640);
    const { dev, ino } = await file.stat();
    const old = this.#file;
    this.#file = file;
    this.#inode = `${dev}:${ino}`;
    await old?.close().catch(() => {});
  }

  #look(path: string): void {
    this.#cancelLook = this.#clock.after(
      LOOK_MS,
      () => {
        stat(path)
          .then(
            ({ dev, ino }) => `${dev}:${ino}`,
            () => "gone",
          )
          .then((inode) => {
            if (inode !== this.#inode && !this.#closed) this.reopen();
            if (!this.#closed) this.#look(path);
          });
      },
      { background: true },
    );
  }

  #drop(lines: number, why: string): void {
    this.counters.dropped += lines;
    this.#unsaid += lines;
    this.#reason = why;
    const nowMs = this.#clock.nowMs();
    if (nowMs - this.#saidAtMs < SAY_EVERY_MS) return;
    this.#saidAtMs = nowMs;
    this.#log.warn("Lines of the access log were lost", { lines: this.#unsaid, error: this.#reason });
    this.#unsaid = 0;
  }
}

function writeOnce(fd: number, bytes: Buffer, from: number): Promise<number> {
  return new Promise((resolve, reject) => {
    write(fd, bytes, from, bytes.length - from, null, (error, written) => {
      if (error === null) resolve(written);
      else reject(error);
    });
  });
}
