import type { TunnelError } from "../core/errors.ts";
import type { RawHeaders } from "../wire/headers.ts";

/**
 * Two byte directions with back-pressure and half-close: a socket, one stream of a tunnel session, or a pair in
 * memory. It is built on callbacks instead of promises because the data path passes every byte of every visitor.
 */
export interface ByteChannel {
  /** True when a chunk is no longer referenced once `write` has answered true: then its memory may be used again. */
  readonly writesAtOnce?: boolean;
  /**
   * Sends bytes. They are always taken; the answer says whether there is room for more: after `false` hold back until
   * `onDrain`. The channel may keep a reference to `chunk`, so its bytes must not change afterwards. Writes after
   * `end` or after the channel closed are dropped.
   */
  write(chunk: Uint8Array): boolean;
  /**
   * Ends our direction; the peer reads everything written, then `onEnd`. The other direction goes on.
   * `trailers` reach the peer where the channel can carry them (HTTP/2 streams) and are ignored elsewhere.
   */
  end(trailers?: RawHeaders): void;
  /** Ends both directions now. The peer sees a reset where the channel can express it. `onClose` follows. */
  abort(error: TunnelError): void;
  /** Stops `onData`, `onEnd`; bytes already received wait in a bounded buffer and the peer is held back. */
  pause(): void;
  resume(): void;
  /**
   * Gives the channel its owner. Data that arrived before is delivered afterwards, never during the call.
   * A later call hands the channel over to a new owner.
   */
  listen(events: ChannelEvents): void;
}

/** What the owner of a channel is told. Handlers must not throw. */
export interface ChannelEvents {
  /** Bytes in order. The chunk belongs to the receiver and does not change any more. */
  onData(chunk: Uint8Array): void;
  /** The peer finished its direction properly; nothing more will be read. */
  onEnd(trailers: RawHeaders): void;
  /** There is room again after `write` returned false. */
  onDrain(): void;
  /**
   * Last event, exactly once: both directions are over. Undefined = both ended properly; an error = cut, reset, or
   * aborted by us (then it is the error given to `abort`).
   */
  onClose(error: TunnelError | undefined): void;
}

export const NO_TRAILERS: RawHeaders = [];
