import { z } from "zod";
import { parseTunnelId } from "../../../core/ids.ts";
import { type Cidr, cidrContains, cidrWithin, formatCidr, parseCidr } from "../../../wire/cidr.ts";
import { nameOf } from "../../names.ts";
import type { Account, NetworkFilter, NetworkRoute, VirtualNetwork } from "../../store/port.ts";
import type { ApiDeps } from "../deps.ts";
import { type AnyEndpoint, endpoint, Flag, formatTime, PAGING, pageFrom, Time, Uuid } from "../endpoint.ts";
import { CODE, notFound, Problem, withConflict } from "../problem.ts";
import { tunnelOf } from "./tunnels.ts";

/** IP networks that tunnels lead to, and virtual networks that keep equal ones apart. Kept and listed; without traffic. */

const MAX_COMMENT_CHARS = 1_024;
const Comment = z.string().max(MAX_COMMENT_CHARS);

const Network = z.string().transform((text, context): Cidr => {
  const block = text.includes("/") ? parseCidr(text) : undefined;
  if (block === undefined) context.addIssue({ code: "custom", message: "Must be a network such as 10.0.0.0/8" });
  return block ?? { network: new Uint8Array(16), bits: 0 };
});

const Route = z.object({
  id: z.string(),
  network: z.string(),
  tunnel_id: z.string(),
  tunnel_name: z.string(),
  tun_type: z.literal("cfd_tunnel"),
  virtual_network_id: z.string(),
  virtual_network_name: z.string(),
  comment: z.string(),
  created_at: z.string(),
  deleted_at: z.string().nullable(),
});

const Vnet = z.object({
  id: z.string(),
  name: z.string(),
  comment: z.string(),
  is_default_network: z.boolean(),
  created_at: z.string(),
  deleted_at: z.string().nullable(),
});

const VnetName = nameOf(256);

export function networkEndpoints(deps: ApiDeps): readonly AnyEndpoint[] {
  const { store, clock } = deps;
  const show = (route: NetworkRoute): z.infer<typeof Route> => showRoute(deps, route);

  return [
    endpoint({
      method: "GET",
      path: "/accounts/{account_id}/teamnet/routes",
      scope: "networks:read",
      summary: "List networks and the tunnels they lead to",
      query: z.object({
        ...PAGING,
        tun_types: z.string().optional(),
        is_deleted: Flag.optional(),
        tunnel_id: Uuid.optional(),
        virtual_network_id: Uuid.optional(),
        comment: z.string().optional(),
        existed_at: Time.optional(),
        network_subset: Network.optional(),
        network_superset: Network.optional(),
      }),
      result: z.array(Route),
      handle: ({ account, query }) => {
        const { network_subset: within, network_superset: around } = query;
        const routes = store.networks.routes(routeFilter(account, query)).filter(({ network }) => {
          const block = parseCidr(network);
          if (block === undefined) return false;
          return (
            (within === undefined || cidrWithin(block, within)) && (around === undefined || cidrWithin(around, block))
          );
        });
        return pageFrom(routes.map(show), query);
      },
    }),

    endpoint({
      method: "POST",
      path: "/accounts/{account_id}/teamnet/routes",
      scope: "networks:write",
      summary: "Lead a network to a tunnel",
      body: z.object({
        network: Network,
        tunnel_id: Uuid,
        comment: Comment.default(""),
        virtual_network_id: Uuid.optional(),
      }),
      result: Route,
      handle: ({ account, body, actor }) => {
        const tunnel = tunnelOf(deps, account, { tunnel_id: body.tunnel_id });
        const route: NetworkRoute = {
          id: crypto.randomUUID(),
          accountTag: account.tag,
          network: formatCidr(body.network),
          tunnelId: tunnel.id,
          virtualNetworkId: vnetOf(deps, account, body.virtual_network_id).id,
          comment: body.comment,
          createdAtMs: clock.wallMs(),
          deletedAtMs: undefined,
        };
        withConflict(CODE.routeTaken, () => store.networks.addRoute(route, actor));
        return { result: show(route) };
      },
    }),

    endpoint({
      method: "GET",
      path: "/accounts/{account_id}/teamnet/routes/ip/{ip}",
      scope: "networks:read",
      summary: "The route that an address takes",
      query: z.object({ virtual_network_id: Uuid.optional() }),
      result: Route.nullable(),
      handle: ({ account, params, query }) => {
        const ip = params["ip"] ?? "";
        if (ip.includes("/") || parseCidr(ip) === undefined)
          throw new Problem(400, CODE.invalid, "Must be an IP address");
        const virtualNetworkId = vnetOf(deps, account, query.virtual_network_id).id;
        let best: { readonly route: NetworkRoute; readonly bits: number } | undefined;
        for (const route of store.networks.routes({ accountTag: account.tag, deleted: false, virtualNetworkId })) {
          const block = parseCidr(route.network);
          if (block === undefined || !cidrContains(block, ip)) continue;
          if (best === undefined || block.bits > best.bits) best = { route, bits: block.bits };
        }
        // cloudflared says "No route matches" to an empty result, and fails at a 404.
        return { result: best === undefined ? null : show(best.route) };
      },
    }),

    endpoint({
      method: "GET",
      path: "/accounts/{account_id}/teamnet/routes/{route_id}",
      scope: "networks:read",
      summary: "Show a route",
      result: Route,
      handle: ({ account, params }) => ({ result: show(routeOf(deps, account, params)) }),
    }),

    endpoint({
      method: "DELETE",
      path: "/accounts/{account_id}/teamnet/routes/{route_id}",
      scope: "networks:write",
      summary: "Delete a route",
      result: Route,
      handle: ({ account, params, actor }) => {
        const route = routeOf(deps, account, params);
        store.networks.removeRoute(route.id, actor);
        return { result: show({ ...route, deletedAtMs: clock.wallMs() }) };
      },
    }),

    endpoint({
      method: "GET",
      path: "/accounts/{account_id}/teamnet/virtual_networks",
      scope: "networks:read",
      summary: "List virtual networks",
      query: z.object({
        ...PAGING,
        id: Uuid.optional(),
        name: z.string().optional(),
        is_default: Flag.optional(),
        is_default_network: Flag.optional(),
        is_deleted: Flag.optional(),
      }),
      result: z.array(Vnet),
      handle: ({ account, query }) => {
        const isDefault = query.is_default ?? query.is_default_network;
        // Makes it, if nobody has asked for it yet.
        store.networks.defaultVirtualNetwork(account.tag);
        const found = store.networks.virtualNetworks({
          accountTag: account.tag,
          ...(query.id === undefined ? {} : { id: query.id }),
          ...(query.name === undefined ? {} : { name: query.name }),
          ...(isDefault === undefined ? {} : { isDefault }),
          ...(query.is_deleted === undefined ? {} : { deleted: query.is_deleted }),
        });
        return pageFrom(found.map(showVnet), query);
      },
    }),

    endpoint({
      method: "POST",
      path: "/accounts/{account_id}/teamnet/virtual_networks",
      scope: "networks:write",
      summary: "Make a virtual network",
      body: z.object({
        name: VnetName,
        comment: Comment.default(""),
        is_default_network: z.boolean().optional(),
        is_default: z.boolean().optional(),
      }),
      result: Vnet,
      handle: ({ account, body, actor }) => {
        store.networks.defaultVirtualNetwork(account.tag);
        const network: VirtualNetwork = {
          id: crypto.randomUUID(),
          accountTag: account.tag,
          name: body.name,
          comment: body.comment,
          isDefault: body.is_default_network ?? body.is_default ?? false,
          createdAtMs: clock.wallMs(),
          deletedAtMs: undefined,
        };
        store.networks.putVirtualNetwork(network, actor);
        return { result: showVnet(network) };
      },
    }),

    endpoint({
      method: "GET",
      path: "/accounts/{account_id}/teamnet/virtual_networks/{vnet_id}",
      scope: "networks:read",
      summary: "Show a virtual network",
      result: Vnet,
      handle: ({ account, params }) => ({ result: showVnet(vnetOf(deps, account, params["vnet_id"] ?? "")) }),
    }),

    endpoint({
      method: "PATCH",
      path: "/accounts/{account_id}/teamnet/virtual_networks/{vnet_id}",
      scope: "networks:write",
      summary: "Change a virtual network",
      body: z.object({
        name: VnetName.optional(),
        comment: Comment.optional(),
        is_default_network: z.boolean().optional(),
      }),
      result: Vnet,
      handle: ({ account, params, body, actor }) => {
        const known = vnetOf(deps, account, params["vnet_id"] ?? "");
        const network: VirtualNetwork = {
          ...known,
          name: body.name ?? known.name,
          comment: body.comment ?? known.comment,
          isDefault: body.is_default_network ?? known.isDefault,
        };
        store.networks.putVirtualNetwork(network, actor);
        return { result: showVnet(network) };
      },
    }),

    endpoint({
      method: "DELETE",
      path: "/accounts/{account_id}/teamnet/virtual_networks/{vnet_id}",
      scope: "networks:write",
      summary: "Delete a virtual network; with force also its routes",
      query: z.object({ force: Flag.default(false) }),
      result: Vnet,
      handle: ({ account, params, query, actor }) => {
        const network = vnetOf(deps, account, params["vnet_id"] ?? "");
        withConflict(CODE.networkInUse, () => store.networks.removeVirtualNetwork(network.id, query.force, actor));
        return { result: showVnet({ ...network, deletedAtMs: clock.wallMs() }) };
      },
    }),
  ];
}

function routeFilter(
  account: Account,
  query: {
    readonly is_deleted?: boolean | undefined;
    readonly tunnel_id?: string | undefined;
    readonly virtual_network_id?: string | undefined;
    readonly comment?: string | undefined;
    readonly existed_at?: number | undefined;
  },
): NetworkFilter {
  const tunnelId = parseTunnelId(query.tunnel_id ?? "");
  return {
    accountTag: account.tag,
    ...(query.is_deleted === undefined ? {} : { deleted: query.is_deleted }),
    ...(tunnelId === undefined ? {} : { tunnelId }),
    ...(query.virtual_network_id === undefined ? {} : { virtualNetworkId: query.virtual_network_id }),
    ...(query.comment === undefined ? {} : { comment: query.comment }),
    ...(query.existed_at === undefined ? {} : { existedAtMs: query.existed_at }),
  };
}

function routeOf(deps: ApiDeps, account: Account, params: Readonly<Record<string, string>>): NetworkRoute {
  const route = deps.store.networks.route(params["route_id"] ?? "");
  if (route === undefined || route.accountTag !== account.tag || route.deletedAtMs !== undefined)
    throw notFound("Route", CODE.routeMissing);
  return route;
}

/** A living virtual network of the account; undefined = its default one. */
function vnetOf(deps: ApiDeps, account: Account, id: string | undefined): VirtualNetwork {
  if (id === undefined) return deps.store.networks.defaultVirtualNetwork(account.tag);
  const [found] = deps.store.networks.virtualNetworks({ accountTag: account.tag, id, deleted: false });
  if (found === undefined) throw notFound("Virtual network");
  return found;
}

function showRoute({ store }: ApiDeps, route: NetworkRoute): z.infer<typeof Route> {
  const [network] = store.networks.virtualNetworks({ accountTag: route.accountTag, id: route.virtualNetworkId });
  return {
    id: route.id,
    network: route.network,
    tunnel_id: route.tunnelId,
    tunnel_name: store.tunnels.get(route.tunnelId)?.name ?? "",
    tun_type: "cfd_tunnel",
    virtual_network_id: route.virtualNetworkId,
    virtual_network_name: network?.name ?? "",
    comment: route.comment,
    created_at: new Date(route.createdAtMs).toISOString(),
    deleted_at: formatTime(route.deletedAtMs),
  };
}

function showVnet(network: VirtualNetwork): z.infer<typeof Vnet> {
  return {
    id: network.id,
    name: network.name,
    comment: network.comment,
    is_default_network: network.isDefault,
    created_at: new Date(network.createdAtMs).toISOString(),
    deleted_at: formatTime(network.deletedAtMs),
  };
}
