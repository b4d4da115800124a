import { systemClock } from "../core/clock.ts";
import { formatDuration } from "../core/duration.ts";
import { TunnelError } from "../core/errors.ts";
import { MAX_MEMBERS, MAX_POOLS, MONITOR_PATH, monitorHost, POOL_NAME } from "../edge/pool-rules.ts";
import { webhookSecret } from "../edge/state-dir.ts";
import { type Balancer, type Monitor, type Pool, STEERINGS, type Store } from "../edge/store/port.ts";
import { zoneOf } from "../edge/store/zones.ts";
import type { Context } from "./command.ts";
import { pickPool, pickTunnel, readHostname } from "./edge-pick.ts";
import { type EdgeWork, withEdgeState } from "./edge-state.ts";
import {
  LB_MEMBER_FLAGS,
  LB_MONITOR_FLAGS,
  LB_SET_FLAGS,
  LB_WEBHOOK_FLAGS,
  TRAFFIC_FLAGS,
} from "./edge-traffic-flags.ts";
import { positionals, renderTable, UsageError } from "./management.ts";
import { operator } from "./operator.ts";

const MAX_WEIGHT = 1_000_000;

/** `culvert edge lb list`: load balancers and pools. */
export function list(context: Context): Promise<number> {
  return withEdgeState(context, "edge lb list", TRAFFIC_FLAGS, { make: false }, ({ store, values }) => {
    positionals(context, []);
    const { tag } = store.accounts.own();
    const balancers = store.balancers.list(tag).map((balancer) => showBalancer(store, balancer));
    const pools = store.balancers.pools(tag).map((pool) => showPool(store, pool));
    if (values.bool("json")) {
      context.print(JSON.stringify({ balancers, pools }));
      return;
    }
    if (balancers.length + pools.length === 0) {
      context.note("There are no load balancers yet: see culvert edge lb --help");
      return;
    }
    const hostnames = balancers.map(({ hostname, steering, pools: used }) => [hostname, steering, used.join(", ")]);
    for (const line of renderTable([["HOSTNAME", "STEERING", "POOLS"], ...hostnames])) context.print(line);
    context.print("");
    const rows = pools.map(({ name, members, monitor, webhook }) => {
      const names = members.map(({ tunnel, weight, enabled }) => `${tunnel}${note(weight, enabled)}`);
      const every = monitor === null ? "-" : `${monitor.path} every ${formatDuration(monitor.intervalMs)}`;
      return [name, names.join(", "), every, webhook === null ? "-" : "yes"];
    });
    for (const line of renderTable([["POOL", "TUNNELS", "MONITOR", "WEBHOOK"], ...rows])) context.print(line);
  });
}

/** `culvert edge lb set HOSTNAME [POOL…]`: makes a load balancer, or changes it. */
export function set(context: Context): Promise<number> {
  return withEdgeState(context, "edge lb set", LB_SET_FLAGS, { make: false }, ({ store, values }) => {
    const [named, ...poolNames] = context.positionals;
    const hostname = readHostname(named ?? "");
    if (hostname === undefined) throw new UsageError("Give HOSTNAME, and its pools in the order they are wanted");
    const { tag } = store.accounts.own();
    const known = store.balancers.byHostname(hostname);
    const asked = values.string("steering");
    const steering =
      asked === undefined ? (known?.steering ?? "least_outstanding") : STEERINGS.find((each) => each === asked);
    if (steering === undefined) throw new UsageError(`--steering "${asked}" must be one of ${STEERINGS.join(", ")}`);
    const pools = poolNames.map((name) => pickPool(store, name).id);
    const poolIds = pools.length > 0 ? pools : (known?.poolIds ?? []);
    if (poolIds.length === 0 || poolIds.length > MAX_POOLS) throw new UsageError(`Give 1 to ${MAX_POOLS} pools`);
    if (new Set(poolIds).size < poolIds.length) throw new UsageError("A pool is named twice");
    const zone = zoneOf(hostname, store.accounts.zones(tag));
    if (zone === undefined) throw new TunnelError("store.missing", `"${hostname}" is in no zone of this account`);
    const balancer: Balancer = {
      ...{ id: known?.id ?? crypto.randomUUID(), accountTag: tag, hostname, steering, poolIds },
      createdAtMs: known?.createdAtMs ?? systemClock.wallMs(),
    };
    store.balancers.put(balancer, zone.id, values.bool("overwrite"), operator());
    const shown = showBalancer(store, balancer);
    if (values.bool("json")) context.print(JSON.stringify(shown));
    else context.note(`${hostname} is spread over ${shown.pools.join(", then ")} (${steering})`);
  });
}

/** `culvert edge lb delete HOSTNAME`. */
export function remove(context: Context): Promise<number> {
  return withEdgeState(context, "edge lb delete", TRAFFIC_FLAGS, { make: false }, ({ store }) => {
    const [named] = positionals(context, ["HOSTNAME"]);
    const known = store.balancers.byHostname(readHostname(named) ?? "");
    if (known === undefined) throw new TunnelError("store.missing", `No load balancer has the hostname "${named}"`);
    store.balancers.remove(known.id, operator());
    context.note(`${known.hostname} is not balanced any more`);
  });
}

/** `culvert edge lb member add POOL TUNNEL`: also changes a member, and makes the pool. */
export function addMember(context: Context): Promise<number> {
  return withEdgeState(context, "edge lb member add", LB_MEMBER_FLAGS, { make: false }, (edge) => {
    const [poolName, named] = positionals(context, ["POOL", "TUNNEL"]);
    const { store, values } = edge;
    const { tag } = store.accounts.own();
    if (!POOL_NAME.test(poolName)) {
      throw new UsageError(`"${poolName}" is not a pool's name: letters, digits, "-", "_" and "."`);
    }
    const weight = Number(values.string("weight") ?? 1);
    if (!(weight > 0 && weight <= MAX_WEIGHT))
      throw new UsageError(`--weight must be above 0, and at most ${MAX_WEIGHT}`);
    const tunnel = pickTunnel(store, named);
    const pool: Pool = store.balancers.poolByName(tag, poolName) ?? {
      ...{
        id: crypto.randomUUID(),
        accountTag: tag,
        name: poolName,
        members: [],
        monitor: undefined,
        webhook: undefined,
      },
      createdAtMs: systemClock.wallMs(),
    };
    const member = { tunnelId: tunnel.id, weight, enabled: !values.bool("disabled") };
    const at = pool.members.findIndex(({ tunnelId }) => tunnelId === tunnel.id);
    const members = at < 0 ? [...pool.members, member] : pool.members.with(at, member);
    if (members.length > MAX_MEMBERS) throw new UsageError(`A pool has at most ${MAX_MEMBERS} tunnels`);
    keep(edge, { ...pool, members }, `Tunnel ${tunnel.name} is in pool ${poolName}${note(weight, member.enabled)}`);
  });
}

/** `culvert edge lb member remove POOL TUNNEL`. */
export function removeMember(context: Context): Promise<number> {
  return withEdgeState(context, "edge lb member remove", TRAFFIC_FLAGS, { make: false }, (edge) => {
    const [poolName, named] = positionals(context, ["POOL", "TUNNEL"]);
    const pool = pickPool(edge.store, poolName);
    const tunnel = pickTunnel(edge.store, named);
    const members = pool.members.filter(({ tunnelId }) => tunnelId !== tunnel.id);
    if (members.length === pool.members.length) {
      throw new TunnelError("store.missing", `Tunnel "${tunnel.name}" is not in pool "${pool.name}"`);
    }
    keep(edge, { ...pool, members }, `Tunnel ${tunnel.name} is not in pool ${pool.name} any more`);
  });
}

/** `culvert edge lb pool delete POOL`. */
export function removePool(context: Context): Promise<number> {
  return withEdgeState(context, "edge lb pool delete", TRAFFIC_FLAGS, { make: false }, ({ store }) => {
    const [named] = positionals(context, ["POOL"]);
    const pool = pickPool(store, named);
    store.balancers.removePool(pool.id, operator());
    context.note(`There is no pool ${pool.name} any more`);
  });
}

/** `culvert edge lb monitor POOL`: checks the pool's tunnels, or not any more. */
export function monitor(context: Context): Promise<number> {
  return withEdgeState(context, "edge lb monitor", LB_MONITOR_FLAGS, { make: false }, (edge) => {
    const [named] = positionals(context, ["POOL"]);
    const pool = pickPool(edge.store, named);
    const checks = edge.values.bool("off") ? undefined : readMonitor(edge);
    const done =
      checks === undefined
        ? `The tunnels of pool ${pool.name} are not checked any more`
        : `The tunnels of pool ${pool.name} are asked for ${checks.path} every ${formatDuration(checks.intervalMs)}`;
    keep(edge, { ...pool, monitor: checks }, done);
  });
}

/** `culvert edge lb webhook POOL [URL]`: prints the secret that messages are signed with. */
export function webhook(context: Context): Promise<number> {
  return withEdgeState(context, "edge lb webhook", LB_WEBHOOK_FLAGS, { make: false }, (edge) => {
    const [named, url, ...more] = context.positionals;
    const { store, values, state } = edge;
    if (named === undefined || more.length > 0 || values.bool("off") !== (url === undefined)) {
      throw new UsageError("Give POOL and URL, or POOL with --off");
    }
    if (url !== undefined && !(URL.canParse(url) && /^https?:$/.test(new URL(url).protocol) && url.length <= 2_048)) {
      throw new UsageError("The webhook must be a URL such as https://hooks.example.com/culvert");
    }
    const pool = pickPool(store, named);
    store.balancers.putPool({ ...pool, webhook: url }, operator());
    if (url === undefined) context.note(`Nobody is told of pool ${pool.name} any more`);
    else {
      const secret = webhookSecret(state);
      context.note(`Changes of pool ${pool.name} are posted; their Culvert-Signature is made with this secret:`);
      context.print(
        values.bool("json") ? JSON.stringify({ ...showPool(store, { ...pool, webhook: url }), secret }) : secret,
      );
    }
  });
}

function readMonitor({ values }: EdgeWork): Monitor {
  const path = values.string("path") ?? "/";
  if (!MONITOR_PATH.test(path)) throw new UsageError(`--path "${path}" must begin with /, without blanks`);
  const asked = values.string("host");
  const host = asked === undefined ? undefined : monitorHost(asked);
  if (asked !== undefined && host === undefined) throw new UsageError(`--host "${asked}" must be a hostname`);
  const range = /^([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?$/.exec(values.string("expect") ?? "");
  const from = Number(range?.[1]);
  const to = Number(range?.[2] ?? range?.[1]);
  if (range === null || from > to) throw new UsageError("--expect must be like 200 or 200-399");
  const within = (flag: string, min: number, max: number, unit = (value: number) => String(value)): number => {
    const value = values.number(flag);
    if (value < min || value > max) throw new UsageError(`--${flag} must be from ${unit(min)} to ${unit(max)}`);
    return value;
  };
  return {
    ...{ path, host, expect: [from, to] as const },
    intervalMs: within("interval", 1_000, 3_600_000, formatDuration),
    timeoutMs: within("timeout", 100, 60_000, formatDuration),
    unhealthyAfter: within("unhealthy-after", 1, 100),
    healthyAfter: within("healthy-after", 1, 100),
  };
}

function keep({ store, values, context }: EdgeWork, pool: Pool, done: string): void {
  store.balancers.putPool(pool, operator());
  if (values.bool("json")) context.print(JSON.stringify(showPool(store, pool)));
  else context.note(done);
}

function showBalancer(store: Store, { id, hostname, steering, poolIds, createdAtMs }: Balancer) {
  const pools = poolIds.map((poolId) => store.balancers.pool(poolId)?.name ?? poolId);
  return { id, hostname, steering, pools, createdAt: new Date(createdAtMs).toISOString() };
}

function showPool(store: Store, pool: Pool) {
  const members = pool.members.map(({ tunnelId, weight, enabled }) => {
    const tunnel = store.tunnels.get(tunnelId)?.name ?? tunnelId;
    return { tunnelId, tunnel, weight, enabled };
  });
  return {
    ...{ id: pool.id, name: pool.name, members, monitor: pool.monitor ?? null, webhook: pool.webhook ?? null },
    createdAt: new Date(pool.createdAtMs).toISOString(),
  };
}

/** Empty for what is usual. */
function note(weight: number, enabled: boolean): string {
  const parts = [...(weight === 1 ? [] : [`weight ${weight}`]), ...(enabled ? [] : ["disabled"])];
  return parts.length === 0 ? "" : ` (${parts.join(", ")})`;
}
