import type { Clock } from "../core/clock.ts";
import type { TunnelId } from "../core/ids.ts";
import { VERSION } from "../core/version.ts";
import type { EdgeNumbers, TunnelNumbers } from "./control/stats.ts";
import type { PublicListener } from "./listener/listener.ts";
import type { LiveConnection, Registry } from "./registry.ts";
import { SITE_ID } from "./site/site-dispatch.ts";
import type { Store } from "./store/port.ts";
import type { StoreWatch } from "./store-watch.ts";
import type { TunnelHistory } from "./tunnel-history.ts";
import { LATENCY_BOUNDS, TunnelCounts, type TunnelStats } from "./tunnel-stats.ts";
import { tunnelStatus } from "./tunnel-status.ts";

/** Tunnels that are listed at most. */
const MAX_LISTED = 500;

/** Where the numbers come from. */
export interface NumbersSources {
  readonly listener: Pick<PublicListener, "counters" | "openConnections">;
  readonly registry: Registry;
  readonly store: Pick<Store, "tunnels">;
  readonly storeWatch: Pick<StoreWatch, "sizes">;
  readonly history: TunnelHistory;
  readonly stats: TunnelStats;
  readonly clock: Clock;
  readonly location: string;
  readonly addresses: EdgeNumbers["addresses"];
  readonly protocols: readonly string[];
}

/** Gives the numbers of an edge that starts now, each time they are asked for. */
export function edgeNumbers(sources: NumbersSources): () => EdgeNumbers {
  const { listener, registry, history, storeWatch, stats, clock, location, addresses, protocols } = sources;
  const startedAtMs = clock.nowMs();
  const startedAt = new Date(clock.wallMs()).toISOString();
  return () => {
    const { counters } = listener;
    const byTunnel = Map.groupBy(registry.all(), ({ tunnelId }) => tunnelId);
    const all = [...new Set([...byTunnel.keys(), ...history.tunnels, ...stats.tunnels.keys()])].sort(
      (a, b) => (stats.tunnels.get(b)?.requests ?? 0) - (stats.tunnels.get(a)?.requests ?? 0),
    );
    const list = all.slice(0, MAX_LISTED).map((id) => tunnelNumbers(sources, id, byTunnel.get(id) ?? []));
    if (stats.other.requests > 0) list.push(otherNumbers(stats.other));
    const sizes = storeWatch.sizes;
    return {
      ...{ version: VERSION, location, startedAt, uptimeMs: clock.nowMs() - startedAtMs, addresses },
      protocols: [...protocols],
      visitors: {
        openConnections: listener.openConnections(),
        connections: counters.connections,
        requests: counters.requests,
        answers: { ...counters.answers },
        malformed: counters.malformed,
        limited: Object.values(counters.refused).reduce((sum, count) => sum + count, 0),
        retries: counters.retries,
        bytesIn: counters.bytesIn,
        bytesOut: counters.bytesOut,
      },
      tunnels: {
        total: sizes?.tunnels ?? 0,
        hostnames: sizes?.hostnames ?? 0,
        connected: [...byTunnel.keys()].filter((id) => registry.serves(id)).length,
        connections: registry.all().filter(({ draining }) => !draining).length,
      },
      latencyBounds: [...LATENCY_BOUNDS],
      list,
      more: Math.max(0, all.length - MAX_LISTED),
    };
  };
}

function tunnelNumbers(
  { store, stats, history }: NumbersSources,
  id: TunnelId,
  connections: readonly LiveConnection[],
): TunnelNumbers {
  const counts = stats.tunnels.get(id) ?? new TunnelCounts();
  const serving = connections.filter(({ draining }) => !draining);
  const { activeAtMs, inactiveAtMs } = history.of(id);
  return {
    ...numbersOf(counts),
    id,
    name: nameOf(store, id),
    status:
      id === SITE_ID ? "healthy" : tunnelStatus(connections, activeAtMs !== undefined || inactiveAtMs !== undefined),
    connectors: new Set(serving.map(({ connectorId }) => connectorId)).size,
    connections: serving.length,
    running: connections.reduce((sum, { session }) => sum + session.streamCount, 0),
  };
}

function otherNumbers(counts: TunnelCounts): TunnelNumbers {
  const none = { connectors: 0, connections: 0, running: 0 };
  return { ...numbersOf(counts), ...none, id: "other", name: "(other tunnels)", status: "healthy" };
}

function numbersOf({ requests, answers, bytesIn, bytesOut, buckets }: TunnelCounts) {
  return { requests, answers: { ...answers }, bytesIn, bytesOut, latency: [...buckets] };
}

function nameOf(store: Pick<Store, "tunnels">, id: TunnelId): string {
  if (id === SITE_ID) return "(this edge)";
  try {
    return store.tunnels.get(id)?.name ?? id;
  } catch {
    // Whoever works on the store says that it is broken; its id names the tunnel, too.
    return id;
  }
}
