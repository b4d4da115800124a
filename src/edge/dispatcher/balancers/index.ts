import type { CancelTimer, Clock, Random } from "../../../core/clock.ts";
import { describe, type TunnelError } from "../../../core/errors.ts";
import type { TunnelId } from "../../../core/ids.ts";
import type { Logger } from "../../../core/log.ts";
import type { RawHeaders } from "../../../wire/headers.ts";
import type { Registry } from "../../registry.ts";
import type { Balancer, Pool, PoolMember, Store } from "../../store/port.ts";
import { EXPECT_MS } from "../absences.ts";
import type { Balance, BalancedRoute, Visitor } from "../route.ts";
import { CheckHealth, Ejections, isFault, isFaulty } from "./health.ts";
import { type CheckTarget, Monitors } from "./monitor.ts";
import { type Candidate, type Round, steer } from "./steering.ts";
import { cookieName, readCookie, setCookie } from "./sticky.ts";
import type { Webhooks } from "./webhook.ts";

/** How often it is looked whether members have changed their state, in ms; checks and requests are seen at once. */
const REVIEW_MS = 1_000;

const NO_FIELDS: RawHeaders = [];

/** Why a member gets no requests. */
export type Trouble =
  /** Its tunnel has no connection. */
  | { readonly kind: "disconnected" }
  /** Its checks fail. */
  | { readonly kind: "check"; readonly detail: string }
  /** Requests to it failed, so it is left out for a while. */
  | { readonly kind: "ejected" };

/** How a member of a pool in use is. */
export interface MemberState {
  readonly poolId: string;
  readonly pool: string;
  readonly tunnelId: TunnelId;
  readonly enabled: boolean;
  /** Undefined = it is well. */
  readonly trouble: Trouble | undefined;
}

interface Member extends PoolMember {
  readonly check: CheckHealth;
  /** Set while its tunnel has no connection. */
  absentSinceMs: number | undefined;
  /** What was told last; undefined = nothing yet. */
  toldWell: boolean | undefined;
}

interface LivePool {
  readonly pool: Pool;
  readonly members: readonly Member[];
  readonly ejections: Ejections;
}

interface LiveBalancer {
  readonly balancer: Balancer;
  readonly pools: readonly LivePool[];
  readonly round: Round;
  /** Tunnels by what cookies call them, and the other way round; empty unless cookies are used. */
  readonly byCookie: ReadonlyMap<string, TunnelId>;
  readonly cookies: ReadonlyMap<TunnelId, string>;
}

interface Deps {
  readonly store: Store;
  readonly registry: Registry;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  /** Makes the names in cookies; the same on every edge that serves the same visitors. */
  readonly key: Uint8Array;
  readonly webhooks: Pick<Webhooks, "post">;
}

/**
 * Load balancers: hostnames spread over the tunnels of pools. The first pool with a healthy member is used. A member is
 * healthy when it is enabled, its tunnel has a connection, its checks pass, and it is not left out because requests to
 * it fail. When no pool has such a member, connected ones get the requests all the same: what is known of them may be
 * old, and an answer is worth a try.
 */
export class Balancers {
  readonly #deps: Deps;
  readonly #monitors: Monitors;
  readonly #stops: readonly (() => void)[];
  #balancers = new Map<string, LiveBalancer>();
  #pools = new Map<string, LivePool>();
  #stale = true;
  /** Set while there is something to look at. */
  #cancelReview: CancelTimer | undefined;
  #stopped = false;

  constructor(deps: Deps) {
    this.#deps = deps;
    this.#monitors = new Monitors(deps);
    this.#stops = [
      deps.store.watch(({ kind }) => {
        if (kind !== "balancers" && kind !== "unknown" && kind !== "tunnel") return;
        this.#stale = true;
        this.#refresh();
      }),
    ];
    this.#refresh();
  }

  /** How the members of all pools in use are, in the order of their pools. */
  states(): readonly MemberState[] {
    this.#refresh();
    return [...this.#pools.values()].flatMap((live) =>
      live.members.map((member) => ({
        poolId: live.pool.id,
        pool: live.pool.name,
        tunnelId: member.tunnelId,
        enabled: member.enabled,
        trouble: this.#troubleOf(live, member),
      })),
    );
  }

  stop(): void {
    this.#stopped = true;
    for (const stop of this.#stops) stop();
    this.#cancelReview?.();
    this.#monitors.stop();
  }

  readonly choose: Balance = (balancerId, visitor, mayCome) => {
    this.#refresh();
    const live = this.#balancers.get(balancerId);
    if (live === undefined) return undefined;
    const route = new Route(live, visitor, mayCome, {
      ...{ registry: this.#deps.registry, random: this.#deps.random },
      troubleOf: (pool, member) => this.#troubleOf(pool, member),
      answered: (pool, tunnelId, status) => this.#answered(pool, tunnelId, status),
      failed: (pool, tunnelId) => this.#failed(pool, tunnelId),
    });
    const tunnelId = route.another() ?? route.tunnels[0];
    return tunnelId === undefined ? undefined : { tunnelId, route };
  };

  #troubleOf({ ejections }: LivePool, { tunnelId, check }: Member): Trouble | undefined {
    const { registry, clock } = this.#deps;
    if (!registry.serves(tunnelId)) return { kind: "disconnected" };
    if (check.problem !== undefined) return { kind: "check", detail: check.problem };
    return ejections.isOut(tunnelId, clock.nowMs()) ? { kind: "ejected" } : undefined;
  }

  #answered(live: LivePool, tunnelId: TunnelId, status: number): void {
    if (isFaulty(status)) this.#failed(live, tunnelId);
    else live.ejections.answered(tunnelId, this.#deps.clock.nowMs());
  }

  #failed(live: LivePool, tunnelId: TunnelId): void {
    const member = live.members.find((each) => each.tunnelId === tunnelId);
    // A tunnel without a connection is left out as it is; it must not take the place of one that fails.
    if (member === undefined || !this.#deps.registry.serves(tunnelId)) return;
    const enabled = live.members.filter((each) => each.enabled).map((each) => each.tunnelId);
    const forMs = live.ejections.failed(tunnelId, enabled, this.#deps.clock.nowMs());
    if (forMs === undefined) return;
    const { name } = live.pool;
    this.#deps.log.warn("Requests to a tunnel of a pool fail: it is left out", {
      pool: name,
      tunnelID: tunnelId,
      forMs,
    });
    this.#review(live, member);
  }

  // ---- what the store says ----

  #refresh(): void {
    if (!this.#stale) return;
    try {
      this.#load();
      this.#stale = false;
    } catch (error) {
      // What was known before serves on; the next request or review tries again.
      this.#deps.log.error("Cannot read the load balancers", { error: describe(error) });
    }
  }

  #load(): void {
    const { store, key } = this.#deps;
    const list = store.balancers.list();
    const used = new Set(list.flatMap(({ poolIds }) => poolIds));
    const pools = new Map<string, LivePool>();
    for (const pool of store.balancers.pools()) if (used.has(pool.id)) pools.set(pool.id, this.#toLive(pool));
    const balancers = list.map((balancer): LiveBalancer => {
      const own = balancer.poolIds.flatMap((id) => pools.get(id) ?? []);
      const tunnels = new Set(own.flatMap(({ members }) => members.map(({ tunnelId }) => tunnelId)));
      const cookies = new Map(
        balancer.steering === "hash_cookie"
          ? [...tunnels].map((tunnelId) => [tunnelId, cookieName(key, balancer.id, tunnelId)])
          : [],
      );
      const known = this.#balancers.get(balancer.id)?.round ?? new Map<TunnelId, number>();
      const round = new Map([...known].filter(([tunnelId]) => tunnels.has(tunnelId)));
      const byCookie = new Map([...cookies].map(([tunnelId, name]) => [name, tunnelId]));
      return { balancer, pools: own, round, byCookie, cookies };
    });
    this.#pools = pools;
    this.#balancers = new Map(balancers.map((live) => [live.balancer.id, live]));
    this.#monitors.set([...pools.values()].flatMap((live) => this.#checksOf(live, list)));
    if (this.#cancelReview === undefined) this.#reviewLater();
  }

  /** The pool with what is known of its members. */
  #toLive(pool: Pool): LivePool {
    const known = this.#pools.get(pool.id);
    const sameMonitor = JSON.stringify(known?.pool.monitor) === JSON.stringify(pool.monitor);
    const ejections = known?.ejections ?? new Ejections();
    ejections.keep(new Set(pool.members.map(({ tunnelId }) => tunnelId)));
    const nowMs = this.#deps.clock.nowMs();
    const members = pool.members.map((member): Member => {
      const before = known?.members.find(({ tunnelId }) => tunnelId === member.tunnelId);
      return {
        ...member,
        check: (sameMonitor ? before?.check : undefined) ?? new CheckHealth(),
        absentSinceMs: before === undefined ? nowMs : before.absentSinceMs,
        toldWell: before?.toldWell,
      };
    });
    return { pool, members, ejections };
  }

  /** A pool is checked once, whoever uses it; what it is asked for is the hostname of its oldest balancer. */
  #checksOf(live: LivePool, balancers: readonly Balancer[]): readonly CheckTarget[] {
    const { id, monitor } = live.pool;
    const hostname = balancers.find(({ poolIds }) => poolIds.includes(id))?.hostname;
    if (monitor === undefined || hostname === undefined) return [];
    const host = monitor.host ?? hostname.replace(/^\*\./, "");
    return live.members
      .filter(({ enabled }) => enabled)
      .map((member) => ({
        key: JSON.stringify([id, member.tunnelId, host, monitor]),
        tunnelId: member.tunnelId,
        host,
        monitor,
        onResult: (problem) => {
          member.check.checked(problem, monitor);
          this.#review(live, member);
        },
      }));
  }

  // ---- changes of state ----

  #reviewLater(): void {
    this.#cancelReview = undefined;
    if (this.#pools.size === 0 || this.#stopped) return;
    this.#cancelReview = this.#deps.clock.after(
      REVIEW_MS,
      () => {
        this.#refresh();
        for (const live of this.#pools.values()) for (const member of live.members) this.#review(live, member);
        this.#reviewLater();
      },
      { background: true },
    );
  }

  /** Tells when the member has changed its state since the last time. A tunnel may be away for as long as a restart takes. */
  #review(live: LivePool, member: Member): void {
    const { clock, log, webhooks, store } = this.#deps;
    const nowMs = clock.nowMs();
    const trouble = this.#troubleOf(live, member);
    if (trouble?.kind === "disconnected") member.absentSinceMs ??= nowMs;
    else member.absentSinceMs = undefined;
    if (member.absentSinceMs !== undefined && nowMs - member.absentSinceMs < EXPECT_MS) return;
    const isWell = trouble === undefined;
    // The first time only bad news is news.
    const isNews = member.toldWell === undefined ? !isWell : member.toldWell !== isWell;
    member.toldWell = isWell;
    if (!isNews || !member.enabled) return;
    const { pool, members } = live;
    const detail = trouble?.kind === "check" ? trouble.detail : undefined;
    log.info(isWell ? "A tunnel of a pool is well again" : "A tunnel of a pool is not well and gets no requests", {
      ...{ pool: pool.name, tunnelID: member.tunnelId, reason: trouble?.kind, error: detail },
    });
    if (pool.webhook === undefined) return;
    webhooks.post(pool.webhook, {
      event: isWell ? "pool.member.healthy" : "pool.member.unhealthy",
      pool: { id: pool.id, name: pool.name },
      tunnel: { id: member.tunnelId, name: tunnelName(store, member.tunnelId) },
      reason: trouble?.kind ?? null,
      detail: detail ?? null,
      members: members.filter(({ enabled }) => enabled).length,
      healthy: members.filter((each) => each.enabled && this.#troubleOf(live, each) === undefined).length,
    });
  }
}

function tunnelName(store: Store, tunnelId: TunnelId): string | null {
  try {
    return store.tunnels.get(tunnelId)?.name ?? null;
  } catch {
    // The id says which one it is.
    return null;
  }
}

interface RouteDeps {
  readonly registry: Registry;
  readonly random: Random;
  readonly troubleOf: (pool: LivePool, member: Member) => Trouble | undefined;
  readonly answered: (pool: LivePool, tunnelId: TunnelId, status: number) => void;
  readonly failed: (pool: LivePool, tunnelId: TunnelId) => void;
}

/** A member as steering sees it, and the pool it was found in. */
interface Choice extends Candidate {
  readonly live: LivePool;
}

class Route implements BalancedRoute {
  readonly tunnels: readonly TunnelId[];
  readonly #balancer: LiveBalancer;
  readonly #visitor: Visitor;
  readonly #deps: RouteDeps;
  readonly #chosen = new Map<TunnelId, LivePool>();

  constructor(balancer: LiveBalancer, visitor: Visitor, mayCome: (tunnelId: TunnelId) => boolean, deps: RouteDeps) {
    this.#balancer = balancer;
    this.#visitor = visitor;
    this.#deps = deps;
    const enabled = balancer.pools.flatMap(({ members }) => members.filter((member) => member.enabled));
    this.tunnels = enabled.map(({ tunnelId }) => tunnelId).filter(mayCome);
  }

  get hasMore(): boolean {
    return this.#groups(true).next().done !== true || this.#groups(false).next().done !== true;
  }

  another(): TunnelId | undefined {
    const choice = this.#former() ?? this.#steered();
    if (choice === undefined) return undefined;
    this.#chosen.set(choice.tunnelId, choice.live);
    return choice.tunnelId;
  }

  answerFields(tunnelId: TunnelId): RawHeaders {
    const name = this.#balancer.cookies.get(tunnelId);
    if (name === undefined || readCookie(this.#visitor.headers) === name) return NO_FIELDS;
    return setCookie(name, this.#visitor.secure);
  }

  answered(tunnelId: TunnelId, status: number): void {
    const live = this.#chosen.get(tunnelId);
    if (live !== undefined) this.#deps.answered(live, tunnelId, status);
  }

  failed(tunnelId: TunnelId, error: TunnelError): void {
    const live = this.#chosen.get(tunnelId);
    if (live !== undefined && isFault(error)) this.#deps.failed(live, tunnelId);
  }

  /** The tunnel that the visitor had before, while it is healthy, in whichever pool. */
  #former(): Choice | undefined {
    if (this.#balancer.byCookie.size === 0) return undefined;
    const tunnelId = this.#balancer.byCookie.get(readCookie(this.#visitor.headers) ?? "");
    if (tunnelId === undefined) return undefined;
    for (const group of this.#groups(true)) {
      const found = group.find((candidate) => candidate.tunnelId === tunnelId);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  #steered(): Choice | undefined {
    const { balancer, round } = this.#balancer;
    const healthy = this.#groups(true).next().value;
    const group = healthy ?? this.#groups(false).next().value;
    if (group === undefined) return undefined;
    return steer(balancer.steering, group, { ip: this.#visitor.ip, round, random: this.#deps.random });
  }

  /** Of each pool that has any: the members that have a connection and were not chosen yet. */
  *#groups(healthy: boolean): Generator<readonly Choice[], undefined> {
    for (const live of this.#balancer.pools) {
      const group: Choice[] = [];
      for (const member of live.members) {
        const { tunnelId, weight, enabled } = member;
        if (!enabled || this.#chosen.has(tunnelId) || !this.#deps.registry.serves(tunnelId)) continue;
        if (healthy && this.#deps.troubleOf(live, member) !== undefined) continue;
        group.push({ tunnelId, weight, running: this.#running(tunnelId), live });
      }
      if (group.length > 0) yield group;
    }
    return undefined;
  }

  #running(tunnelId: TunnelId): number {
    if (this.#balancer.balancer.steering !== "least_outstanding") return 0;
    let count = 0;
    for (const { draining, session } of this.#deps.registry.connections(tunnelId))
      if (!draining) count += session.streamCount;
    return count;
  }
}
