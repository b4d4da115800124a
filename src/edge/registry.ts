import type { ConnectionId, ConnectorId, TunnelId } from "../core/ids.ts";
import type { EdgeSession } from "../transport/port.ts";

/** Connectors (replicas) one tunnel may have at this edge; those whose connections all drain do not count. */
export const MAX_CONNECTORS_PER_TUNNEL = 25;
/** Connections one tunnel may have at this edge, without those that drain. */
export const MAX_CONNECTIONS_PER_TUNNEL = 100;

/** One registered connection of a connector. */
export interface LiveConnection {
  readonly connectionId: ConnectionId;
  readonly tunnelId: TunnelId;
  readonly connectorId: ConnectorId;
  readonly connIndex: number;
  readonly session: EdgeSession;
  /** Where it comes from, without port. */
  readonly remoteIp: string;
  readonly version: string;
  readonly arch: string;
  readonly features: readonly string[];
  /** Wall clock. */
  readonly registeredAtMs: number;
  /** Takes no new requests; running ones finish. */
  draining: boolean;
  /** When it was found silent although it was asked, in ms; what it says later clears it. */
  suspectedAtMs: number | undefined;
  /** Requests in a row that it took and did not answer. */
  failures: number;
  /** Last round trip, in ms. */
  rttMs: number | undefined;
}

/** Requests in a row that failed before a connection is only used when there is no other. */
export const MAX_FAILURES = 2;
/** A connection is far when its round trip is more than twice that of the nearest one and this, in ms. */
export const FAR_MS = 20;
/** Running requests that a near connection may have more than a far one before the far one gets the next. */
export const FAR_HANDICAP = 4;

/** A connection is stale when another one was heard from this much later, in ms. */
export const STALE_MS = 100;
/** Running requests that a fresh connection may have more than a stale one before that gets what cannot be repeated. */
const STALE_HANDICAP = 100;

/** Is told of tunnels that come and go. Must not throw. */
export interface TunnelWatcher {
  /** A connection that takes requests was admitted. */
  onServed?(tunnel: TunnelId, connection: LiveConnection): void;
  /** A connection is gone; it was lost unless it was draining. */
  onRemoved?(connection: LiveConnection): void;
  /** No connection of the tunnel takes requests any more. */
  onAbsent?(tunnel: TunnelId): void;
}

export type Admission =
  /** `replaced`: the connection that held this slot before, to be closed by the caller. */
  | { readonly kind: "admitted"; readonly replaced: LiveConnection | undefined }
  | { readonly kind: "full"; readonly what: "connectors" | "connections" }
  /** This connector is connected here already, and this edge takes each connector once. */
  | { readonly kind: "duplicate" };

/**
 * Who is connected. A connector that registers a slot it already holds takes it over at once: it knows best that its
 * old connection is dead, and it has shown the secret again.
 */
export class Registry {
  readonly #tunnels = new Map<TunnelId, LiveConnection[]>();
  readonly #oncePerConnector: boolean;
  #turn = 0;
  readonly #watchers = new Set<TunnelWatcher>();

  /**
   * `oncePerConnector`: refuse a connector's further connections, which sends it to another edge of the same
   * operator. Off, the same connector may come with several indexes, as it does when this is the only edge it knows.
   */
  constructor(options: { oncePerConnector: boolean } = { oncePerConnector: false }) {
    this.#oncePerConnector = options.oncePerConnector;
  }

  /** Connections of all tunnels. */
  get size(): number {
    let count = 0;
    for (const connections of this.#tunnels.values()) count += connections.length;
    return count;
  }

  /** Tells of tunnels that come and go, until the function it gives is called. */
  watch(watcher: TunnelWatcher): () => void {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  /** Takes a connection in, or says why not. */
  admit(connection: LiveConnection): Admission {
    const current = this.#tunnels.get(connection.tunnelId) ?? [];
    const replaced = current.find(
      (other) => other.connectorId === connection.connectorId && other.connIndex === connection.connIndex,
    );
    const others = current.filter((other) => other !== replaced);
    // Those that are leaving make room at once: a rolling restart of many connectors must not wait for old downloads.
    const staying = others.filter((other) => !other.draining);
    if (this.#oncePerConnector && staying.some((other) => other.connectorId === connection.connectorId)) {
      return { kind: "duplicate" };
    }
    if (staying.length >= MAX_CONNECTIONS_PER_TUNNEL) return { kind: "full", what: "connections" };
    const connectors = new Set(staying.map((other) => other.connectorId)).add(connection.connectorId);
    if (connectors.size > MAX_CONNECTORS_PER_TUNNEL) return { kind: "full", what: "connectors" };
    this.#tunnels.set(connection.tunnelId, [...others, connection]);
    for (const watcher of this.#watchers) watcher.onServed?.(connection.tunnelId, connection);
    return { kind: "admitted", replaced };
  }

  remove(connection: LiveConnection): void {
    const { tunnelId } = connection;
    const served = this.serves(tunnelId);
    const left = (this.#tunnels.get(tunnelId) ?? []).filter((other) => other !== connection);
    if (left.length === 0) this.#tunnels.delete(tunnelId);
    else this.#tunnels.set(tunnelId, left);
    for (const watcher of this.#watchers) watcher.onRemoved?.(connection);
    if (served && !this.serves(tunnelId)) this.#absent(tunnelId);
  }

  /** The connection takes no new requests from now on. */
  drain(connection: LiveConnection): void {
    if (connection.draining) return;
    connection.draining = true;
    if (!this.serves(connection.tunnelId)) this.#absent(connection.tunnelId);
  }

  #absent(tunnel: TunnelId): void {
    for (const watcher of this.#watchers) watcher.onAbsent?.(tunnel);
  }

  connections(tunnel: TunnelId): readonly LiveConnection[] {
    return this.#tunnels.get(tunnel) ?? [];
  }

  all(): readonly LiveConnection[] {
    return [...this.#tunnels.values()].flat();
  }

  /** True when some connection of the tunnel takes requests. */
  serves(tunnel: TunnelId): boolean {
    return this.#tunnels.get(tunnel)?.some((connection) => !connection.draining) === true;
  }

  /**
   * The connection for the next request, of those that take new ones and were not tried yet: the fewest running
   * requests, where far connectors count as busier than near ones, and among equals a different one each time. Ones
   * that are silent or failed their last requests come last. `careful`: the request cannot be repeated, so connections
   * that were heard from less lately than others come behind these. Undefined when there is none.
   */
  choose(tunnel: TunnelId, tried: readonly LiveConnection[], careful = false): LiveConnection | undefined {
    const candidates = this.#tunnels.get(tunnel);
    if (candidates === undefined) return undefined;
    this.#turn = (this.#turn + 1) % 0x4000_0000;
    let nearestMs = Number.POSITIVE_INFINITY;
    let freshMs = Number.NEGATIVE_INFINITY;
    for (const { rttMs, session } of candidates) {
      if (rttMs !== undefined && rttMs < nearestMs) nearestMs = rttMs;
      if (careful) freshMs = Math.max(freshMs, session.lastReceivedAtMs - STALE_MS);
    }
    let best: LiveConnection | undefined;
    let least = Number.POSITIVE_INFINITY;
    for (let i = 0; i < candidates.length; i++) {
      const candidate = candidates[(i + this.#turn) % candidates.length] as LiveConnection;
      if (candidate.draining || tried.includes(candidate)) continue;
      const stale = candidate.session.lastReceivedAtMs < freshMs ? STALE_HANDICAP : 0;
      const load = candidate.session.streamCount + penalty(candidate, nearestMs) + stale;
      if (load < least) {
        best = candidate;
        least = load;
      }
    }
    return best;
  }
}

/** More than any number of running requests, so that doubtful connections are the last resort. */
const DOUBTFUL = 1_000_000;

/** True when it is silent although it was asked, or failed its last requests. */
export function isDoubtful({ suspectedAtMs, session, failures }: LiveConnection): boolean {
  const isSuspect = suspectedAtMs !== undefined && session.lastReceivedAtMs <= suspectedAtMs;
  return isSuspect || failures >= MAX_FAILURES;
}

/** In running requests. */
function penalty(live: LiveConnection, nearestMs: number): number {
  if (isDoubtful(live)) return DOUBTFUL;
  const { rttMs } = live;
  return rttMs !== undefined && rttMs > 2 * nearestMs + FAR_MS ? FAR_HANDICAP : 0;
}
