import { z } from "zod";
import { parseTunnelId } from "../../../core/ids.ts";
import { MAX_MEMBERS, MAX_POOLS, MONITOR_PATH, monitorHost, POOL_NAME } from "../../pool-rules.ts";
import { type Account, type ApiToken, type Balancer, type Pool, STEERINGS, type Zone } from "../../store/port.ts";
import { allows, authorize } from "../access.ts";
import type { ApiDeps } from "../deps.ts";
import { type AnyEndpoint, endpoint, PAGING, pageFrom, Uuid } from "../endpoint.ts";
import { CODE, notFound, Problem } from "../problem.ts";
import { zoneOf } from "./hostnames.ts";

/** Load balancers over tunnels and their pools. Paths are Cloudflare's; members are tunnels instead of addresses. */

const Status = z.number().int().min(100).max(599);

const Monitor = z.object({
  path: z.string().regex(MONITOR_PATH, "Must begin with /, in ASCII without blanks").default("/"),
  host: z
    .string()
    .refine((text) => monitorHost(text) !== undefined, "Must be a hostname (no scheme, port, path or wildcard)")
    .overwrite((text) => monitorHost(text) ?? text)
    .optional(),
  interval_ms: z.number().int().min(1_000).max(3_600_000).default(30_000),
  timeout_ms: z.number().int().min(100).max(60_000).default(5_000),
  expect: z
    .tuple([Status, Status])
    .refine(([from, to]) => from <= to, "Must be the lowest and the highest status, in this order")
    .default([200, 399]),
  unhealthy_after: z.number().int().min(1).max(100).default(3),
  healthy_after: z.number().int().min(1).max(100).default(2),
});

const Member = z.object({
  tunnel_id: Uuid,
  weight: z.number().positive().max(1_000_000).default(1),
  enabled: z.boolean().default(true),
});

const PoolBody = z.object({
  name: z.string().regex(POOL_NAME, "Must be letters, digits, -, _ and ."),
  members: z.array(Member).max(MAX_MEMBERS).default([]),
  monitor: Monitor.nullish(),
  webhook: z
    .url({ protocol: /^https?$/ })
    .max(2_048)
    .nullish(),
});

const PoolShown = PoolBody.extend({
  id: z.string(),
  created_at: z.string(),
  monitor: Monitor.nullable(),
  /** Null also for who may not see it: whoever knows such a URL can often write where it leads. */
  webhook: z.string().nullable(),
  webhook_set: z.boolean(),
});

const BalancerChange = z.object({
  steering: z.enum(STEERINGS).optional(),
  pools: z.array(Uuid).min(1).max(MAX_POOLS).optional(),
});

const BalancerShown = z.object({
  id: z.string(),
  hostname: z.string(),
  steering: z.enum(STEERINGS),
  pools: z.array(z.string()),
  created_at: z.string(),
});

export function balancerEndpoints(deps: ApiDeps): readonly AnyEndpoint[] {
  const { store, clock } = deps;
  const pools = "/accounts/{account_id}/load_balancers/pools";
  const balancers = "/zones/{zone_id}/load_balancers";
  return [
    endpoint({
      method: "GET",
      path: pools,
      scope: "tunnels:read",
      summary: "List pools of tunnels",
      query: z.object(PAGING),
      result: z.array(PoolShown),
      handle: ({ account, query, token }) =>
        pageFrom(
          store.balancers.pools(account.tag).map((pool) => showPool(pool, token)),
          query,
        ),
    }),
    endpoint({
      method: "POST",
      path: pools,
      scope: "routes:write",
      summary: "Make a pool",
      body: PoolBody,
      result: PoolShown,
      handle: ({ account, body, actor, token }) => {
        requireMaySet(token, body.webhook, undefined);
        if (store.balancers.poolByName(account.tag, body.name) !== undefined) {
          throw new Problem(409, CODE.nameTaken, "You already have a pool with this name");
        }
        const pool = toPool(deps, account, crypto.randomUUID(), body, clock.wallMs());
        store.balancers.putPool(pool, actor);
        return { result: showPool(pool, token) };
      },
    }),
    endpoint({
      method: "GET",
      path: `${pools}/{pool_id}`,
      scope: "tunnels:read",
      summary: "Show a pool",
      result: PoolShown,
      handle: ({ account, params, token }) => ({
        result: showPool(poolOf(deps, account, params["pool_id"] ?? ""), token),
      }),
    }),
    endpoint({
      method: "PUT",
      path: `${pools}/{pool_id}`,
      scope: "routes:write",
      summary: "Replace a pool",
      body: PoolBody,
      result: PoolShown,
      handle: ({ account, params, body, actor, token }) => {
        const known = poolOf(deps, account, params["pool_id"] ?? "");
        requireMaySet(token, body.webhook, known.webhook);
        const pool = toPool(deps, account, known.id, body, known.createdAtMs);
        store.balancers.putPool(pool, actor);
        return { result: showPool(pool, token) };
      },
    }),
    endpoint({
      method: "DELETE",
      path: `${pools}/{pool_id}`,
      scope: "routes:write",
      summary: "Delete a pool that no load balancer uses",
      result: z.object({ id: z.string() }),
      handle: ({ account, params, actor }) => {
        const { id } = poolOf(deps, account, params["pool_id"] ?? "");
        store.balancers.removePool(id, actor);
        return { result: { id } };
      },
    }),
    endpoint({
      method: "GET",
      path: balancers,
      scope: "tunnels:read",
      summary: "List load balancers",
      query: z.object(PAGING),
      result: z.array(BalancerShown),
      handle: ({ account, params, query }) => {
        const zone = zoneOf(deps, account, params);
        const own = store.balancers
          .list(account.tag)
          .filter(({ hostname }) => store.hostnames.get(hostname)?.zoneId === zone.id);
        return pageFrom(own.map(showBalancer), query);
      },
    }),
    endpoint({
      method: "PATCH",
      path: `${balancers}/{balancer_id}`,
      scope: "routes:write",
      summary: "Change how a load balancer chooses, and its pools in the order of preference",
      body: BalancerChange,
      result: BalancerShown,
      handle: ({ account, params, body, actor }) => {
        const zone = zoneOf(deps, account, params);
        const known = balancerOf(deps, account, zone, params);
        for (const id of body.pools ?? []) poolOf(deps, account, id);
        const balancer = {
          ...known,
          steering: body.steering ?? known.steering,
          poolIds: body.pools ?? known.poolIds,
        };
        store.balancers.put(balancer, zone.id, false, actor);
        return { result: showBalancer(balancer) };
      },
    }),
    endpoint({
      method: "DELETE",
      path: `${balancers}/{balancer_id}`,
      scope: "routes:write",
      summary: "Delete a load balancer and its hostname",
      result: z.object({ id: z.string() }),
      handle: ({ account, params, actor }) => {
        const { id } = balancerOf(deps, account, zoneOf(deps, account, params), params);
        store.balancers.remove(id, actor);
        return { result: { id } };
      },
    }),
  ];
}

function poolOf({ store }: ApiDeps, account: Account, id: string): Pool {
  const pool = store.balancers.pool(id);
  if (pool === undefined || pool.accountTag !== account.tag) throw notFound("Pool");
  return pool;
}

function balancerOf(
  { store }: ApiDeps,
  account: Account,
  zone: Zone,
  params: Readonly<Record<string, string>>,
): Balancer {
  const balancer = store.balancers.get(params["balancer_id"] ?? "");
  const own = balancer?.accountTag === account.tag && store.hostnames.get(balancer.hostname)?.zoneId === zone.id;
  if (balancer === undefined || !own) throw notFound("Load balancer");
  return balancer;
}

function toPool(
  { store }: ApiDeps,
  account: Account,
  id: string,
  body: z.infer<typeof PoolBody>,
  createdAtMs: number,
): Pool {
  const members = body.members.map((member) => {
    const tunnelId = parseTunnelId(member.tunnel_id);
    const tunnel = tunnelId === undefined ? undefined : store.tunnels.get(tunnelId);
    if (tunnel === undefined || tunnel.accountTag !== account.tag || tunnel.deletedAtMs !== undefined) {
      throw new Problem(400, CODE.invalid, `members: there is no tunnel ${member.tunnel_id}`);
    }
    return { tunnelId: tunnel.id, weight: member.weight, enabled: member.enabled };
  });
  if (new Set(members.map(({ tunnelId }) => tunnelId)).size < members.length) {
    throw new Problem(400, CODE.invalid, "members: a tunnel is named twice");
  }
  const { monitor } = body;
  return {
    ...{ id, accountTag: account.tag, name: body.name, members, createdAtMs, webhook: body.webhook ?? undefined },
    monitor:
      monitor === null || monitor === undefined
        ? undefined
        : {
            path: monitor.path,
            host: monitor.host,
            intervalMs: monitor.interval_ms,
            timeoutMs: monitor.timeout_ms,
            expect: monitor.expect,
            unhealthyAfter: monitor.unhealthy_after,
            healthyAfter: monitor.healthy_after,
          },
  };
}

/** The edge calls webhooks from where it stands, maybe inside a network. Throws a Problem of 403. */
function requireMaySet(token: ApiToken, asked: string | null | undefined, known: string | undefined): void {
  if (asked !== null && asked !== undefined && asked !== known) authorize(token, "admin");
}

function showPool(pool: Pool, token: ApiToken): z.infer<typeof PoolShown> {
  const { monitor } = pool;
  return {
    id: pool.id,
    name: pool.name,
    members: pool.members.map(({ tunnelId, weight, enabled }) => ({ tunnel_id: tunnelId, weight, enabled })),
    monitor:
      monitor === undefined
        ? null
        : {
            path: monitor.path,
            ...(monitor.host === undefined ? {} : { host: monitor.host }),
            interval_ms: monitor.intervalMs,
            timeout_ms: monitor.timeoutMs,
            expect: [...monitor.expect],
            unhealthy_after: monitor.unhealthyAfter,
            healthy_after: monitor.healthyAfter,
          },
    webhook: allows(token.scopes, "routes:write") ? (pool.webhook ?? null) : null,
    webhook_set: pool.webhook !== undefined,
    created_at: new Date(pool.createdAtMs).toISOString(),
  };
}

function showBalancer(balancer: Balancer): z.infer<typeof BalancerShown> {
  return {
    id: balancer.id,
    hostname: balancer.hostname,
    steering: balancer.steering,
    pools: [...balancer.poolIds],
    created_at: new Date(balancer.createdAtMs).toISOString(),
  };
}
