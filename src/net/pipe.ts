import type { TunnelError } from "../core/errors.ts";
import type { RawHeaders } from "../wire/headers.ts";
import type { ByteChannel, ChannelEvents } from "./channel.ts";

/** How a pipe ended and what went through it, in bytes. */
export interface PipeResult {
  /** From the first channel to the second. */
  readonly forwardBytes: number;
  /** From the second channel to the first. */
  readonly backwardBytes: number;
  readonly error: TunnelError | undefined;
}

/**
 * Joins two channels until both directions are over. Half-close is kept: the end of one direction ends only the far
 * side's writing half. Back-pressure passes through; nothing is buffered here. A cut on either side aborts the other.
 */
export function pipe(
  first: ByteChannel,
  second: ByteChannel,
  onDone: (result: PipeResult) => void,
  /** Told of bytes as they pass: forward, backward. */
  onBytes?: (forward: number, backward: number) => void,
): void {
  let open = 2;
  let failure: TunnelError | undefined;
  const forward = { bytes: 0 };
  const backward = { bytes: 0 };

  const join = (from: ByteChannel, to: ByteChannel, count: { bytes: number }): ChannelEvents => ({
    onData(chunk: Uint8Array): void {
      count.bytes += chunk.length;
      if (onBytes !== undefined) onBytes(from === first ? chunk.length : 0, from === first ? 0 : chunk.length);
      if (!to.write(chunk)) from.pause();
    },
    onEnd(trailers: RawHeaders): void {
      to.end(trailers);
    },
    onDrain(): void {
      to.resume();
    },
    onClose(error: TunnelError | undefined): void {
      open -= 1;
      if (error !== undefined && failure === undefined) {
        failure = error;
        to.abort(error);
      }
      if (open === 0) onDone({ forwardBytes: forward.bytes, backwardBytes: backward.bytes, error: failure });
    },
  });

  first.listen(join(first, second, forward));
  second.listen(join(second, first, backward));
}
