import { TunnelError } from "../core/errors.ts";
import type { ByteChannel } from "../net/channel.ts";

/** How a bridge ended and what went over it, in bytes. */
export interface BridgeResult {
  readonly sentBytes: number;
  readonly receivedBytes: number;
  readonly error: TunnelError | undefined;
}

export interface BridgeEvents {
  /** The stream is over in both directions; what it brought may still be on its way to the program. */
  onRemoteOver?(): void;
  /** Both sides are over. */
  onDone(result: BridgeResult): void;
}

/**
 * Joins a local program and a stream until both are over. Half-close and back-pressure pass through. Other than
 * `pipe`, it tells a program that still sends after the stream has ended in both directions, as a kernel would: by a
 * reset.
 */
export function bridge(local: ByteChannel, remote: ByteChannel, events: BridgeEvents): void {
  let open = 2;
  let sentBytes = 0;
  let receivedBytes = 0;
  let failure: TunnelError | undefined;
  let remoteOver = false;

  const over = (error: TunnelError | undefined, other: ByteChannel): void => {
    open -= 1;
    if (error !== undefined && failure === undefined) {
      failure = error;
      other.abort(error);
    }
    if (open === 0) events.onDone({ sentBytes, receivedBytes, error: failure });
  };
  local.listen({
    onData(chunk) {
      if (remoteOver) {
        local.abort(new TunnelError("channel.reset", "The stream is over"));
        return;
      }
      sentBytes += chunk.length;
      if (!remote.write(chunk)) local.pause();
    },
    onEnd: () => remote.end(),
    onDrain: () => remote.resume(),
    onClose: (error) => over(error, remote),
  });
  remote.listen({
    onData(chunk) {
      receivedBytes += chunk.length;
      if (!local.write(chunk)) remote.pause();
    },
    onEnd: () => local.end(),
    onDrain: () => local.resume(),
    onClose(error) {
      remoteOver = true;
      // Held back, it would never learn that nobody reads any more.
      local.resume();
      events.onRemoteOver?.();
      over(error, local);
    },
  });
}
