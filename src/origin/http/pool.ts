import type { CancelTimer, Clock } from "../../core/clock.ts";
import { describe, TunnelError } from "../../core/errors.ts";
import type { Connection } from "../../net/sockets.ts";
import type { OriginEvents, OriginExchange, OriginRequest } from "../port.ts";
import { type ConnectionOwner, OriginConnection } from "./connection.ts";
import { type CancelDial, HttpExchange } from "./exchange.ts";

/** Idle connections kept to one origin (surface: section 11, `keepAliveConnections`). */
export const MAX_IDLE_CONNECTIONS = 100;

/** How long one is kept, in ms (surface: section 11, `keepAliveTimeout`). */
export const IDLE_TIMEOUT_MS = 90_000;

/** TCP connect and TLS handshake together, in ms (surface: section 11, `connectTimeout` and `tlsTimeout`). */
export const CONNECT_TIMEOUT_MS = 40_000;

/** How long an origin may take to end its side of a connection that we ended, in ms. */
export const CLOSE_LINGER_MS = 5_000;

/** Idle connections are looked at this often, in ms: they live that much longer than they must. */
export const SWEEP_MS = 5_000;

/**
 * Beyond that number connections are kept this long, in ms, and up to that many times as many: with more requests at
 * once than may idle, dropping each surplus connection at once would mean dialling anew all the time.
 */
export const SURPLUS_IDLE_MS = 2_000;
export const SURPLUS_FACTOR = 4;

export interface OriginPoolOptions {
  /** Opens a connection to the origin; rejects with `dial.failed`, `dial.tls` or anything else, and heeds the signal. */
  readonly dial: (options: { signal: AbortSignal }) => Promise<Connection>;
  readonly clock: Clock;
  /** @default 40_000 */
  readonly connectTimeoutMs?: number;
  /** 0 = none is kept. @default 100 */
  readonly maxIdle?: number;
  /** 0 = for ever. @default 90_000 */
  readonly idleTimeoutMs?: number;
}

interface IdleConnection {
  readonly connection: OriginConnection;
  readonly untilMs: number;
}

/**
 * Connections to one origin, the last used first. Requests never wait for one another: without an idle connection a
 * request gets a new one, so there are as many as requests at once, which the tunnel bounds.
 */
export class OriginPool implements ConnectionOwner {
  readonly #dial: OriginPoolOptions["dial"];
  readonly #clock: Clock;
  readonly #connectTimeoutMs: number;
  readonly #maxIdle: number;
  readonly #idleTimeoutMs: number;
  readonly #idle: IdleConnection[] = [];
  /** Connections that we ended and the origin did not yet, and until when it may. */
  readonly #closing = new Map<OriginConnection, number>();
  #cancelSweep: CancelTimer | undefined;
  #closed = false;

  constructor(options: OriginPoolOptions) {
    this.#dial = options.dial;
    this.#clock = options.clock;
    this.#connectTimeoutMs = options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS;
    this.#maxIdle = options.maxIdle ?? MAX_IDLE_CONNECTIONS;
    this.#idleTimeoutMs = options.idleTimeoutMs ?? IDLE_TIMEOUT_MS;
  }

  /** Connections now kept for the next request. */
  get idleCount(): number {
    return this.#idle.length;
  }

  /**
   * Starts a request. Events come after this call, never during it. Errors: `origin.dial`, `origin.tls`,
   * `origin.timeout` (connecting), `origin.reset`, `origin.truncated`, `origin.malformed`, `origin.unsupported`,
   * `request.malformed`, `request.length`, `stream.limit`.
   */
  exchange(request: OriginRequest, events: OriginEvents): OriginExchange {
    const exchange = new HttpExchange(request, events, (waiting) => this.#connect(waiting));
    const { problem } = exchange;
    if (problem !== undefined) {
      queueMicrotask(() => exchange.fail(problem));
      return exchange;
    }
    const kept = this.#takeIdle();
    if (kept !== undefined) exchange.run(kept);
    else exchange.connect();
    return exchange;
  }

  /** Takes over a connection that was dialled elsewhere and on which nothing was said yet. */
  adopt(connection: Connection): void {
    this.onIdle(new OriginConnection(connection.channel, this), undefined);
  }

  /** Lets idle connections go and keeps none from now on; requests under way end on their own. */
  close(): void {
    this.#closed = true;
    while (this.#idle.length > 0) this.#idle.pop()?.connection.close();
  }

  onIdle(connection: OriginConnection, hintMs: number | undefined): void {
    const limitMs = this.#idleTimeoutMs === 0 ? Number.POSITIVE_INFINITY : this.#idleTimeoutMs;
    const surplus = this.#idle.length >= this.#maxIdle;
    const lifeMs = Math.min(limitMs, hintMs ?? limitMs, surplus ? SURPLUS_IDLE_MS : limitMs);
    if (this.#closed || this.#idle.length >= this.#maxIdle * SURPLUS_FACTOR || lifeMs <= 0) {
      connection.close();
      return;
    }
    this.#idle.push({ connection, untilMs: this.#clock.nowMs() + lifeMs });
    this.#sweepLater();
  }

  onClosing(connection: OriginConnection): void {
    this.#forget(connection);
    this.#closing.set(connection, this.#clock.nowMs() + CLOSE_LINGER_MS);
    this.#sweepLater();
  }

  onGone(connection: OriginConnection): void {
    this.#forget(connection);
    this.#closing.delete(connection);
  }

  #takeIdle(): OriginConnection | undefined {
    const nowMs = this.#clock.nowMs();
    for (;;) {
      const kept = this.#idle.pop();
      if (kept === undefined || kept.untilMs > nowMs) return kept?.connection;
      kept.connection.close();
    }
  }

  #connect(exchange: HttpExchange): CancelDial {
    const controller = new AbortController();
    const giveUp = new TunnelError("origin.timeout", `Origin not reached within ${this.#connectTimeoutMs} ms`, {
      retry: "elsewhere",
    });
    const cancelTimeout = this.#clock.after(this.#connectTimeoutMs, () => {
      controller.abort(giveUp);
      exchange.fail(giveUp);
    });
    this.#dial({ signal: controller.signal }).then(
      ({ channel }) => {
        cancelTimeout();
        if (controller.signal.aborted) channel.abort(giveUp);
        else exchange.run(new OriginConnection(channel, this));
      },
      (error: unknown) => {
        cancelTimeout();
        exchange.fail(dialFailure(error));
      },
    );
    return () => {
      cancelTimeout();
      controller.abort(new TunnelError("aborted", "Request given up"));
    };
  }

  #forget(connection: OriginConnection): void {
    const at = this.#idle.findIndex((kept) => kept.connection === connection);
    if (at >= 0) this.#idle.splice(at, 1);
  }

  #sweepLater(): void {
    this.#cancelSweep ??= this.#clock.after(SWEEP_MS, () => this.#sweep(), { background: true });
  }

  #sweep(): void {
    this.#cancelSweep = undefined;
    const nowMs = this.#clock.nowMs();
    for (const { connection, untilMs } of [...this.#idle]) if (untilMs <= nowMs) connection.close();
    for (const [connection, untilMs] of [...this.#closing]) {
      if (untilMs <= nowMs) connection.abort(new TunnelError("origin.timeout", "Origin kept a closed connection open"));
    }
    if (this.#idle.length > 0 || this.#closing.size > 0) this.#sweepLater();
  }
}

function dialFailure(cause: unknown): TunnelError {
  const tls = cause instanceof TunnelError && cause.code === "dial.tls";
  return new TunnelError(tls ? "origin.tls" : "origin.dial", describe(cause), { retry: "elsewhere", cause });
}
