import type { TunnelError } from "../../core/errors.ts";
import type { ByteChannel, ChannelEvents } from "../../net/channel.ts";
import type { RawHeaders } from "../../wire/headers.ts";

/**
 * What is left of an HTTP connection after 101: first the bytes that came in one piece with the answer, then the
 * channel. It takes the channel over at once, so that a close before anyone listens is not lost.
 */
export class UpgradedChannel implements ByteChannel, ChannelEvents {
  readonly #channel: ByteChannel;
  readonly #onClosed: () => void;
  #rest: Uint8Array[];
  #events: ChannelEvents | undefined;
  #paused = false;
  #scheduled = false;
  #closed: { readonly error: TunnelError | undefined } | undefined;

  /** `onClosed` is told when the connection is over, whoever owns it then. */
  constructor(channel: ByteChannel, rest: Uint8Array[], onClosed: () => void = () => {}) {
    this.#channel = channel;
    this.#rest = rest;
    this.#onClosed = onClosed;
    channel.listen(this);
    channel.pause();
  }

  write(chunk: Uint8Array): boolean {
    return this.#channel.write(chunk);
  }

  end(trailers?: RawHeaders): void {
    this.#channel.end(trailers);
  }

  abort(error: TunnelError): void {
    this.#rest = [];
    this.#channel.abort(error);
  }

  pause(): void {
    this.#paused = true;
    this.#channel.pause();
  }

  resume(): void {
    this.#paused = false;
    this.#schedule();
  }

  listen(events: ChannelEvents): void {
    this.#events = events;
    this.#schedule();
  }

  onData(chunk: Uint8Array): void {
    if (this.#rest.length > 0 || this.#events === undefined) this.#rest.push(chunk);
    else this.#events.onData(chunk);
  }

  onEnd(trailers: RawHeaders): void {
    this.#events?.onEnd(trailers);
  }

  onDrain(): void {
    this.#events?.onDrain();
  }

  onClose(error: TunnelError | undefined): void {
    this.#closed = { error };
    this.#onClosed();
    if (this.#events !== undefined) this.#events.onClose(error);
    else this.#rest = [];
  }

  /** The channel stays paused until the rest is through, so nothing overtakes it. */
  #schedule(): void {
    if (this.#events === undefined || this.#scheduled) return;
    if (this.#rest.length === 0 && this.#closed === undefined) {
      if (!this.#paused) this.#channel.resume();
      return;
    }
    this.#scheduled = true;
    const closedBefore = this.#closed;
    queueMicrotask(() => {
      this.#scheduled = false;
      if (closedBefore !== undefined) {
        this.#events?.onClose(closedBefore.error);
        return;
      }
      while (!this.#paused && this.#closed === undefined && this.#rest.length > 0) {
        this.#events?.onData(this.#rest.shift() as Uint8Array);
      }
      if (!this.#paused && this.#rest.length === 0) this.#channel.resume();
    });
  }
}
