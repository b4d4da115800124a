import { getRandomValues } from "node:crypto";
import type { Clock } from "../../core/clock.ts";
import { TunnelError } from "../../core/errors.ts";
import type { TunnelId } from "../../core/ids.ts";
import { VERSION } from "../../core/version.ts";
import { type ByteChannel, type ChannelEvents, NO_TRAILERS } from "../../net/channel.ts";
import { WebSocketChannel } from "../../net/websocket-channel.ts";
import type { StreamResponse } from "../../transport/port.ts";
import type { RawHeaders } from "../../wire/headers.ts";
import { webSocketKey } from "../../wire/websocket/handshake.ts";
import type { Dispatch, DispatchEvents, Dispatcher } from "../dispatcher/dispatcher.ts";

/** From the visitor's connection to the connector's answer, in ms: a connector may take 30 s to reach its service. */
export const HANDSHAKE_TIMEOUT_MS = 45_000;

/** Where a stream goes, and for whom. */
export interface StreamTarget {
  readonly tunnelId: TunnelId;
  /** By which the connector finds the service. */
  readonly hostname: string;
  readonly ip: string;
  readonly ray: string;
}

/** What becomes of a stream that was asked for: one of the two is called, once. */
export interface StreamOutcome {
  /** The service took it: its bytes, both ways. */
  onOpen(channel: ByteChannel): void;
  onFailed(error: TunnelError): void;
}

/**
 * Opens a byte stream to a service behind a tunnel as the access client does, so that every connector has it: a
 * WebSocket whose binary messages carry the bytes (surface: section 13). Returns how to give it up before it is open.
 */
export function openTcpStream(
  dispatcher: Pick<Dispatcher, "open">,
  target: StreamTarget,
  outcome: StreamOutcome,
  clock: Clock,
): (error: TunnelError) => void {
  const carrier = new Carrier(outcome, clock);
  const headers: RawHeaders = [
    ...["User-Agent", `culvert/${VERSION}`],
    ...["Sec-WebSocket-Key", webSocketKey(getRandomValues(new Uint8Array(16))), "Sec-WebSocket-Version", "13"],
    ...["X-Forwarded-For", target.ip, "X-Forwarded-Proto", "https", "Cf-Connecting-Ip", target.ip],
    ...["Cf-Ray", target.ray, "Cf-Visitor", '{"scheme":"https"}'],
  ];
  const request = {
    ...({ kind: "websocket", method: "GET", path: "/", bodyless: false } as const),
    ...{ authority: target.hostname, headers },
  };
  carrier.start(dispatcher.open(target.tunnelId, request, carrier));
  return (error) => carrier.giveUp(error);
}

/** A stream of the tunnel as what a WebSocket runs on. */
class Carrier implements ByteChannel, DispatchEvents {
  readonly #outcome: StreamOutcome;
  readonly #clock: Clock;
  readonly #cancelTimer: () => void;
  #dispatch: Dispatch | undefined;
  #events: ChannelEvents | undefined;
  #settled = false;
  /** Called behind the end of the stream, once the WebSocket knows. */
  #onEnded: () => void = () => {};

  constructor(outcome: StreamOutcome, clock: Clock) {
    this.#outcome = outcome;
    this.#clock = clock;
    this.#cancelTimer = clock.after(
      HANDSHAKE_TIMEOUT_MS,
      () => this.giveUp(new TunnelError("timeout", `The service did not answer within ${HANDSHAKE_TIMEOUT_MS} ms`)),
      { background: true },
    );
  }

  start(dispatch: Dispatch): void {
    this.#dispatch = dispatch;
  }

  giveUp(error: TunnelError): void {
    this.#fail(error);
    this.#dispatch?.abort(error);
  }

  // ---- the request's events ----

  onRetry(): void {}

  onInformational(): void {}

  onResponse({ status, source }: StreamResponse): void {
    if (this.#settled) return;
    if (status !== 101) {
      const who = source === "origin" ? "the service" : "the connector";
      this.giveUp(new TunnelError("edge.refused", `${who} answered with status ${status}: is it a tcp:// service?`));
      return;
    }
    this.#settled = true;
    this.#cancelTimer();
    const channel = new WebSocketChannel(this, { role: "client", clock: this.#clock });
    // cloudflared ends the stream when either side is done, and means both.
    this.#onEnded = () => channel.end();
    this.#outcome.onOpen(channel);
  }

  onData(chunk: Uint8Array): void {
    this.#events?.onData(chunk);
  }

  onEnd(trailers: RawHeaders): void {
    this.#events?.onEnd(trailers);
    this.#onEnded();
  }

  onDrain(): void {
    this.#events?.onDrain();
  }

  onClose(error: TunnelError | undefined): void {
    this.#fail(error ?? new TunnelError("edge.refused", "The stream ended before the service answered"));
    this.#events?.onClose(error);
  }

  #fail(error: TunnelError): void {
    if (this.#settled) return;
    this.#settled = true;
    this.#cancelTimer();
    this.#outcome.onFailed(error);
  }

  // ---- the channel ----

  write(chunk: Uint8Array): boolean {
    return this.#dispatch?.write(chunk) ?? true;
  }

  end(): void {
    this.#dispatch?.end(NO_TRAILERS);
  }

  abort(error: TunnelError): void {
    this.#dispatch?.abort(error);
  }

  pause(): void {
    this.#dispatch?.pause();
  }

  resume(): void {
    this.#dispatch?.resume();
  }

  listen(events: ChannelEvents): void {
    this.#events = events;
  }
}
