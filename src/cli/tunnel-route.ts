import { domainToASCII } from "node:url";
import type { ApiClient } from "../api-client/client.ts";
import { addRoute, deleteRoute, listNetworks, listRoutes, type NetworkRoute, routeOf } from "../api-client/networks.ts";
import { happened, routeBalancer, routeDns } from "../api-client/tunnels.ts";
import { TunnelError } from "../core/errors.ts";
import { parseTunnelId } from "../core/ids.ts";
import { formatCidr, parseCidr } from "../wire/cidr.ts";
import { formatCreated } from "./active-connectors.ts";
import type { Context } from "./command.ts";
import {
  findTunnel,
  formatOf,
  invalid,
  positionals,
  printValue,
  renderTable,
  UsageError,
  withApi,
} from "./management.ts";
import { ROUTE_DNS_FLAGS, ROUTE_IP_FLAGS, ROUTE_LIST_FLAGS } from "./management-flags.ts";

const HOSTNAME = /^[*_a-zA-Z0-9][-_.a-zA-Z0-9]*$/;
const POOL_NAME = /^[_a-zA-Z0-9][-_.a-zA-Z0-9]*$/;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** `culvert tunnel route dns TUNNEL HOSTNAME`. */
export function dns(context: Context): Promise<number> {
  return withApi(context, "tunnel route dns", ROUTE_DNS_FLAGS, async ({ api, values }) => {
    const [named, given] = positionals(context, ["TUNNEL", "HOSTNAME"]);
    const hostname = readHostname(given);
    const id = await findTunnel(api, named);
    const { cname, name } = await routeDns(api, id, hostname, values.bool("overwrite-dns"));
    const done: Readonly<Record<string, string>> = {
      new: `Added CNAME ${name} which will route to this tunnel`,
      updated: `${name} updated to route to your tunnel`,
      unchanged: `${name} is already configured to route to your tunnel`,
    };
    context.note(`${done[cname] ?? `${name}: ${cname}`} tunnelID=${id}`);
  });
}

/** `culvert tunnel route lb TUNNEL HOSTNAME POOL`. */
export function lb(context: Context): Promise<number> {
  return withApi(context, "tunnel route lb", [], async ({ api }) => {
    const [named, given, pool] = positionals(context, ["TUNNEL", "HOSTNAME", "POOL"]);
    const hostname = readHostname(given);
    if (!POOL_NAME.test(pool)) throw invalid(`"${pool}" is not a pool's name: letters, digits, "-", "_" and "."`);
    const id = await findTunnel(api, named);
    const done = await routeBalancer(api, id, hostname, pool);
    context.note(`${describeJoin(hostname, pool, done)} tunnelID=${id}`);
  });
}

/** cloudflared's words for what became of a load balancer and a pool. */
function describeJoin(
  balancer: string,
  pool: string,
  done: { readonly load_balancer: string; readonly pool: string },
): string {
  const words: Readonly<Record<string, string>> = {
    "new,new": `Created load balancer ${balancer} and added a new pool ${pool} with this tunnel as an origin`,
    "new,updated": `Created load balancer ${balancer} with an existing pool ${pool} which was updated to use this tunnel as an origin`,
    "new,unchanged": `Created load balancer ${balancer} with an existing pool ${pool} which already has this tunnel as an origin`,
    "updated,new": `Added new pool ${pool} with this tunnel as an origin to load balancer ${balancer}`,
    "updated,updated": `Updated pool ${pool} to use this tunnel as an origin and added it to load balancer ${balancer}`,
    "updated,unchanged": `Added pool ${pool}, which already has this tunnel as an origin, to load balancer ${balancer}`,
    "unchanged,updated": `Added this tunnel as an origin in pool ${pool} which is already used by load balancer ${balancer}`,
    "unchanged,unchanged": `Load balancer ${balancer} already uses pool ${pool} which has this tunnel as an origin`,
  };
  const both = `${done.load_balancer},${done.pool}`;
  return words[both] ?? `Load balancer ${balancer} and pool ${pool}: ${both}`;
}

/** `culvert tunnel route ip add CIDR TUNNEL [COMMENT]`. */
export function ipAdd(context: Context): Promise<number> {
  return withApi(context, "tunnel route ip add", ROUTE_IP_FLAGS, async ({ api, values }) => {
    const [network, named, comment = "", ...more] = context.positionals;
    if (network === undefined || named === undefined || more.length > 0) {
      throw new UsageError("Give CIDR TUNNEL [COMMENT]; put a comment of several words in quotes");
    }
    readCidr(network);
    const tunnelId = await findTunnel(api, named);
    const virtualNetworkId = await findNetwork(api, values.string("vnet"));
    const route = await addRoute(api, { network, tunnelId, comment, virtualNetworkId });
    context.print(`Successfully added route for ${route.network} over tunnel ${tunnelId}`);
  });
}

/** `culvert tunnel route ip show`. */
export function ipList(context: Context): Promise<number> {
  return withApi(context, "tunnel route ip show", ROUTE_LIST_FLAGS, async ({ api, values }) => {
    const format = formatOf(values);
    const tunnel = values.string("filter-tunnel-id");
    if (tunnel !== undefined && parseTunnelId(tunnel) === undefined) {
      throw invalid(`--filter-tunnel-id "${tunnel}" must be a UUID`);
    }
    const routes = await listRoutes(api, {
      is_deleted: values.bool("filter-is-deleted"),
      tunnel_id: tunnel,
      network_subset: values.string("filter-network-is-subset-of"),
      network_superset: values.string("filter-network-is-superset-of"),
      comment: values.string("filter-comment-is"),
      virtual_network_id: values.string("filter-vnet-id"),
    });
    if (format !== "table") printValue(context, format, routes);
    else if (routes.length > 0) for (const line of renderRoutes(routes)) context.print(line);
    else
      context.print(
        "No routes were found for the given filter flags. You can use 'culvert tunnel route ip add' to add a route.",
      );
  });
}

/** `culvert tunnel route ip delete ID|CIDR`. */
export function ipDelete(context: Context): Promise<number> {
  return withApi(context, "tunnel route ip delete", ROUTE_IP_FLAGS, async ({ api, values }) => {
    const [given] = positionals(context, ["ID or CIDR"]);
    const id = UUID.test(given) ? given : await findRoute(api, given, values.string("vnet"));
    await deleteRoute(api, id);
    context.print(`Successfully deleted route with ID ${id}`);
  });
}

/** `culvert tunnel route ip get IP`: which route an address takes. */
export function ipGet(context: Context): Promise<number> {
  return withApi(context, "tunnel route ip get", ROUTE_IP_FLAGS, async ({ api, values }) => {
    const [ip] = positionals(context, ["IP"]);
    if (ip.includes("/") || parseCidr(ip) === undefined) throw invalid(`"${ip}" is not an IP address`);
    const route = await routeOf(api, ip, await findNetwork(api, values.string("vnet")));
    if (route === undefined) context.print(`No route matches the IP ${ip}`);
    else for (const line of renderRoutes([route])) context.print(line);
  });
}

/** Id of a virtual network given by name or id. */
export async function findNetwork(api: ApiClient, text: string | undefined): Promise<string | undefined> {
  if (text === undefined || UUID.test(text)) return text;
  const [found] = await listNetworks(api, { name: text, is_deleted: false });
  if (found !== undefined) return found.id;
  throw new TunnelError("api.missing", `There is no virtual network "${text}": see culvert tunnel vnet list`);
}

async function findRoute(api: ApiClient, network: string, vnet: string | undefined): Promise<string> {
  const canonical = readCidr(network);
  const virtualNetworkId = await findNetwork(api, vnet);
  const routes = await listRoutes(api, {
    is_deleted: false,
    virtual_network_id: virtualNetworkId,
    network_subset: canonical,
  });
  const found = routes.filter((route) => route.network === canonical);
  const [first] = found;
  if (first === undefined)
    throw new TunnelError("api.missing", `There is no route for ${network}: see culvert tunnel route ip show`);
  if (found.length === 1) return first.id;
  throw invalid(`Several virtual networks have a route for ${network}: give --vnet, or the route's id`);
}

function readHostname(given: string): string {
  const wild = given.startsWith("*.");
  const ascii = domainToASCII(wild ? given.slice(2) : given);
  const hostname = wild ? `*.${ascii}` : ascii;
  if (ascii !== "" && HOSTNAME.test(hostname)) return hostname;
  throw invalid(`"${given}" is not a hostname (no scheme, port or path)`);
}

/** A network as the API writes it. */
function readCidr(text: string): string {
  const block = text.includes("/") ? parseCidr(text) : undefined;
  if (block === undefined) throw invalid(`"${text}" is not a network such as 10.0.0.0/8 or fd00::/64`);
  return formatCidr(block);
}

function renderRoutes(routes: readonly NetworkRoute[]): readonly string[] {
  const head = ["ID", "NETWORK", "VIRTUAL NET ID", "COMMENT", "TUNNEL ID", "TUNNEL NAME", "CREATED", "DELETED"];
  const rows = routes.map((route) => [
    ...[route.id, route.network, route.virtual_network_id ?? "", route.comment, route.tunnel_id],
    ...[route.tunnel_name ?? "", formatTime(route.created_at), formatTime(route.deleted_at)],
  ]);
  return renderTable([head, ...rows]);
}

/** A time of the API for a table; `-` for what did not happen. */
export function formatTime(time: string | null | undefined): string {
  return happened(time) ? formatCreated(Date.parse(time ?? "")) : "-";
}
