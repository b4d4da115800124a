import type { Clock } from "./clock.ts";

/** Between two words about lines that were lost, in ms. */
const SAY_EVERY_MS = 10_000;

/** Lines of a log that nobody will read, since the process started. */
export interface LostLines {
  /** Of standard error. */
  readonly console: number;
  /** Of the file beside it; undefined = there is none. */
  readonly file?: number | undefined;
}

/** Counts lines that were lost, and tells of them: of the first at once, of more at most every ten seconds. */
export class LogLosses {
  readonly #clock: Clock;
  readonly #say: (lines: number, why: string) => void;
  #total = 0;
  #unsaid = 0;
  #why = "";
  #quiet = false;

  constructor(clock: Clock, say: (lines: number, why: string) => void) {
    this.#clock = clock;
    this.#say = say;
  }

  get total(): number {
    return this.#total;
  }

  add(lines: number, why: string): void {
    if (lines === 0) return;
    this.#total += lines;
    this.#unsaid += lines;
    this.#why = why;
    if (!this.#quiet) this.flush();
  }

  /** Tells of what was not told yet. */
  flush(): void {
    if (this.#unsaid === 0) return;
    const lines = this.#unsaid;
    this.#unsaid = 0;
    this.#say(lines, this.#why);
    if (this.#quiet) return;
    this.#quiet = true;
    this.#clock.after(
      SAY_EVERY_MS,
      () => {
        this.#quiet = false;
        this.flush();
      },
      { background: true },
    );
  }
}
