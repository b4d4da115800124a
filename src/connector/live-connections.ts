import type { CancelTimer, Clock } from "../core/clock.ts";
import type { ConnectionFacts } from "../ops/tunnel-metrics.ts";
import type { ConnectorSession, QuicStats } from "../transport/port.ts";

/** Between two measurements of the round trip, in ms. */
const MEASURE_MS = 15_000;

interface Live {
  readonly connIndex: number;
  readonly session: ConnectorSession;
  latestRttMs: number | undefined;
  minRttMs: number | undefined;
  cancel: CancelTimer;
}

/** A registered connection, as `/diag/tunnel` shows it. */
export interface ShownConnection {
  readonly connIndex: number;
  readonly protocol: string;
  /** Without port. */
  readonly edgeIp: string;
}

/** The connections that are registered now, and how far away their edges are. */
export class LiveConnections {
  readonly #clock: Clock;
  /** While one gives way to another, both may have the same index: the later one counts. */
  readonly #live: Live[] = [];

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Connections, those that give way not counted. */
  get count(): number {
    return new Set(this.#live.map(({ connIndex }) => connIndex)).size;
  }

  add(connIndex: number, session: ConnectorSession): void {
    const live: Live = { connIndex, session, latestRttMs: undefined, minRttMs: undefined, cancel: () => {} };
    this.#live.push(live);
    this.#measure(live);
  }

  /** True = no other connection has its index. */
  remove(connIndex: number, session: ConnectorSession): boolean {
    const at = this.#live.findIndex((live) => live.session === session);
    if (at >= 0) this.#live.splice(at, 1)[0]?.cancel();
    return !this.#live.some((live) => live.connIndex === connIndex);
  }

  facts(): readonly ConnectionFacts[] {
    return this.#latest().map(({ connIndex, latestRttMs, minRttMs, session }) => {
      const quic = session.quicStats?.();
      return { connIndex, latestRttMs, minRttMs: least(minRttMs, quic), quic };
    });
  }

  shown(): readonly ShownConnection[] {
    return this.#latest().map(({ connIndex, session }) => ({
      connIndex,
      protocol: session.protocol,
      edgeIp: session.remoteAddress.replace(/:\d+$/, "").replace(/^\[|\]$/g, ""),
    }));
  }

  #latest(): readonly Live[] {
    return [...new Map(this.#live.map((live) => [live.connIndex, live])).values()].sort(
      (a, b) => a.connIndex - b.connIndex,
    );
  }

  #measure(live: Live): void {
    live.session
      .ping()
      .then((ms) => {
        live.latestRttMs = ms;
        live.minRttMs = Math.min(live.minRttMs ?? ms, ms);
      })
      .catch(() => {});
    live.cancel = this.#clock.after(MEASURE_MS, () => this.#measure(live), { background: true });
  }
}

function least(measuredMs: number | undefined, quic: QuicStats | undefined): number | undefined {
  if (measuredMs === undefined || quic === undefined) return measuredMs;
  return Math.min(measuredMs, quic.smoothedRttMs);
}
