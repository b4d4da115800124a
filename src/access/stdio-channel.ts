import type { Readable, Writable } from "node:stream";
import { TunnelError } from "../core/errors.ts";
import { type ByteChannel, type ChannelEvents, NO_TRAILERS } from "../net/channel.ts";
import { plainBytes } from "../net/owned.ts";

export interface StdioStreams {
  readonly input: Readable;
  /** Its end must close it for its reader. */
  readonly output: Writable;
  /** True where nobody would end the input after the output has ended: a terminal. */
  readonly endTogether: boolean;
}

/** The standard streams of this process as one channel: what ssh talks to as its ProxyCommand. */
export class StdioChannel implements ByteChannel {
  readonly #streams: StdioStreams;
  #events: ChannelEvents | undefined;
  #paused = false;
  #inputEnded = false;
  #ended = false;
  #outputDone = false;
  #failure: TunnelError | undefined;
  #closed = false;

  constructor(streams: StdioStreams) {
    this.#streams = streams;
    const { input, output } = streams;
    input.pause();
    input.on("data", (chunk: Uint8Array) => this.#events?.onData(plainBytes(chunk)));
    input.on("end", () => {
      this.#inputEnded = true;
      this.#events?.onEnd(NO_TRAILERS);
      this.#settle();
    });
    input.on("error", (cause) => this.abort(broken("Standard input", cause)));
    output.on("drain", () => this.#events?.onDrain());
    output.on("error", (cause) => this.abort(broken("Standard output", cause)));
  }

  write(chunk: Uint8Array): boolean {
    if (this.#ended || this.#closed) return true;
    return this.#streams.output.write(chunk);
  }

  end(): void {
    if (this.#ended || this.#closed) return;
    this.#ended = true;
    // Told only when everything has left: this process must not end with bytes in its hands.
    this.#streams.output.end(() => {
      if (this.#closed) return;
      this.#outputDone = true;
      if (this.#streams.endTogether && !this.#inputEnded) {
        this.stopReading();
        this.#events?.onEnd(NO_TRAILERS);
      } else this.#settle();
    });
  }

  abort(error: TunnelError): void {
    this.#failure ??= error;
    this.#close();
  }

  pause(): void {
    this.#paused = true;
    this.#streams.input.pause();
  }

  resume(): void {
    this.#paused = false;
    if (this.#events !== undefined && !this.#closed) this.#streams.input.resume();
  }

  listen(events: ChannelEvents): void {
    this.#events = events;
    if (!this.#paused) this.#streams.input.resume();
  }

  /** Reads nothing any more: the input counts as ended. */
  stopReading(): void {
    if (this.#inputEnded || this.#closed) return;
    this.#inputEnded = true;
    this.#streams.input.removeAllListeners("data");
    this.#streams.input.pause();
    this.#settle();
  }

  #settle(): void {
    if (this.#inputEnded && this.#outputDone) this.#close();
  }

  #close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#streams.input.pause();
    queueMicrotask(() => this.#events?.onClose(this.#failure));
  }
}

function broken(what: string, cause: unknown): TunnelError {
  return new TunnelError("channel.lost", `${what} is broken`, { cause });
}
