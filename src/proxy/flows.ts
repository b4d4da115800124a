import type { Clock } from "../core/clock.ts";
import { toTunnelError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import type { ByteChannel } from "../net/channel.ts";
import { pipe } from "../net/pipe.ts";
import { handshakeAnswer } from "../origin/tcp/exchange.ts";
import type { PrivateNetwork } from "../origin/tcp/private-network.ts";
import type { IncomingStream } from "../transport/port.ts";
import type { ByteTally } from "./observer.ts";

/** What is counted of flows; `ops` turns it into metrics. */
export interface FlowObserver {
  flowStarted(): void;
  /** Its address was reached, this long after the stream came, in ms. */
  flowConnected(ms: number): void;
  /** Its address was not reached. */
  flowFailed(): void;
  /** As many as allowed were open. */
  flowRefused(): void;
  flowEnded(): void;
  /** A stream was failed because nobody read what came on it. */
  streamOverBudget(): void;
  readonly bytes: { readonly tcp: ByteTally };
}

export interface FlowDeps {
  /** What the edge may reach now; undefined = nothing. */
  readonly network: () => PrivateNetwork | undefined;
  /** Bound on streams at once that goes before the network's; 0 = none. */
  readonly maxActiveFlows: number | undefined;
  readonly clock: Clock;
  readonly log: Logger;
  readonly observer: FlowObserver;
}

/**
 * Serves native TCP streams (protocol: sections 2.7 and 4.3): each is joined with the address that its edge names, once
 * that is connected. Half-close and back-pressure pass through; a cut on one side cuts the other. Whatever is refused is
 * 502, and the reason is in the log.
 */
export function createFlows(deps: FlowDeps): (stream: IncomingStream) => void {
  const { log, observer } = deps;
  let active = 0;
  return (stream) => {
    const destAddr = stream.request.authority;
    const network = deps.network();
    if (network === undefined) {
      log.warn("Refused a private network stream", {
        destAddr,
        hint: 'this network is closed to the edge: set "enabled: true" below "warp-routing" to open it',
      });
      refuse(stream, false);
      return;
    }
    const limit = deps.maxActiveFlows ?? network.maxActiveFlows;
    if (limit > 0 && active >= limit) {
      log.warn("Refused a private network stream: as many as maxActiveFlows allows are open", { destAddr, limit });
      observer.flowRefused();
      refuse(stream, true);
      return;
    }
    active += 1;
    observer.flowStarted();
    void serve(stream, network, deps).then(() => {
      active -= 1;
      observer.flowEnded();
    });
  };
}

/** Resolves once the stream is over; never rejects. */
async function serve(
  stream: IncomingStream,
  network: PrivateNetwork,
  { clock, log, observer }: FlowDeps,
): Promise<void> {
  const startedAtMs = clock.nowMs();
  const destAddr = stream.request.authority;
  const gone = new AbortController();
  const left = new Promise<void>((resolve) => {
    stream.listen({
      onData: () => {},
      onEnd: () => {},
      onDrain: () => {},
      onClose: () => {
        gone.abort();
        resolve();
      },
    });
  });
  // What comes before there is somebody to give it to waits within the stream's window.
  stream.pause();
  let channel: ByteChannel;
  try {
    ({ channel } = await network.connect(destAddr, gone.signal));
  } catch (thrown) {
    if (gone.signal.aborted) return;
    observer.flowFailed();
    const error = toTunnelError(thrown, "origin.dial", "Cannot connect");
    log.error(`Unable to reach an address of the private network: ${error.message}`, { destAddr, code: error.code });
    answerRefusal(stream, false);
    stream.resume();
    await left;
    return;
  }
  if (gone.signal.aborted) {
    channel.abort(toTunnelError(gone.signal.reason, "aborted", "The edge gave the stream up"));
    return;
  }
  observer.flowConnected(clock.nowMs() - startedAtMs);
  stream.respond({ status: 200, headers: handshakeAnswer(stream.request.headers), source: "origin" });
  await new Promise<void>((resolve) => {
    const tally = observer.bytes.tcp;
    pipe(
      stream,
      channel,
      ({ error }) => {
        if (error?.code === "stream.limit") observer.streamOverBudget();
        if (error !== undefined && log.enabled("debug")) {
          log.debug("Private network stream ended early", { destAddr, error: error.message });
        }
        resolve();
      },
      (forward, backward) => {
        tally.toOrigin += forward;
        tally.toVisitor += backward;
      },
    );
    stream.resume();
  });
}

/** Refuses a stream whose bytes nobody wants: they are read to the end and dropped. */
function refuse(stream: IncomingStream, flowRateLimited: boolean): void {
  stream.listen({ onData: () => {}, onEnd: () => {}, onDrain: () => {}, onClose: () => {} });
  answerRefusal(stream, flowRateLimited);
}

function answerRefusal(stream: IncomingStream, flowRateLimited: boolean): void {
  stream.respond({ status: 502, headers: [], source: "cloudflared", flowRateLimited }, { bodyless: true });
}
