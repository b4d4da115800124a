import { createHash } from "node:crypto";
import type { Clock } from "../../core/clock.ts";
import { TunnelError, toTunnelError } from "../../core/errors.ts";
import { type ByteChannel, NO_TRAILERS } from "../../net/channel.ts";
import { createMemoryChannelPair } from "../../net/memory-channel.ts";
import { WebSocketChannel } from "../../net/websocket-channel.ts";
import { headerValue, type RawHeaders } from "../../wire/headers.ts";
import { webSocketAccept } from "../../wire/websocket/handshake.ts";
import type { OriginEvents, OriginExchange, OriginRequest } from "../port.ts";

/** Time between pings, in ms: what cloudflared sends, short of the minute that many proxies allow (surface: section 13). */
export const PING_EVERY_MS = 54_000;

const NEEDS_WEBSOCKET = new TextEncoder().encode(
  "This hostname carries TCP inside a WebSocket. Reach it with: culvert access tcp --hostname HOSTNAME --url localhost:PORT\n",
);

/** What becomes of a visitor's bytes: called once they can flow. `visitor` has the bytes inside the WebSocket. */
export type Take = (visitor: ByteChannel) => void;

/**
 * A visitor of a stream service: answers its WebSocket handshake and takes the frames off. `prepare` does what must
 * succeed before the visitor is told yes; `signal` aborts when the visitor leaves meanwhile.
 */
export class StreamExchange implements OriginExchange {
  readonly #events: OriginEvents;
  readonly #gone = new AbortController();

  constructor(
    request: OriginRequest,
    events: OriginEvents,
    prepare: (signal: AbortSignal) => Promise<Take>,
    clock: Clock,
  ) {
    this.#events = events;
    if (request.kind === "websocket") void this.#run(request, prepare, clock);
    else queueMicrotask(() => this.#refuseHttp(request));
  }

  /** The proxy holds the visitor back until the answer; afterwards bytes go through the channel. */
  write(): boolean {
    return true;
  }

  end(): void {}
  pause(): void {}
  resume(): void {}

  abort(): void {
    this.#gone.abort();
  }

  async #run(request: OriginRequest, prepare: (signal: AbortSignal) => Promise<Take>, clock: Clock): Promise<void> {
    const { signal } = this.#gone;
    let take: Take;
    try {
      take = await prepare(signal);
    } catch (thrown) {
      if (!signal.aborted) this.#events.onError(toTunnelError(thrown, "origin.dial", "Cannot serve the stream"));
      return;
    }
    const [outside, inside] = createMemoryChannelPair();
    take(new WebSocketChannel(inside, { role: "server", pingEveryMs: PING_EVERY_MS, clock }));
    if (signal.aborted) outside.abort(new TunnelError("aborted", "The visitor left"));
    else this.#events.onUpgrade(handshakeAnswer(request.headers), outside);
  }

  /** A browser, or a health check, on a hostname of a stream service. */
  #refuseHttp(request: OriginRequest): void {
    if (this.#gone.signal.aborted) return;
    const bodyless = request.method === "HEAD";
    const length = String(NEEDS_WEBSOCKET.length);
    this.#events.onResponse(426, ["Content-Type", "text/plain; charset=utf-8", "Content-Length", length], bodyless);
    if (!bodyless) this.#events.onData(NEEDS_WEBSOCKET);
    this.#events.onEnd(NO_TRAILERS);
  }
}

/** Without a key nothing can be computed; cloudflared answers 101 all the same (protocol: section 2.8). */
export function handshakeAnswer(headers: RawHeaders): RawHeaders {
  const key = headerValue(headers, "sec-websocket-key");
  if (key === undefined) return [];
  const accept = webSocketAccept(key, (text) => createHash("sha1").update(text).digest("base64"));
  return ["Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Accept", accept];
}
