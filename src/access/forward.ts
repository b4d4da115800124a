import { Backoff } from "../core/backoff.ts";
import { type Clock, delay, type Random } from "../core/clock.ts";
import { TunnelError, toTunnelError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import type { ByteChannel } from "../net/channel.ts";
import { listen } from "../net/listen.ts";
import type { Connection } from "../net/sockets.ts";
import { originOf } from "./address.ts";
import { bridge } from "./bridge.ts";
import { STOP_MS } from "./over-stdio.ts";
import { openStream, type StreamOptions } from "./stream.ts";

/** Programs connected at once; further ones are closed at once. */
export const MAX_CONNECTIONS = 1_024;

/** How long a program waits while its stream cannot be opened, in ms: an edge that restarts is back by then. */
const RETRY_MS = 30_000;

/** Waits between tries: up to half a second, then up to 8 s. */
const BACKOFF = { baseMs: 250, maxDoublings: 5 } as const;

export interface ForwardOptions {
  readonly listen: { readonly host: string; readonly port: number };
  readonly stream: StreamOptions;
  /** @default MAX_CONNECTIONS */
  readonly maxConnections?: number;
}

export interface ForwardDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
}

/** A local port, each connection of which is a stream of its own. */
export interface Forward {
  readonly host: string;
  readonly port: number;
  /** Stops accepting, ends what is open, and cuts what has not ended within a second. */
  close(): Promise<void>;
}

/** Listens for programs. Rejects with `listen.failed`. */
export async function startForward(options: ForwardOptions, deps: ForwardDeps): Promise<Forward> {
  const stop = new AbortController();
  const open = new Set<Promise<void>>();
  const log = deps.log.with({ host: options.stream.app.authority });
  const listener = await listen({
    ...options.listen,
    maxConnections: options.maxConnections ?? MAX_CONNECTIONS,
    onConnection: (connection) => {
      const served = serve(connection, options.stream, { ...deps, log }, stop.signal).finally(() => {
        open.delete(served);
      });
      open.add(served);
    },
    onRefused: (ip) => log.warn("Too many connections, one was refused", { ip }),
  });
  const { host, port } = listener;
  log.info(`Forwarding ${host}:${port} to ${originOf(options.stream.app)}`);
  return {
    host,
    port,
    close: async () => {
      stop.abort();
      await listener.close();
      await Promise.all(open);
    },
  };
}

/** One program from its first byte to its last. Never rejects. */
async function serve(
  { channel, remotePort }: Connection,
  options: StreamOptions,
  deps: ForwardDeps,
  stop: AbortSignal,
): Promise<void> {
  const log = deps.log.with({ client: remotePort });
  const gone = new AbortController();
  // Held back until there is a stream; that it went away is told all the same.
  channel.listen({ onData: () => {}, onEnd: () => {}, onDrain: () => {}, onClose: () => gone.abort() });
  channel.pause();
  let remote: ByteChannel;
  try {
    remote = await openWithRetries(options, { ...deps, log }, AbortSignal.any([stop, gone.signal]));
  } catch (thrown) {
    const error = toTunnelError(thrown, "dial.failed", "Cannot open a stream");
    if (error.code !== "aborted") log.error("Stream was not opened", { error: error.message });
    channel.abort(error);
    return;
  }
  await new Promise<void>((resolve) => {
    let cancel: (() => void) | undefined;
    const onStop = (): void => {
      remote.end();
      cancel = deps.clock.after(STOP_MS, () => {
        const error = new TunnelError("aborted", "Told to stop");
        remote.abort(error);
        channel.abort(error);
      });
    };
    stop.addEventListener("abort", onStop, { once: true });
    log.debug("Stream opened");
    bridge(channel, remote, {
      onDone: ({ sentBytes, receivedBytes, error }) => {
        stop.removeEventListener("abort", onStop);
        cancel?.();
        const fields = { sentBytes, receivedBytes };
        if (error === undefined || stop.aborted) log.debug("Stream ended", fields);
        else log.warn("Stream was cut", { ...fields, error: error.message });
        resolve();
      },
    });
    if (gone.signal.aborted) remote.abort(new TunnelError("aborted", "The program went away"));
    else if (stop.aborted) onStop();
  });
}

/** Nothing of the program was read yet, so that trying again is safe. */
async function openWithRetries(options: StreamOptions, deps: ForwardDeps, signal: AbortSignal): Promise<ByteChannel> {
  const backoff = new Backoff({ ...BACKOFF, random: deps.random });
  const lastMs = deps.clock.nowMs() + RETRY_MS;
  for (;;) {
    try {
      return await openStream(options, deps, signal);
    } catch (thrown) {
      const error = toTunnelError(thrown, "dial.failed", "Cannot open a stream");
      const waitMs = backoff.next();
      if (error.retry === "never" || deps.clock.nowMs() + waitMs > lastMs) throw error;
      deps.log.warn("Cannot open a stream, trying again", { error: error.message, waitMs: Math.round(waitMs) });
      if (!(await delay(deps.clock, waitMs, signal))) throw new TunnelError("aborted", "Given up");
    }
  }
}
