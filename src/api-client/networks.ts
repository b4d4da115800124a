import { z } from "zod";
import type { TunnelId } from "../core/ids.ts";
import type { ApiClient } from "./client.ts";

/** An IP network that a tunnel leads to, as the API shows it. */
export const NetworkRoute = z.object({
  id: z.string(),
  network: z.string(),
  tunnel_id: z.string().default(""),
  tunnel_name: z.string().nullish(),
  virtual_network_id: z.string().nullish(),
  comment: z.string().default(""),
  created_at: z.string(),
  deleted_at: z.string().nullish(),
});
export type NetworkRoute = z.infer<typeof NetworkRoute>;

export const VirtualNetwork = z.object({
  id: z.string(),
  name: z.string(),
  comment: z.string().default(""),
  is_default_network: z.boolean().default(false),
  created_at: z.string(),
  deleted_at: z.string().nullish(),
});
export type VirtualNetwork = z.infer<typeof VirtualNetwork>;

export interface RouteQuery {
  readonly is_deleted?: boolean | undefined;
  readonly tunnel_id?: string | undefined;
  readonly network_subset?: string | undefined;
  readonly network_superset?: string | undefined;
  readonly comment?: string | undefined;
  readonly virtual_network_id?: string | undefined;
  readonly existed_at?: string | undefined;
}

export function listRoutes(api: ApiClient, query: RouteQuery): Promise<readonly NetworkRoute[]> {
  return api.list(`${api.account}/teamnet/routes`, NetworkRoute, { tun_types: "cfd_tunnel", ...query });
}

export function addRoute(
  api: ApiClient,
  route: { network: string; tunnelId: TunnelId; comment: string; virtualNetworkId: string | undefined },
): Promise<NetworkRoute> {
  const { network, tunnelId, comment, virtualNetworkId } = route;
  const vnet = virtualNetworkId === undefined ? {} : { virtual_network_id: virtualNetworkId };
  const body = { network, tunnel_id: tunnelId, comment, ...vnet };
  return api.call("POST", `${api.account}/teamnet/routes`, NetworkRoute, { body });
}

export async function deleteRoute(api: ApiClient, id: string): Promise<void> {
  await api.call("DELETE", `${api.account}/teamnet/routes/${encodeURIComponent(id)}`, z.unknown());
}

/** The route an address takes; undefined when there is none. */
export async function routeOf(
  api: ApiClient,
  ip: string,
  virtualNetworkId: string | undefined,
): Promise<NetworkRoute | undefined> {
  const query = { virtual_network_id: virtualNetworkId };
  const path = `${api.account}/teamnet/routes/ip/${encodeURIComponent(ip)}`;
  // No route is null, or an object without the fields of one.
  return NetworkRoute.safeParse(await api.call("GET", path, z.unknown(), { query })).data;
}

export interface NetworkQuery {
  readonly id?: string | undefined;
  readonly name?: string | undefined;
  readonly is_default?: boolean | undefined;
  readonly is_deleted?: boolean | undefined;
}

export function listNetworks(api: ApiClient, query: NetworkQuery): Promise<readonly VirtualNetwork[]> {
  return api.list(`${api.account}/teamnet/virtual_networks`, VirtualNetwork, { ...query });
}

export function addNetwork(
  api: ApiClient,
  network: { name: string; comment: string; isDefault: boolean },
): Promise<VirtualNetwork> {
  const body = { name: network.name, comment: network.comment, is_default_network: network.isDefault };
  return api.call("POST", `${api.account}/teamnet/virtual_networks`, VirtualNetwork, { body });
}

export async function updateNetwork(
  api: ApiClient,
  id: string,
  change: { name?: string | undefined; comment?: string | undefined; isDefault?: boolean | undefined },
): Promise<void> {
  const body = { name: change.name, comment: change.comment, is_default_network: change.isDefault };
  await api.call("PATCH", `${api.account}/teamnet/virtual_networks/${encodeURIComponent(id)}`, z.unknown(), { body });
}

export async function deleteNetwork(api: ApiClient, id: string, force: boolean): Promise<void> {
  const path = `${api.account}/teamnet/virtual_networks/${encodeURIComponent(id)}`;
  await api.call("DELETE", path, z.unknown(), { query: force ? { force } : {} });
}
