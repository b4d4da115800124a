/** Text that may wait for whoever reads, in chars, or bytes; what comes on top is dropped and counted. */
export const MAX_WAITING_CHARS = 4 * 1024 * 1024;

/** A stream that says when a text has left it, such as `process.stderr`. */
export interface ConsoleStream {
  write(lines: string | Uint8Array, done: (error?: unknown) => void): unknown;
}

/** Where lines go. */
export interface LineSink {
  /** One line or more, without the end of the last one. */
  write(text: string): void;
  /** Whole lines, in UTF-8. The bytes belong to whoever wrote them again once they are `done`, written or lost. */
  writeBlock(lines: Uint8Array, done?: () => void): void;
}

/** A console that knows what it lost. */
export interface Console extends LineSink {
  /** Lines that were lost, since the process started. */
  readonly lines: number;
  /** Whom to tell how many lines were lost, once somebody reads again; instead of whoever was told before. */
  onRegained(listener: (lines: number) => void): void;
}

/**
 * Lines on their way to a console that may be a pipe which nobody reads. Adding one never waits: 4 MiB are kept for
 * the reader, who gets all of what follows once half of that is read. Ours to count: not every runtime fills in
 * `writableLength`.
 */
export class ConsoleOutput implements Console {
  readonly #stream: ConsoleStream;
  #waiting = 0;
  #lines = 0;
  #unsaid = 0;
  #full = false;
  #tell: (lines: number) => void = (lines) => this.write(`culvert: ${LOST_CONSOLE_LINES}: ${lines}`);

  constructor(stream: ConsoleStream) {
    this.#stream = stream;
  }

  get lines(): number {
    return this.#lines;
  }

  onRegained(listener: (lines: number) => void): void {
    this.#tell = listener;
  }

  /** `text`: one line or more, without the end of the last one. */
  readonly write = (text: string): void => this.#send(`${text}\n`);

  readonly writeBlock = (lines: Uint8Array, done?: () => void): void => this.#send(lines, done);

  #send(lines: string | Uint8Array, done?: () => void): void {
    const { length } = lines;
    if (this.#full || this.#waiting + length > MAX_WAITING_CHARS) {
      this.#full = true;
      const lost = linesOf(lines);
      this.#lines += lost;
      this.#unsaid += lost;
      done?.();
      return;
    }
    this.#waiting += length;
    this.#stream.write(lines, (error) => {
      this.#waiting -= length;
      // A reader that has gone: there is nobody to tell.
      if (error) this.#lines += linesOf(lines);
      else this.#onRead();
      done?.();
    });
  }

  #onRead(): void {
    if (!this.#full || this.#waiting > MAX_WAITING_CHARS / 2) return;
    this.#full = false;
    const lines = this.#unsaid;
    this.#unsaid = 0;
    this.#tell(lines);
  }
}

/** What the log says of them. */
export const LOST_CONSOLE_LINES = "Lines for the console were lost, since nobody read them";

function linesOf(text: string | Uint8Array): number {
  const lines = typeof text === "string" ? text : Buffer.from(text).toString("latin1");
  let count = 0;
  for (let at = lines.indexOf("\n"); at >= 0; at = lines.indexOf("\n", at + 1)) count += 1;
  return count;
}
