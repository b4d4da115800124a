/** Text that may wait for whoever reads, in chars; what comes on top is dropped and counted. */
export const MAX_WAITING_CHARS = 4 * 1024 * 1024;

/** A stream that says when a text has left it, such as `process.stderr`. */
export interface ConsoleStream {
  write(text: string, done: (error?: Error | null) => void): unknown;
}

/** What the console lost. */
export interface ConsoleLosses {
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
export class ConsoleOutput implements ConsoleLosses {
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
  readonly write = (text: string): void => {
    if (this.#full || this.#waiting + text.length > MAX_WAITING_CHARS) {
      this.#full = true;
      this.#lose(text);
      return;
    }
    this.#waiting += text.length;
    this.#stream.write(`${text}\n`, (error) => {
      this.#waiting -= text.length;
      // A reader that has gone: there is nobody to tell.
      if (error) this.#lines += linesOf(text);
      else this.#onRead();
    });
  };

  #lose(text: string): void {
    const lines = linesOf(text);
    this.#lines += lines;
    this.#unsaid += lines;
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

function linesOf(text: string): number {
  let lines = 1;
  for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) lines += 1;
  return lines;
}
