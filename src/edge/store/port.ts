import type { TunnelId } from "../../core/ids.ts";

/**
 * What an edge must remember, as values and one port a kind of thing. Times are ms since 1970. Ids that are not tunnels
 * are text of one of two shapes: 32 lower-case hex digits (accounts, zones) or a UUID (everything else), as Cloudflare's
 * are. A second backend is a folder beside `sqlite/` and passes `test/contract/store-suite.ts`.
 */

/** Who changes something, from where: what the audit log says. */
export interface Actor {
  /** `operator`: a command on the edge's own machine. `token`: an API token. `system`: the edge itself. */
  readonly kind: "operator" | "token" | "system";
  /** Id of the token, name of the operating-system user, or the part of the edge. */
  readonly id: string;
  /** Name of the token at that time. Entries of edges that kept no ids of tokens have it as `id`. */
  readonly name?: string;
  /** The peer's address without port; empty for what happens on this machine. */
  readonly from: string;
}

/** Whoever owns tunnels. An edge makes one at its first start; `tag` is the `a` of tokens (protocol: section 5). */
export interface Account {
  readonly tag: string;
  readonly name: string;
  readonly createdAtMs: number;
}

/**
 * A domain whose hostnames an account may route; `id` is the zone id of cert.pem. No two have the same name. A new
 * edge's own account has one with the empty name.
 */
export interface Zone {
  readonly id: string;
  readonly accountTag: string;
  /** Such as `example.com`; the empty name takes every hostname. */
  readonly name: string;
}

/** What an API token may do. `admin` includes everything. */
export const TOKEN_SCOPES = [
  "admin",
  "tunnels:read",
  "tunnels:write",
  "routes:write",
  "networks:read",
  "networks:write",
  "tokens:write",
  "audit:read",
] as const;
export type TokenScope = (typeof TOKEN_SCOPES)[number];

export interface ApiToken {
  readonly id: string;
  readonly accountTag: string;
  readonly name: string;
  readonly scopes: readonly TokenScope[];
  readonly createdAtMs: number;
  readonly expiresAtMs: number | undefined;
  /** Written at most once a minute. */
  readonly lastUsedAtMs: number | undefined;
}

/** Who writes a tunnel's ingress rules: its connectors' config files, or this edge. */
export type ConfigSource = "local" | "remote";

/** A tunnel as the edge keeps it. */
export interface StoredTunnel {
  readonly id: TunnelId;
  /** Unique among the living tunnels of its account. */
  readonly name: string;
  readonly accountTag: string;
  readonly createdAtMs: number;
  readonly deletedAtMs: number | undefined;
  readonly configSource: ConfigSource;
  /** Whatever JSON object its maker wants to keep with it, at most {@link MAX_METADATA_BYTES}. */
  readonly metadata: string;
  /** Set for a quick tunnel, which is deleted then. */
  readonly expiresAtMs: number | undefined;
}

/** Where a hostname leads. */
export type Target =
  | { readonly kind: "tunnel"; readonly tunnelId: TunnelId }
  | { readonly kind: "balancer"; readonly balancerId: string };

export function sameTarget(a: Target, b: Target): boolean {
  if (a.kind === "tunnel") return b.kind === "tunnel" && a.tunnelId === b.tunnelId;
  return b.kind === "balancer" && a.balancerId === b.balancerId;
}

export interface HostnameRoute {
  /** Lower case, punycode, without port; `*.` first for a wildcard. */
  readonly hostname: string;
  readonly target: Target;
  readonly zoneId: string;
  readonly createdAtMs: number;
}

/** How a load balancer chooses among the tunnels of a pool; `failover` takes the first that is healthy. */
export const STEERINGS = ["failover", "random", "round_robin", "least_outstanding", "hash_ip", "hash_cookie"] as const;
export type Steering = (typeof STEERINGS)[number];

/** A hostname spread over pools: the first pool with a healthy member is used. */
export interface Balancer {
  readonly id: string;
  readonly accountTag: string;
  readonly hostname: string;
  readonly steering: Steering;
  /** Pool ids, the most wanted first. */
  readonly poolIds: readonly string[];
  readonly createdAtMs: number;
}

export interface PoolMember {
  readonly tunnelId: TunnelId;
  /** Share of the traffic beside the others, above 0. */
  readonly weight: number;
  readonly enabled: boolean;
}

/** An HTTP request sent through each member's tunnel. */
export interface Monitor {
  readonly path: string;
  /** Host header; default: the balancer's hostname. */
  readonly host: string | undefined;
  readonly intervalMs: number;
  readonly timeoutMs: number;
  /** Statuses that are healthy, as `[from, to]` inclusive. */
  readonly expect: readonly [number, number];
  /** Checks in a row before a member is taken out, and before it comes back. */
  readonly unhealthyAfter: number;
  readonly healthyAfter: number;
}

export interface Pool {
  readonly id: string;
  readonly accountTag: string;
  /** Unique in the account. */
  readonly name: string;
  readonly members: readonly PoolMember[];
  readonly monitor: Monitor | undefined;
  /** Is told of members that change state, by POST of JSON. */
  readonly webhook: string | undefined;
  readonly createdAtMs: number;
}

/** One version of a remotely managed tunnel's rules. */
export interface StoredConfiguration {
  readonly tunnelId: TunnelId;
  /** Grows by one or more at each change, and never shrinks (protocol: trap 23). */
  readonly version: number;
  /** The JSON of protocol.md section 6, as it is pushed. */
  readonly config: string;
  readonly createdAtMs: number;
}

/** An IP network of a tunnel's site (Cloudflare's teamnet route). Stored and listed; carries no traffic yet. */
export interface NetworkRoute {
  readonly id: string;
  readonly accountTag: string;
  /** Canonical CIDR text. */
  readonly network: string;
  readonly tunnelId: TunnelId;
  readonly virtualNetworkId: string;
  readonly comment: string;
  readonly createdAtMs: number;
  readonly deletedAtMs: number | undefined;
}

export interface VirtualNetwork {
  readonly id: string;
  readonly accountTag: string;
  /** Unique among the living ones of its account. */
  readonly name: string;
  readonly comment: string;
  /** Exactly one of an account. */
  readonly isDefault: boolean;
  readonly createdAtMs: number;
  readonly deletedAtMs: number | undefined;
}

/** A public TCP port that leads to a service behind a tunnel. */
export interface TcpRoute {
  readonly port: number;
  readonly tunnelId: TunnelId;
  /** Hostname under which the connector's rules find the service. */
  readonly hostname: string;
  readonly proxyProtocol: "v1" | "v2" | undefined;
  readonly createdAtMs: number;
}

export interface AuditEntry {
  readonly id: number;
  readonly atMs: number;
  readonly actor: Actor;
  /** Such as `tunnel.create`. */
  readonly action: string;
  /** Id or name of what was changed. */
  readonly subject: string;
  /** JSON object without secrets. */
  readonly details: string;
}

/** Something was written, by this process or, as far as the backend can tell, by another one. */
export type Change =
  | { readonly kind: "tunnel"; readonly tunnelId: TunnelId }
  | { readonly kind: "configuration"; readonly tunnelId: TunnelId }
  | { readonly kind: "hostnames" }
  | { readonly kind: "balancers" }
  | { readonly kind: "tcp-routes" }
  /** Another process wrote: anything may have changed. */
  | { readonly kind: "unknown" };

export const MAX_METADATA_BYTES = 16 * 1024;
/** As much as a transport carries to a connector. */
export const MAX_CONFIGURATION_BYTES = 1_000_000;
/** Versions of a configuration kept for reading back. */
export const KEPT_CONFIGURATIONS = 20;
/** Entries of the audit log kept; the oldest go first, those of the edge itself before all others. */
export const KEPT_AUDIT_ENTRIES = 100_000;
/** Newest entries of the edge itself that do not go before others. */
export const KEPT_SYSTEM_ENTRIES = 1_000;

/**
 * What every writing call does: all of it or nothing, acknowledged when it returns (it survives `kill -9` and power
 * loss then), with one entry in the audit log. Throws TunnelError `store.conflict` when a name is taken, `store.missing`
 * when what it refers to is not there, `store.full` when the disk is, `store.failed` otherwise.
 */
export interface Store {
  readonly accounts: AccountStore;
  readonly tokens: TokenStore;
  readonly tunnels: TunnelStore;
  readonly hostnames: HostnameStore;
  readonly balancers: BalancerStore;
  readonly configurations: ConfigurationStore;
  readonly networks: NetworkStore;
  readonly tcpRoutes: TcpRouteStore;
  readonly audit: AuditStore;
  /** Calls back after each change, in order. Returns what ends it. Listeners must not throw. */
  watch(listener: (change: Change) => void): () => void;
  /** Asks whether another process wrote; cheap. Changes then come to the watchers. */
  poll(): void;
  /** Every page and every sealed secret is readable. Empty = all is well. */
  check(): readonly string[];
  /**
   * Writes a consistent copy while the store is used. The file must not exist. `named`: what errors call the file, for
   * whoever moves it afterwards; default `path`.
   */
  backup(path: string, named?: string): Promise<void>;
  close(): void;
}

export interface AccountStore {
  /** The first account, which the edge's own commands work on; made with the store. */
  own(): Account;
  get(tag: string): Account | undefined;
  list(): readonly Account[];
  add(account: Account, actor: Actor): void;
  zones(accountTag: string): readonly Zone[];
  zone(id: string): Zone | undefined;
  addZone(zone: Zone, actor: Actor): void;
}

export interface TokenStore {
  /** `secret`: the text a client shows; only its SHA-256 is kept. */
  add(token: ApiToken, secret: string, actor: Actor): void;
  /** The token with this secret, unless it is expired or revoked. Takes the same time for every wrong one. */
  find(secret: string, nowMs: number): ApiToken | undefined;
  list(accountTag: string): readonly ApiToken[];
  remove(id: string, actor: Actor): void;
}

/** Which tunnels: every given field must fit. */
export interface TunnelFilter {
  readonly accountTag?: string;
  readonly name?: string;
  readonly namePrefix?: string;
  readonly excludePrefix?: string;
  readonly id?: TunnelId;
  /** @default both */
  readonly deleted?: boolean;
  /** Living at this time. */
  readonly existedAtMs?: number;
  readonly configSource?: ConfigSource;
}

export interface Page {
  /** From 0. */
  readonly offset: number;
  readonly limit: number;
}

export interface Found<T> {
  readonly items: readonly T[];
  /** How many fit, on all pages. */
  readonly total: number;
}

export interface TunnelCredentials {
  readonly tunnel: StoredTunnel;
  readonly secret: Uint8Array;
  /** What tokens carry that culvert 0.1.0 made, when it is another tag than the account's. */
  readonly formerAccountTag: string | undefined;
}

export interface TunnelStore {
  /** Makes a tunnel, with hostnames if any are given. */
  add(tunnel: StoredTunnel, secret: Uint8Array, actor: Actor, hostnames?: readonly HostnameRoute[]): void;
  get(id: TunnelId): StoredTunnel | undefined;
  /** A living tunnel. */
  byName(accountTag: string, name: string): StoredTunnel | undefined;
  /** By creation, oldest first. */
  find(filter: TunnelFilter, page?: Page): Found<StoredTunnel>;
  /** A living tunnel with its secret in clear, for a registration or a token. */
  credentials(id: TunnelId): TunnelCredentials | undefined;
  update(
    id: TunnelId,
    change: { readonly name?: string; readonly metadata?: string; readonly configSource?: ConfigSource },
    actor: Actor,
  ): void;
  rotateSecret(id: TunnelId, secret: Uint8Array, actor: Actor): void;
  /** Marks it deleted, and takes its hostnames, TCP ports, networks and pool memberships away. */
  remove(id: TunnelId, actor: Actor): void;
}

export interface HostnameStore {
  /** Where a hostname leads: exact, else the longest `*.suffix`, else `*`. Lower case, without port. No disk access. */
  lookUp(hostname: string): Target | undefined;
  get(hostname: string): HostnameRoute | undefined;
  find(filter: { readonly tunnelId?: TunnelId; readonly zoneId?: string }, page?: Page): Found<HostnameRoute>;
  /**
   * Routes a hostname. `overwrite`: take it from whoever has it.
   * Throws `store.conflict` when it leads elsewhere and may not be overwritten.
   */
  put(route: HostnameRoute, overwrite: boolean, actor: Actor): "new" | "updated" | "unchanged";
  /** A balancer whose hostname this is goes with it, as it does when `put` takes the hostname. */
  remove(hostname: string, actor: Actor): void;
}

export interface BalancerStore {
  get(id: string): Balancer | undefined;
  byHostname(hostname: string): Balancer | undefined;
  list(accountTag?: string): readonly Balancer[];
  /** Makes or replaces a balancer, and routes its hostname to it. Throws as {@link HostnameStore.put} does. */
  put(balancer: Balancer, zoneId: string, overwrite: boolean, actor: Actor): void;
  remove(id: string, actor: Actor): void;
  pool(id: string): Pool | undefined;
  poolByName(accountTag: string, name: string): Pool | undefined;
  pools(accountTag?: string): readonly Pool[];
  putPool(pool: Pool, actor: Actor): void;
  /** Throws `store.conflict` while a balancer uses it. */
  removePool(id: string, actor: Actor): void;
}

export interface ConfigurationStore {
  /** The newest version, unless the tunnel never had one. */
  current(tunnelId: TunnelId): StoredConfiguration | undefined;
  /** Newest first, at most {@link KEPT_CONFIGURATIONS}. */
  versions(tunnelId: TunnelId): readonly StoredConfiguration[];
  /** Stores the next version, which is above `atLeast` and every version before; marks the tunnel remotely managed. */
  put(tunnelId: TunnelId, config: string, actor: Actor, atLeast?: number): StoredConfiguration;
}

export interface NetworkFilter {
  readonly accountTag: string;
  readonly deleted?: boolean;
  readonly tunnelId?: TunnelId;
  readonly virtualNetworkId?: string;
  readonly comment?: string;
  readonly existedAtMs?: number;
}

export interface NetworkStore {
  routes(filter: NetworkFilter): readonly NetworkRoute[];
  route(id: string): NetworkRoute | undefined;
  /** Throws `store.conflict` when the virtual network has a living route of the same network. */
  addRoute(route: NetworkRoute, actor: Actor): void;
  removeRoute(id: string, actor: Actor): void;
  virtualNetworks(filter: {
    readonly accountTag: string;
    readonly id?: string;
    readonly name?: string;
    readonly isDefault?: boolean;
    readonly deleted?: boolean;
  }): readonly VirtualNetwork[];
  /** The account's default network is made at the first call that needs one. */
  defaultVirtualNetwork(accountTag: string): VirtualNetwork;
  /** A new default takes the place of the old one; throws `store.conflict` when none would be left. */
  putVirtualNetwork(network: VirtualNetwork, actor: Actor): void;
  /** Throws `store.conflict` for the default one, and while it has routes unless `force`, which removes them. */
  removeVirtualNetwork(id: string, force: boolean, actor: Actor): void;
}

export interface TcpRouteStore {
  list(): readonly TcpRoute[];
  /** Throws `store.conflict` when the port leads to another tunnel. */
  add(route: TcpRoute, actor: Actor): void;
  remove(port: number, actor: Actor): void;
}

export interface AuditStore {
  /** Notes what changed nothing here, such as that connections were closed. `details`: without secrets. */
  add(actor: Actor, action: string, subject: string, details?: Readonly<Record<string, unknown>>): void;
  /** Newest first. */
  find(
    filter: { readonly subject?: string; readonly action?: string; readonly sinceMs?: number },
    page?: Page,
  ): Found<AuditEntry>;
}
