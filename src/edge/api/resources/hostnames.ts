import { z } from "zod";
import { normaliseHostname } from "../../hostname.ts";
import { MAX_MEMBERS, MAX_POOLS, POOL_NAME } from "../../pool-rules.ts";
import type { Account, HostnameRoute, Pool, Zone } from "../../store/port.ts";
import type { ApiDeps } from "../deps.ts";
import { type AnyEndpoint, endpoint, PAGING, paged, pageFrom, pageOf } from "../endpoint.ts";
import { CODE, notFound, Problem } from "../problem.ts";
import { tunnelOf } from "./tunnels.ts";

/** Hostnames that lead to tunnels and load balancers (protocol: section 10, `route dns` and `route lb`). */

const PoolName = z.string().regex(POOL_NAME, "Must be letters, digits, -, _ and .");

const RouteBody = z.discriminatedUnion("type", [
  z.object({ type: z.literal("dns"), user_hostname: z.string(), overwrite_existing: z.boolean().default(false) }),
  z.object({ type: z.literal("lb"), lb_name: z.string(), lb_pool: PoolName }),
]);

const Route = z.object({
  hostname: z.string(),
  tunnel_id: z.string().nullable(),
  load_balancer_id: z.string().nullable(),
  created_at: z.string(),
});

export function hostnameEndpoints(deps: ApiDeps): readonly AnyEndpoint[] {
  const { store, clock } = deps;
  return [
    endpoint({
      method: "PUT",
      path: "/zones/{zone_id}/tunnels/{tunnel_id}/routes",
      scope: "routes:write",
      summary: "Lead a hostname to a tunnel, or a tunnel into a pool of a load balancer",
      body: RouteBody,
      result: z.union([
        z.object({ cname: z.enum(["new", "updated", "unchanged"]), name: z.string() }),
        z.object({
          load_balancer: z.enum(["new", "updated", "unchanged"]),
          pool: z.enum(["new", "updated", "unchanged"]),
        }),
      ]),
      handle: ({ account, params, body, actor }) => {
        const zone = zoneOf(deps, account, params);
        const tunnel = tunnelOf(deps, account, params);
        if (body.type === "lb") {
          const hostname = hostnameIn(zone, body.lb_name);
          return {
            result: joinPool(deps, { account, zone, hostname, poolName: body.lb_pool, tunnelId: tunnel.id }, actor),
          };
        }
        const route: HostnameRoute = {
          hostname: hostnameIn(zone, body.user_hostname),
          target: { kind: "tunnel", tunnelId: tunnel.id },
          zoneId: zone.id,
          createdAtMs: clock.wallMs(),
        };
        return { result: { cname: put(deps, route, body.overwrite_existing, actor), name: route.hostname } };
      },
    }),

    endpoint({
      method: "GET",
      path: "/zones/{zone_id}/hostnames",
      scope: "tunnels:read",
      summary: "List hostnames and where they lead",
      query: z.object({ ...PAGING, tunnel_id: z.string().optional() }),
      result: z.array(Route),
      handle: ({ account, params, query }) => {
        const zone = zoneOf(deps, account, params);
        const tunnelId =
          query.tunnel_id === undefined ? undefined : tunnelOf(deps, account, { tunnel_id: query.tunnel_id }).id;
        const filter = tunnelId === undefined ? { zoneId: zone.id } : { zoneId: zone.id, tunnelId };
        const { items, total } = store.hostnames.find(filter, pageOf(query));
        return paged(items.map(showRoute), total, query);
      },
    }),

    endpoint({
      method: "DELETE",
      path: "/zones/{zone_id}/hostnames/{hostname}",
      scope: "routes:write",
      summary: "Let a hostname lead nowhere",
      result: z.null(),
      handle: ({ account, params, actor }) => {
        const zone = zoneOf(deps, account, params);
        const route = store.hostnames.get(hostnameIn(zone, params["hostname"] ?? ""));
        if (route === undefined || route.zoneId !== zone.id) throw notFound("Hostname");
        store.hostnames.remove(route.hostname, actor);
        return { result: null };
      },
    }),

    endpoint({
      method: "GET",
      path: "/zones",
      scope: undefined,
      summary: "The domains of the token's account",
      query: z.object({ ...PAGING, name: z.string().optional() }),
      result: z.array(
        z.object({
          id: z.string(),
          name: z.string(),
          status: z.literal("active"),
          account: z.object({ id: z.string(), name: z.string() }),
        }),
      ),
      handle: ({ account, query }) =>
        pageFrom(
          store.accounts
            .zones(account.tag)
            .filter(({ name }) => query.name === undefined || name === query.name)
            .map(({ id, name }) => ({
              id,
              name,
              status: "active" as const,
              account: { id: account.tag, name: account.name },
            })),
          query,
        ),
    }),
  ];
}

/** The zone of a path, if it is the account's. Throws a Problem of 404. */
export function zoneOf(deps: Pick<ApiDeps, "store">, account: Account, params: Readonly<Record<string, string>>): Zone {
  const zone = deps.store.accounts.zone(params["zone_id"] ?? "");
  if (zone === undefined || zone.accountTag !== account.tag) throw notFound("Zone");
  return zone;
}

/** A hostname of a zone; one outside it is taken for a name inside, as Cloudflare does. Throws a Problem of 400. */
export function hostnameIn(zone: Zone, text: string): string {
  const given = normaliseHostname(text);
  const inside = zone.name === "" || given === zone.name || given?.endsWith(`.${zone.name}`) === true;
  const hostname = given === undefined || inside ? given : normaliseHostname(`${given}.${zone.name}`);
  if (hostname === undefined)
    throw new Problem(400, CODE.invalid, `"${text}" is not a hostname (no scheme, port or path)`);
  return hostname;
}

function put(
  deps: ApiDeps,
  route: HostnameRoute,
  overwrite: boolean,
  actor: Parameters<ApiDeps["store"]["hostnames"]["put"]>[2],
) {
  const other = deps.store.hostnames.get(route.hostname);
  const taken = other !== undefined && !overwrite && !sameTunnel(other, route);
  if (taken || !isOwn(deps, other, route.zoneId)) {
    throw new Problem(
      400,
      CODE.hostnameTaken,
      `"${route.hostname}" leads elsewhere already: overwrite it (--overwrite-dns) if it should not`,
    );
  }
  return deps.store.hostnames.put(route, overwrite, actor);
}

/** Whether a hostname is free or belongs to the account of this zone: no account takes one from another. */
function isOwn({ store }: ApiDeps, route: HostnameRoute | undefined, zoneId: string): boolean {
  if (route === undefined || route.zoneId === zoneId) return true;
  return store.accounts.zone(route.zoneId)?.accountTag === store.accounts.zone(zoneId)?.accountTag;
}

function sameTunnel(a: HostnameRoute, b: HostnameRoute): boolean {
  return a.target.kind === "tunnel" && b.target.kind === "tunnel" && a.target.tunnelId === b.target.tunnelId;
}

interface Joining {
  readonly account: Account;
  readonly zone: Zone;
  readonly hostname: string;
  readonly poolName: string;
  readonly tunnelId: Pool["members"][number]["tunnelId"];
}

type Done = "new" | "updated" | "unchanged";

/** Makes what is missing of balancer and pool, and puts the tunnel into the pool. */
function joinPool(
  deps: ApiDeps,
  joining: Joining,
  actor: Parameters<ApiDeps["store"]["hostnames"]["put"]>[2],
): { load_balancer: Done; pool: Done } {
  const { store, clock } = deps;
  const { account, zone, hostname, poolName, tunnelId } = joining;
  const route = store.hostnames.get(hostname);
  if (route !== undefined && (route.target.kind !== "balancer" || !isOwn(deps, route, zone.id))) {
    throw new Problem(400, CODE.hostnameTaken, `"${hostname}" leads elsewhere already: delete that route first`);
  }
  const known = store.balancers.poolByName(account.tag, poolName);
  const member = { tunnelId, weight: 1, enabled: true };
  const joined = known?.members.some((one) => one.tunnelId === tunnelId) === true;
  const pool: Pool =
    known === undefined
      ? {
          ...{ id: crypto.randomUUID(), accountTag: account.tag, name: poolName, members: [member] },
          ...{ monitor: undefined, webhook: undefined, createdAtMs: clock.wallMs() },
        }
      : { ...known, members: joined ? known.members : [...known.members, member] };
  const balancer = store.balancers.byHostname(hostname);
  const uses = balancer?.poolIds.includes(pool.id) === true;
  if (pool.members.length > MAX_MEMBERS) {
    throw new Problem(400, CODE.invalid, `Pool "${poolName}" has ${MAX_MEMBERS} tunnels already, which is the most`);
  }
  if (!uses && balancer !== undefined && balancer.poolIds.length >= MAX_POOLS) {
    throw new Problem(400, CODE.invalid, `"${hostname}" has ${MAX_POOLS} pools already, which is the most`);
  }
  if (!joined) store.balancers.putPool(pool, actor);
  if (uses) return { load_balancer: "unchanged", pool: joined ? "unchanged" : "updated" };
  try {
    store.balancers.put(
      {
        id: balancer?.id ?? crypto.randomUUID(),
        accountTag: account.tag,
        hostname,
        steering: balancer?.steering ?? "least_outstanding",
        poolIds: [...(balancer?.poolIds ?? []), pool.id],
        createdAtMs: balancer?.createdAtMs ?? clock.wallMs(),
      },
      zone.id,
      false,
      actor,
    );
  } catch (error) {
    // Else a pool stays that nobody asked for by itself, or a tunnel in a pool that others use.
    if (known === undefined) store.balancers.removePool(pool.id, actor);
    else if (!joined) store.balancers.putPool(known, actor);
    throw error;
  }
  return {
    load_balancer: balancer === undefined ? "new" : "updated",
    pool: known === undefined ? "new" : joined ? "unchanged" : "updated",
  };
}

function showRoute({ hostname, target, createdAtMs }: HostnameRoute): z.infer<typeof Route> {
  return {
    hostname,
    tunnel_id: target.kind === "tunnel" ? target.tunnelId : null,
    load_balancer_id: target.kind === "balancer" ? target.balancerId : null,
    created_at: new Date(createdAtMs).toISOString(),
  };
}
