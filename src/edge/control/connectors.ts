import type { LiveConnection } from "../registry.ts";
import type { ActiveConnection, ActiveConnector, LocationCount } from "./port.ts";

/** Connectors name their version, platform and features as they like; more of it than this helps nobody. */
const MAX_TEXT = 128;
const MAX_FEATURES = 64;

/** Connections grouped by connector, oldest connector first. `location`: name of this edge. */
export function activeConnectors(connections: readonly LiveConnection[], location: string): readonly ActiveConnector[] {
  const byConnector = Map.groupBy(
    connections.toSorted((a, b) => a.registeredAtMs - b.registeredAtMs),
    (connection) => connection.connectorId,
  );
  return [...byConnector].flatMap(([id, own]) => {
    const [oldest, newest] = [own.at(0), own.at(-1)];
    if (oldest === undefined || newest === undefined) return [];
    return {
      id,
      features: newest.features.slice(0, MAX_FEATURES).map(clip),
      version: clip(newest.version),
      arch: clip(newest.arch),
      run_at: new Date(oldest.registeredAtMs).toISOString(),
      conns: own
        .map((connection) => activeConnection(connection, location))
        .toSorted((a, b) => a.conn_index - b.conn_index),
    };
  });
}

/** Counts connections by location, in the order of their names; those that take no new requests do not count. */
export function countByLocation(
  connections: readonly Pick<ActiveConnection, "colo_name" | "is_pending_reconnect">[],
): readonly LocationCount[] {
  const counts = new Map<string, number>();
  for (const { colo_name, is_pending_reconnect } of connections) {
    if (!is_pending_reconnect) counts.set(colo_name, (counts.get(colo_name) ?? 0) + 1);
  }
  return [...counts]
    .map(([colo_name, count]) => ({ colo_name, count }))
    .toSorted((a, b) => (a.colo_name < b.colo_name ? -1 : 1));
}

function activeConnection(connection: LiveConnection, location: string): ActiveConnection {
  return {
    id: connection.connectionId,
    colo_name: location,
    conn_index: connection.connIndex,
    origin_ip: connection.remoteIp,
    opened_at: new Date(connection.registeredAtMs).toISOString(),
    protocol: connection.session.protocol,
    is_pending_reconnect: connection.draining,
  };
}

function clip(text: string): string {
  return text.slice(0, MAX_TEXT);
}
