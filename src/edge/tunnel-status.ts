import type { LiveConnection } from "./registry.ts";

/**
 * How a tunnel is, in Cloudflare's words: `healthy` = all its connectors have all their connections, `degraded` = it is
 * served, but connections are missing, `down` = it was connected and is not, `inactive` = it never was.
 */
export type TunnelStatus = "healthy" | "degraded" | "down" | "inactive";

/**
 * `wasActive`: it has been connected before. How many connections a connector should have only it knows; a hole in the
 * numbers that it gives them shows that one is missing.
 */
export function tunnelStatus(connections: readonly LiveConnection[], wasActive: boolean): TunnelStatus {
  const serving = connections.filter((connection) => !connection.draining);
  if (serving.length === 0) return wasActive ? "down" : "inactive";
  const byConnector = Map.groupBy(serving, (connection) => connection.connectorId);
  const whole = [...byConnector.values()].every((own) =>
    own.every((connection) => connection.connIndex < new Set(own.map(({ connIndex }) => connIndex)).size),
  );
  return whole ? "healthy" : "degraded";
}
