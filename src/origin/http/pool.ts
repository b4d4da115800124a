import type { CancelTimer, Clock } from "../../core/clock.ts";
import { describe, TunnelError } from "../../core/errors.ts";
import type { Connection } from "../../net/sockets.ts";
import type { OriginEvents, OriginExchange, OriginRequest } from "../port.ts";
import { type ConnectionOwner, OriginConnection } from "./connection.ts";
import { type AnswerLimit, type CancelDial, HttpExchange, isRepeatable } from "./exchange.ts";
import type { ConnectionSlots, SlotHolder } from "./slots.ts";

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

/**
 * How lately a kept connection must have been used to carry a request that cannot be repeated, in ms. Servers close
 * idle connections after seconds, and a request that crosses the news is lost; a fresh connection costs little.
 */
export const RECENT_MS = 1_000;

/**
 * An origin that closed a connection after less idle time than that is taken at its word for this long, in ms: such
 * requests then take connections that were idle for half that time at most.
 */
export const HASTE_REMEMBERED_MS = 60_000;

/** What a connection is dialled for; requests of one pool may share connections, so it matters to the first alone. */
export interface PoolDial {
  readonly signal: AbortSignal;
  readonly request: OriginRequest;
}

export interface OriginPoolOptions {
  /** Opens a connection to the origin; rejects with `dial.failed`, `dial.tls` or anything else, and heeds the signal. */
  readonly dial: (options: PoolDial) => Promise<Connection>;
  readonly clock: Clock;
  /** @default 40_000 */
  readonly connectTimeoutMs?: number;
  /** 0 = none is kept. @default 100 */
  readonly maxIdle?: number;
  /** 0 = for ever. @default 90_000 */
  readonly idleTimeoutMs?: number;
  /** Bound on connections; absent = none, and requests never wait for one another. */
  readonly slots?: ConnectionSlots | undefined;
  /** In ms; absent or 0 = for ever. */
  readonly answerTimeoutMs?: number;
}

interface IdleConnection {
  readonly connection: OriginConnection;
  readonly sinceMs: number;
  readonly untilMs: number;
}

/**
 * Connections to one origin, the last used first. Without an idle connection a request gets a new one, so there are as
 * many as requests at once, which the tunnel bounds, and `slots` where somebody wants fewer.
 */
export class OriginPool implements ConnectionOwner, SlotHolder {
  readonly #dial: OriginPoolOptions["dial"];
  readonly #clock: Clock;
  readonly #connectTimeoutMs: number;
  readonly #maxIdle: number;
  readonly #idleTimeoutMs: number;
  readonly #slots: ConnectionSlots | undefined;
  readonly #answerLimit: AnswerLimit | undefined;
  readonly #idle: IdleConnection[] = [];
  /** Connections that count against `#slots`. */
  readonly #counted = new Set<OriginConnection>();
  /** Connections that we ended and the origin did not yet, and until when it may. */
  readonly #closing = new Map<OriginConnection, number>();
  #cancelSweep: CancelTimer | undefined;
  /** The shortest time after which the origin itself ended an idle connection lately, and until when that counts. */
  #originIdleMs = Number.POSITIVE_INFINITY;
  #originIdleUntilMs = Number.NEGATIVE_INFINITY;
  #closed = false;

  constructor(options: OriginPoolOptions) {
    this.#dial = options.dial;
    this.#clock = options.clock;
    this.#connectTimeoutMs = options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS;
    this.#maxIdle = options.maxIdle ?? MAX_IDLE_CONNECTIONS;
    this.#idleTimeoutMs = options.idleTimeoutMs ?? IDLE_TIMEOUT_MS;
    this.#slots = options.slots;
    this.#slots?.join(this);
    const answerTimeoutMs = options.answerTimeoutMs ?? 0;
    this.#answerLimit = answerTimeoutMs === 0 ? undefined : { clock: options.clock, ms: answerTimeoutMs };
  }

  /** Connections now kept for the next request. */
  get idleCount(): number {
    return this.#idle.length;
  }

  /**
   * Starts a request. Events come after this call, never during it. Errors: `origin.dial`, `origin.tls`,
   * `origin.timeout` (connecting), `origin.busy`, `origin.slow`, `origin.reset`, `origin.truncated`,
   * `origin.malformed`, `origin.unsupported`, `request.malformed`, `request.length`, `stream.limit`.
   */
  exchange(request: OriginRequest, events: OriginEvents): OriginExchange {
    const exchange = new HttpExchange(request, events, (waiting) => this.#connect(waiting), this.#answerLimit);
    const { problem } = exchange;
    if (problem !== undefined) {
      queueMicrotask(() => exchange.fail(problem));
      return exchange;
    }
    const kept = this.#takeIdle(isRepeatable(request) ? Number.POSITIVE_INFINITY : this.#safeIdleMs());
    if (kept !== undefined) exchange.run(kept);
    else exchange.connect();
    return exchange;
  }

  /** Takes over a connection that was dialled elsewhere and on which nothing was said yet. */
  adopt(connection: Connection): void {
    this.#slots?.take();
    this.onIdle(this.#own(connection), undefined);
  }

  /** Lets idle connections go and keeps none from now on; requests under way end on their own. */
  close(): void {
    this.#closed = true;
    while (this.dropIdle());
    this.#slots?.leave(this);
  }

  dropIdle(): boolean {
    const kept = this.#idle.shift();
    kept?.connection.close();
    return kept !== undefined;
  }

  onIdle(connection: OriginConnection, hintMs: number | undefined): void {
    if (this.#slots?.onIdle(this, connection) === true) return;
    const limitMs = this.#idleTimeoutMs === 0 ? Number.POSITIVE_INFINITY : this.#idleTimeoutMs;
    const surplus = this.#idle.length >= this.#maxIdle;
    const lifeMs = Math.min(limitMs, hintMs ?? limitMs, surplus ? SURPLUS_IDLE_MS : limitMs);
    if (this.#closed || this.#idle.length >= this.#maxIdle * SURPLUS_FACTOR || lifeMs <= 0) {
      connection.close();
      return;
    }
    const nowMs = this.#clock.nowMs();
    this.#idle.push({ connection, sinceMs: nowMs, untilMs: nowMs + lifeMs });
    this.#sweepLater();
  }

  onClosing(connection: OriginConnection): void {
    this.#forget(connection);
    this.#uncount(connection);
    this.#closing.set(connection, this.#clock.nowMs() + CLOSE_LINGER_MS);
    this.#sweepLater();
  }

  onGone(connection: OriginConnection): void {
    this.#forget(connection);
    this.#closing.delete(connection);
    this.#uncount(connection);
  }

  onUpgraded(connection: OriginConnection): void {
    this.#forget(connection);
  }

  /** `maxAgeMs`: the longest it may have been idle. */
  #takeIdle(maxAgeMs: number): OriginConnection | undefined {
    const nowMs = this.#clock.nowMs();
    for (;;) {
      const kept = this.#idle.at(-1);
      if (kept === undefined || nowMs - kept.sinceMs > maxAgeMs) return undefined;
      this.#idle.pop();
      if (kept.untilMs > nowMs) return kept.connection;
      kept.connection.close();
    }
  }

  #connect(exchange: HttpExchange): CancelDial {
    const slots = this.#slots;
    if (slots === undefined) return this.#dialFor(exchange);
    let cancel: CancelDial = () => {};
    const giveUp = slots.seek(this, {
      onSlot: () => {
        cancel = this.#dialFor(exchange);
      },
      onConnection: (connection) => exchange.run(connection),
      onFailure: (error) => exchange.fail(error),
    });
    return () => {
      giveUp();
      cancel();
    };
  }

  /** The slot, where slots are counted, is taken. */
  #dialFor(exchange: HttpExchange): CancelDial {
    const controller = new AbortController();
    const giveUp = new TunnelError("origin.timeout", `Origin not reached within ${this.#connectTimeoutMs} ms`, {
      retry: "elsewhere",
    });
    const cancelTimeout = this.#clock.after(this.#connectTimeoutMs, () => {
      controller.abort(giveUp);
      exchange.fail(giveUp);
    });
    this.#dial({ signal: controller.signal, request: exchange.request }).then(
      (connection) => {
        cancelTimeout();
        if (controller.signal.aborted) {
          connection.channel.abort(giveUp);
          this.#slots?.release();
        } else exchange.run(this.#own(connection));
      },
      (error: unknown) => {
        cancelTimeout();
        this.#slots?.release();
        exchange.fail(dialFailure(error));
      },
    );
    return () => {
      cancelTimeout();
      controller.abort(new TunnelError("aborted", "Request given up"));
    };
  }

  #own({ channel }: Connection): OriginConnection {
    const connection = new OriginConnection(channel, this);
    if (this.#slots !== undefined) this.#counted.add(connection);
    return connection;
  }

  #uncount(connection: OriginConnection): void {
    if (this.#counted.delete(connection)) this.#slots?.release();
  }

  /** A connection that is still among the idle ones was ended by the origin. */
  #forget(connection: OriginConnection): void {
    const at = this.#idle.findIndex((kept) => kept.connection === connection);
    const kept = this.#idle[at];
    if (kept === undefined) return;
    this.#idle.splice(at, 1);
    const nowMs = this.#clock.nowMs();
    if (nowMs >= this.#originIdleUntilMs) this.#originIdleMs = Number.POSITIVE_INFINITY;
    this.#originIdleMs = Math.min(this.#originIdleMs, nowMs - kept.sinceMs);
    this.#originIdleUntilMs = nowMs + HASTE_REMEMBERED_MS;
  }

  /** How long a connection may have been idle for a request that must not be lost with it. */
  #safeIdleMs(): number {
    const hasty = this.#clock.nowMs() < this.#originIdleUntilMs;
    return hasty ? Math.min(RECENT_MS, this.#originIdleMs / 2) : RECENT_MS;
  }

  #sweepLater(): void {
    this.#cancelSweep ??= this.#clock.after(SWEEP_MS, () => this.#sweep(), { background: true });
  }

  #sweep(): void {
    this.#cancelSweep = undefined;
    const nowMs = this.#clock.nowMs();
    const expired = this.#idle.filter(({ untilMs }) => untilMs <= nowMs);
    for (const kept of expired) {
      this.#idle.splice(this.#idle.indexOf(kept), 1);
      kept.connection.close();
    }
    for (const [connection, untilMs] of [...this.#closing]) {
      if (untilMs <= nowMs) connection.abort(new TunnelError("origin.timeout", "Origin kept a closed connection open"));
    }
    if (this.#idle.length > 0 || this.#closing.size > 0) this.#sweepLater();
  }
}

function dialFailure(cause: unknown): TunnelError {
  if (cause instanceof TunnelError && cause.code === "origin.timeout") return cause;
  const tls = cause instanceof TunnelError && cause.code === "dial.tls";
  return new TunnelError(tls ? "origin.tls" : "origin.dial", describe(cause), { retry: "elsewhere", cause });
}
