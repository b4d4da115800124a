import type { Clock } from "../core/clock.ts";
import { TunnelError } from "../core/errors.ts";
import { type BridgeResult, bridge } from "./bridge.ts";
import { StdioChannel, type StdioStreams } from "./stdio-channel.ts";
import { openStream, type StreamOptions } from "./stream.ts";

/** Time a stream has to end once we were told to stop, in ms. */
export const STOP_MS = 1_000;

/**
 * Joins the standard streams and one stream to an application until both are over: a ProxyCommand of ssh. Rejects when
 * the stream cannot be opened; its later failure is in the result. `stop` ends it within a second, without an error.
 */
export async function runOverStdio(
  options: StreamOptions,
  streams: StdioStreams,
  deps: { readonly clock: Clock },
  stop: AbortSignal,
): Promise<BridgeResult> {
  const remote = await openStream(options, deps, stop);
  const local = new StdioChannel(streams);
  return await new Promise((resolve) => {
    let cancel: (() => void) | undefined;
    const onStop = (): void => {
      remote.end();
      cancel = deps.clock.after(STOP_MS, () => remote.abort(new TunnelError("aborted", "Told to stop")));
    };
    stop.addEventListener("abort", onStop, { once: true });
    bridge(local, remote, {
      onRemoteOver: () => local.stopReading(),
      onDone: (result) => {
        stop.removeEventListener("abort", onStop);
        cancel?.();
        resolve(stop.aborted ? { ...result, error: undefined } : result);
      },
    });
    if (stop.aborted) onStop();
  });
}
