import { printable } from "../core/printable.ts";
import { countByLocation } from "../edge/control/connectors.ts";
import type { ActiveConnection, ActiveConnector, LocationCount } from "../edge/control/port.ts";

const COLUMNS = ["CONNECTOR ID", "CREATED", "ARCHITECTURE", "VERSION", "ORIGIN IP", "EDGE"] as const;

/** What `tunnel info` says about a tunnel itself. */
export interface TunnelHead {
  readonly id: string;
  readonly name: string;
  readonly createdAtMs: number;
}

/** What is shown of a connector, whoever told of it. */
export type ShownConnector = Omit<ActiveConnector, "features" | "conns"> & {
  readonly conns: readonly Pick<ActiveConnection, "colo_name" | "is_pending_reconnect" | "origin_ip">[];
};

/**
 * The lines of cloudflared's `tunnel info`, its trailing blanks included (surface: section 4). What connectors say of
 * themselves and the tunnel's name, which others chose, do not steer the terminal.
 */
export function renderTunnelInfo(tunnel: TunnelHead, connectors: readonly ShownConnector[]): readonly string[] {
  if (connectors.length === 0) return [`Your tunnel ${tunnel.id} does not have any active connection.`];
  const head = [
    `NAME:     ${printable(tunnel.name)}`,
    `ID:       ${tunnel.id}`,
    `CREATED:  ${goTime(tunnel.createdAtMs)}`,
    "",
  ];
  const rows = connectors.flatMap((connector) => {
    const edge = formatLocations(countByLocation(connector.conns));
    if (edge === "") return [];
    const { id, run_at, arch, version, conns } = connector;
    return [[id, formatCreated(Date.parse(run_at)), arch, version, conns[0]?.origin_ip ?? "", edge].map(printable)];
  });
  if (rows.length === 0) return [...head, "This tunnel has no active connectors."];
  const widths = COLUMNS.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i]?.length ?? 0)));
  const line = (cells: readonly string[]): string => cells.map((cell, i) => `${cell.padEnd(widths[i] ?? 0)} `).join("");
  return [...head, line(COLUMNS), ...rows.map(line)];
}

/** `2xAMS, 1xFRA`. */
export function formatLocations(counts: readonly LocationCount[]): string {
  return counts.map(({ colo_name, count }) => `${count}x${colo_name}`).join(", ");
}

/** RFC 3339 to the second. */
export function formatCreated(wallMs: number): string {
  return `${new Date(wallMs).toISOString().slice(0, 19)}Z`;
}

/** As Go prints a time: `2021-03-26 19:29:34.291 +0000 UTC`, without zeros at the end of the fraction. */
function goTime(wallMs: number): string {
  const [date = "", time = ""] = new Date(wallMs).toISOString().slice(0, -1).split("T");
  return `${date} ${time.replace(/\.?0+$/, "")} +0000 UTC`;
}
