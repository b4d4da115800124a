import {
  getTunnel,
  happened,
  listConnectors,
  listTunnels,
  type Tunnel,
  type TunnelConnection,
} from "../api-client/tunnels.ts";
import { parseTunnelId } from "../core/ids.ts";
import { countByLocation } from "../edge/control/connectors.ts";
import { formatCreated, formatLocations, renderTunnelInfo, type ShownConnector } from "./active-connectors.ts";
import type { Context } from "./command.ts";
import { findTunnel, formatOf, invalid, positionals, printValue, renderTable, withApi } from "./management.ts";
import { INFO_FLAGS, LIST_FLAGS } from "./management-flags.ts";

/** `culvert tunnel list`. */
export function list(context: Context): Promise<number> {
  return withApi(context, "tunnel list", LIST_FLAGS, async ({ api, values }) => {
    positionals(context, []);
    const format = formatOf(values);
    const order = sorter(TUNNEL_ORDER, values.string("sort-by"), values.bool("invert-sort"));
    const when = values.string("when");
    if (when !== undefined && Number.isNaN(Date.parse(when))) {
      throw invalid(`--when "${when}" must be a time such as 2026-11-21T10:00:00Z`);
    }
    const id = values.string("id");
    if (id !== undefined && parseTunnelId(id) === undefined) throw invalid(`--id "${id}" must be a UUID`);
    const found = await listTunnels(api, {
      name: values.string("name"),
      name_prefix: values.string("name-prefix"),
      exclude_prefix: values.string("exclude-name-prefix"),
      existed_at: when === undefined ? undefined : new Date(when).toISOString(),
      uuid: id,
      is_deleted: values.bool("show-deleted") ? undefined : false,
    });
    const tunnels = found.toSorted(order);
    if (format !== "table") {
      printValue(context, format, tunnels);
      return;
    }
    if (tunnels.length === 0) {
      context.print(
        "No tunnels were found for the given filter flags. You can use 'culvert tunnel create' to create a tunnel.",
      );
      return;
    }
    context.print("You can obtain more detailed information for each tunnel with `culvert tunnel info <name/uuid>`");
    const all = values.bool("show-recently-disconnected");
    const rows = tunnels.map((tunnel) => [
      ...[tunnel.id, tunnel.name, formatCreated(Date.parse(tunnel.created_at))],
      formatLocations(countByLocation(shownAs(tunnel.connections ?? [], all))),
    ]);
    for (const line of renderTable([["ID", "NAME", "CREATED", "CONNECTIONS"], ...rows])) context.print(line);
  });
}

/** `culvert tunnel info TUNNEL`: its connectors that are connected now. */
export function info(context: Context): Promise<number> {
  return withApi(context, "tunnel info", INFO_FLAGS, async ({ api, values }) => {
    const [named] = positionals(context, ["TUNNEL"]);
    const format = formatOf(values);
    const order = sorter(CONNECTOR_ORDER, values.string("sort-by"), values.bool("invert-sort"));
    const tunnel = await getTunnel(api, await findTunnel(api, named));
    const all = values.bool("show-recently-disconnected");
    const connectors = (await listConnectors(api, tunnel.id))
      .map((connector) => ({
        ...connector,
        features: connector.features ?? [],
        conns: shownAs(connector.conns ?? [], all),
      }))
      .toSorted(order);
    if (format !== "table") {
      const { id, name, created_at: createdAt } = tunnel;
      const shown = { id, name, createdAt };
      printValue(context, format, format === "json" ? { ...shown, conns: connectors } : { ...shown, connectors });
      return;
    }
    const head = { id: tunnel.id, name: tunnel.name, createdAtMs: Date.parse(tunnel.created_at) };
    for (const line of renderTunnelInfo(head, connectors)) context.print(line);
  });
}

type Order<T> = (a: T, b: T) => number;

const TUNNEL_ORDER: Readonly<Record<string, Order<Tunnel>>> = {
  name: (a, b) => compare(a.name, b.name),
  id: (a, b) => compare(a.id, b.id),
  createdAt: (a, b) => Date.parse(a.created_at) - Date.parse(b.created_at),
  deletedAt: (a, b) => deletedAt(a) - deletedAt(b),
  numConnections: (a, b) => (a.connections?.length ?? 0) - (b.connections?.length ?? 0),
};

const CONNECTOR_ORDER: Readonly<Record<string, Order<ShownConnector>>> = {
  id: (a, b) => compare(a.id, b.id),
  createdAt: (a, b) => Date.parse(a.run_at) - Date.parse(b.run_at),
  numConnections: (a, b) => a.conns.length - b.conns.length,
  version: (a, b) => compare(a.version, b.version),
};

function sorter<T>(orders: Readonly<Record<string, Order<T>>>, asked: string | undefined, invert: boolean): Order<T> {
  const order = orders[asked ?? ""];
  if (order === undefined) {
    throw invalid(`--sort-by "${asked}" must be one of ${Object.keys(orders).join(", ")}`);
  }
  return invert ? (a, b) => order(b, a) : order;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function deletedAt(tunnel: Tunnel): number {
  return happened(tunnel.deleted_at) ? Date.parse(tunnel.deleted_at ?? "") : 0;
}

/** The connections to show; with `all`, those that are gone count as if they were there. */
function shownAs(connections: readonly TunnelConnection[], all: boolean): readonly TunnelConnection[] {
  if (!all) return connections.filter((connection) => !connection.is_pending_reconnect);
  return connections.map((connection) => ({ ...connection, is_pending_reconnect: false }));
}
