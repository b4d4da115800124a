import { systemCode } from "./errors.ts";

/** A stream that says why a text cannot leave it, and when all have left it, such as `process.stdout`. */
export interface OutputStream {
  write(text: string | Uint8Array, done: (error?: unknown) => void): unknown;
  end(done: () => void): unknown;
  on(event: "error", listener: (error: Error) => void): unknown;
}

/** How output was lost: its reader has left, or it could not be written. */
export interface OutputLoss {
  readonly kind: "left" | "failed";
  readonly error: unknown;
}

/** Codes of a reader that has left; Windows has EOF. */
const LEFT: ReadonlySet<string | undefined> = new Set(["EPIPE", "EOF", "ECONNRESET"]);

/**
 * What a command prints for whoever runs it. Writing never waits and never throws: the first error is kept and told,
 * and nothing is written after it. Of what waits for a reader nothing is dropped, so that a slow one gets all: who
 * prints without end counts what waits by `done`, as ConsoleOutput does.
 */
export class StandardOutput {
  readonly #open: () => OutputStream;
  readonly #onLost: (loss: OutputLoss) => void;
  #stream: OutputStream | undefined;
  #loss: OutputLoss | undefined;

  /** `open`: called at the first text, since opening takes Bun 10 ms. `onLost`: told once at most. */
  constructor(open: () => OutputStream, onLost: (loss: OutputLoss) => void) {
    this.#open = open;
    this.#onLost = onLost;
  }

  /** Undefined = nothing is lost as far as is known. */
  get loss(): OutputLoss | undefined {
    return this.#loss;
  }

  /** `done`: the text has left, or is lost. Bun's `writableLength` cannot tell: it is 0 while a pipe's reader waits. */
  readonly write = (text: string | Uint8Array, done?: (error?: unknown) => void): void => {
    const onDone = (error?: unknown): void => {
      this.#onDone(error);
      done?.(error);
    };
    if (this.#loss !== undefined) {
      onDone(this.#loss.error);
      return;
    }
    try {
      this.#stream ??= this.#opened();
      this.#stream.write(text, onDone);
    } catch (error) {
      // Deno's throws.
      onDone(error);
    }
  };

  /** The last call: resolves once everything written has left or is lost. */
  async end(): Promise<void> {
    const stream = this.#stream;
    if (stream === undefined || this.#loss !== undefined) return;
    await new Promise<void>((resolve) => {
      stream.on("error", () => resolve());
      stream.end(resolve);
    });
  }

  #opened(): OutputStream {
    const stream = this.#open();
    // Unheard, it would end the process, or show where in the program it came from.
    stream.on("error", this.#onDone);
    return stream;
  }

  readonly #onDone = (error?: unknown): void => {
    if (error === undefined || error === null || this.#loss !== undefined) return;
    this.#loss = { kind: LEFT.has(systemCode(error)) ? "left" : "failed", error };
    this.#onLost(this.#loss);
  };
}
