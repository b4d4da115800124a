import type { Clock } from "../../core/clock.ts";
import type { Connection } from "../../net/sockets.ts";
import type { OriginPool } from "../http/pool.ts";
import type { OriginEvents, OriginExchange, OriginRequest } from "../port.ts";
import { Http2Pool, type Http2PoolOptions } from "./pool.ts";

/** How long an origin that chose HTTP/1.1 is not asked again, in ms: it may learn HTTP/2 while we run. */
export const HTTP1_REMEMBERED_MS = 60_000;

/**
 * What answers for an origin that may speak HTTP/2: a pool of either kind, and which of them a request takes. WebSocket
 * handshakes go over HTTP/1.1 always, and with `negotiates` so does everything when TLS settles on nothing better.
 */
export class Http2Origin {
  readonly #clock: Clock;
  readonly #http1: OriginPool;
  readonly #http2: Http2Pool;
  #http1UntilMs = Number.NEGATIVE_INFINITY;

  constructor(options: Omit<Http2PoolOptions, "http1">, http1: OriginPool, negotiates: boolean) {
    this.#clock = options.clock;
    this.#http1 = http1;
    const way = {
      adopt: (connection: Connection) => {
        this.#http1UntilMs = this.#clock.nowMs() + HTTP1_REMEMBERED_MS;
        http1.adopt(connection);
      },
      exchange: (request: OriginRequest, events: OriginEvents) => http1.exchange(request, events),
    };
    this.#http2 = new Http2Pool({ ...options, ...(negotiates ? { http1: way } : {}) });
  }

  exchange(request: OriginRequest, events: OriginEvents): OriginExchange {
    const http1 = request.kind === "websocket" || this.#clock.nowMs() < this.#http1UntilMs;
    return http1 ? this.#http1.exchange(request, events) : this.#http2.exchange(request, events);
  }

  close(): void {
    this.#http1.close();
    this.#http2.close();
  }
}
