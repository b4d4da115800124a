import type { CancelTimer, Clock } from "../../core/clock.ts";
import { describe, TunnelError } from "../../core/errors.ts";
import type { Connection } from "../../net/sockets.ts";
import type { AnswerLimit } from "../http/exchange.ts";
import type { OriginEvents, OriginExchange, OriginRequest } from "../port.ts";
import { type Http2ConnectionOwner, Http2OriginConnection } from "./connection.ts";
import { Http2Exchange, type Http2ExchangeHost } from "./exchange.ts";

/** Connections to one origin at once; requests beyond what they may carry wait for a stream to end. */
export const MAX_CONNECTIONS = 100;

/** Requests that wait for a stream; further ones fail. */
export const MAX_WAITING_REQUESTS = 16_384;

/** Pause before another connection is tried after one failed, while there are others, in ms. */
export const DIAL_PAUSE_MS = 1_000;

/** Connections are looked at this often, in ms. */
export const SWEEP_MS = 5_000;

/** A connection with running streams from which nothing came for this long is asked for a sign of life, in ms. */
export const MIN_PING_AFTER_MS = 30_000;

export interface Http2PoolOptions {
  /** Opens a connection to the origin; rejects with `dial.failed`, `dial.tls` or anything else, and heeds the signal. */
  readonly dial: (options: { signal: AbortSignal }) => Promise<Connection>;
  readonly clock: Clock;
  /** `http` or `https`, as requests say it. */
  readonly scheme: "http" | "https";
  /** Connect, TLS handshake and the origin's first frame together, in ms; the longest a request waits for a stream too. */
  readonly connectTimeoutMs: number;
  /** Idle connections to keep; 0 = none. */
  readonly maxIdle: number;
  /** 0 = for ever. */
  readonly idleTimeoutMs: number;
  /** @default {@link MAX_CONNECTIONS} */
  readonly maxConnections?: number;
  /** In ms; absent or 0 = for ever. */
  readonly answerTimeoutMs?: number;
  /**
   * Given a connection on which TLS did not settle on HTTP/2, and a way to HTTP/1.1 for the requests that wait; absent
   * = every connection speaks HTTP/2.
   */
  readonly http1?: Http1Way;
}

export interface Http1Way {
  /** Takes over a connection that is to speak HTTP/1.1. */
  adopt(connection: Connection): void;
  exchange(request: OriginRequest, events: OriginEvents): OriginExchange;
}

/**
 * HTTP/2 connections to one origin, as few as its limit of concurrent streams allows. A request takes the first one
 * with room; without room it waits while another connection is made, or until a stream ends.
 */
export class Http2Pool implements Http2ConnectionOwner, Http2ExchangeHost {
  readonly answerLimit: AnswerLimit | undefined;
  readonly #options: Http2PoolOptions;
  readonly #clock: Clock;
  readonly #maxConnections: number;
  /** Those that are not gone, the ones that still wait for the origin's SETTINGS included. */
  readonly #connections = new Set<Http2OriginConnection>();
  /** Those among them that are not ready yet, and what ends their time. */
  readonly #starting = new Map<Http2OriginConnection, CancelTimer>();
  /** In the order of their coming, with what ends their time. */
  readonly #waiting = new Map<Http2Exchange, CancelTimer>();
  #dialling = 0;
  /** Streams that a connection of this origin was seen to carry at most; 0 = not known yet. */
  #limit = 0;
  #noDialBeforeMs = Number.NEGATIVE_INFINITY;
  #cancelSweep: CancelTimer | undefined;
  #closed = false;

  constructor(options: Http2PoolOptions) {
    this.#options = options;
    this.#clock = options.clock;
    this.#maxConnections = Math.min(options.maxConnections ?? MAX_CONNECTIONS, MAX_CONNECTIONS);
    const answerTimeoutMs = options.answerTimeoutMs ?? 0;
    this.answerLimit = answerTimeoutMs === 0 ? undefined : { clock: options.clock, ms: answerTimeoutMs };
  }

  /** Connections now open, the ones still being made not among them. */
  get connectionCount(): number {
    return this.#connections.size - this.#starting.size;
  }

  /**
   * Starts a request. Events come after this call, never during it. Errors: `origin.dial`, `origin.tls`,
   * `origin.timeout` (no connection or no stream in time, or an origin that fell silent), `origin.slow`, `origin.reset`,
   * `origin.truncated`, `origin.malformed`, `origin.unsupported`, `request.malformed`, `request.length`, `stream.limit`.
   */
  exchange(request: OriginRequest, events: OriginEvents): OriginExchange {
    const exchange = new Http2Exchange(request, events, this.#options.scheme, this);
    const { problem } = exchange;
    if (problem !== undefined) queueMicrotask(() => exchange.fail(problem));
    else this.place(exchange);
    return exchange;
  }

  /** Gives the exchange a connection, now or when there is one. */
  place(exchange: Http2Exchange): void {
    const connection = this.#withRoom(exchange);
    if (connection !== undefined) {
      exchange.run(connection);
      return;
    }
    if (this.#waiting.size >= MAX_WAITING_REQUESTS) {
      queueMicrotask(() => exchange.fail(new TunnelError("stream.limit", "Too many requests wait for the origin")));
      return;
    }
    const { connectTimeoutMs } = this.#options;
    const cancel = this.#clock.after(connectTimeoutMs, () => {
      this.#waiting.delete(exchange);
      exchange.fail(this.#outOfTime());
    });
    this.#waiting.set(exchange, cancel);
    this.#dialMore();
  }

  /** The exchange needs no connection any more. */
  forget(exchange: Http2Exchange): void {
    this.#waiting.get(exchange)?.();
    this.#waiting.delete(exchange);
  }

  /** Sends this request over HTTP/1.1 instead, where that is allowed. */
  exchangeHttp1(request: OriginRequest, events: OriginEvents): OriginExchange | undefined {
    return this.#options.http1?.exchange(request, events);
  }

  /** Lets idle connections go and keeps none from now on; requests under way end on their own. */
  close(): void {
    this.#closed = true;
    for (const connection of [...this.#connections]) this.#closeIfUnused(connection);
  }

  onReady(connection: Http2OriginConnection): void {
    this.#starting.get(connection)?.();
    this.#starting.delete(connection);
  }

  onMoved(connection: Http2OriginConnection): void {
    if (this.#waiting.size > 0) this.#serve(connection);
    if (this.#closed) this.#closeIfUnused(connection);
  }

  onGone(connection: Http2OriginConnection, error: TunnelError): void {
    this.#connections.delete(connection);
    const starting = this.#starting.get(connection);
    if (starting !== undefined) {
      starting();
      this.#starting.delete(connection);
      this.#dialFailed(error);
    } else {
      this.#dialMore();
    }
  }

  #withRoom(exchange: Http2Exchange): Http2OriginConnection | undefined {
    for (const connection of this.#connections) {
      if (connection.hasRoom && connection !== exchange.refusedBy) return connection;
    }
    return undefined;
  }

  #serve(connection: Http2OriginConnection): void {
    for (const [exchange, cancel] of this.#waiting) {
      if (!connection.hasRoom) break;
      if (exchange.refusedBy === connection) continue;
      cancel();
      this.#waiting.delete(exchange);
      exchange.run(connection);
    }
    if (!connection.hasRoom && !connection.draining) this.#limit = connection.streamCount;
    this.#dialMore();
  }

  /** Makes as many connections as the waiting requests need, by what is known of the origin's limit. */
  #dialMore(): void {
    if (this.#waiting.size === 0) return;
    if (this.#connections.size > 0 && this.#clock.nowMs() < this.#noDialBeforeMs) return;
    for (const connection of this.#connections) if (connection.shut) return;
    const wanted = this.#limit === 0 ? 1 : Math.ceil(this.#waiting.size / this.#limit);
    const most = this.#maxConnections;
    while (this.#dialling + this.#starting.size < wanted && this.#dialling + this.#connections.size < most) {
      this.#dial();
    }
  }

  #dial(): void {
    this.#dialling += 1;
    const { connectTimeoutMs } = this.#options;
    const controller = new AbortController();
    const startedAtMs = this.#clock.nowMs();
    const cancelTimeout = this.#clock.after(connectTimeoutMs, () => controller.abort(this.#outOfTime()));
    this.#options.dial({ signal: controller.signal }).then(
      (connection) => {
        cancelTimeout();
        this.#dialling -= 1;
        this.#onDialled(connection, connectTimeoutMs - (this.#clock.nowMs() - startedAtMs));
      },
      (error: unknown) => {
        cancelTimeout();
        this.#dialling -= 1;
        this.#dialFailed(controller.signal.aborted ? this.#outOfTime() : dialFailure(error));
      },
    );
  }

  #onDialled(dialled: Connection, leftMs: number): void {
    const { http1 } = this.#options;
    if (http1 !== undefined && dialled.alpn !== "h2") {
      http1.adopt(dialled);
      for (const [exchange, cancel] of [...this.#waiting]) {
        cancel();
        this.#waiting.delete(exchange);
        exchange.divert();
      }
      return;
    }
    const connection = new Http2OriginConnection(dialled.channel, this, this.#clock);
    this.#connections.add(connection);
    this.#starting.set(
      connection,
      this.#clock.after(Math.max(0, leftMs), () =>
        connection.abort(new TunnelError("origin.timeout", "Origin took the connection but does not speak HTTP/2")),
      ),
    );
    this.#cancelSweep ??= this.#clock.after(SWEEP_MS, () => this.#sweep(), { background: true });
  }

  /** Those who wait have nothing to wait for unless another connection is there, or on its way. */
  #dialFailed(error: TunnelError): void {
    this.#noDialBeforeMs = this.#clock.nowMs() + DIAL_PAUSE_MS;
    if (this.#connections.size > 0 || this.#dialling > 0) return;
    for (const [exchange, cancel] of [...this.#waiting]) {
      cancel();
      this.#waiting.delete(exchange);
      exchange.fail(error);
    }
  }

  #closeIfUnused(connection: Http2OriginConnection): void {
    if (connection.streamCount === 0 && this.#waiting.size === 0 && !this.#starting.has(connection)) connection.close();
  }

  #sweep(): void {
    this.#cancelSweep = undefined;
    const { idleTimeoutMs, maxIdle } = this.#options;
    const limitMs = idleTimeoutMs === 0 ? Number.POSITIVE_INFINITY : idleTimeoutMs;
    const pingAfterMs = Math.max(MIN_PING_AFTER_MS, idleTimeoutMs);
    let idle = 0;
    this.#dialMore();
    for (const connection of [...this.#connections]) {
      if (this.#starting.has(connection)) continue;
      if (connection.streamCount === 0) idle += 1;
      connection.check(idle > maxIdle ? 0 : limitMs, pingAfterMs);
    }
    if (this.#connections.size > 0) {
      this.#cancelSweep = this.#clock.after(SWEEP_MS, () => this.#sweep(), { background: true });
    }
  }

  #outOfTime(): TunnelError {
    const { connectTimeoutMs } = this.#options;
    return new TunnelError("origin.timeout", `Origin gave no HTTP/2 stream within ${connectTimeoutMs} ms`, {
      retry: "elsewhere",
    });
  }
}

function dialFailure(cause: unknown): TunnelError {
  if (cause instanceof TunnelError && cause.code === "origin.timeout") return cause;
  const tls = cause instanceof TunnelError && cause.code === "dial.tls";
  return new TunnelError(tls ? "origin.tls" : "origin.dial", describe(cause), { retry: "elsewhere", cause });
}
