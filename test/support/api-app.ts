import { generateKeyPairSync } from "node:crypto";
import type { Hono } from "hono";
import { newConnectionId, newConnectorId } from "../../src/core/ids.ts";
import { createLogger } from "../../src/core/log.ts";
import { type ApiEnvironment, apiEndpoints, createApiApp } from "../../src/edge/api/app.ts";
import type { ApiDeps } from "../../src/edge/api/deps.ts";
import type { AnyEndpoint } from "../../src/edge/api/endpoint.ts";
import { newApiToken } from "../../src/edge/api-token.ts";
import { signManagementToken } from "../../src/edge/management-token.ts";
import { type LiveConnection, Registry } from "../../src/edge/registry.ts";
import type { Account, ApiToken, Store, StoredTunnel, TokenScope } from "../../src/edge/store/port.ts";
import { openSqliteStore } from "../../src/edge/store/sqlite/index.ts";
import { createTunnelToken } from "../../src/edge/tunnel-token.ts";
import { createMemorySessionPair } from "../../src/transport/memory.ts";
import { ACTOR, storeTunnel } from "./stored.ts";
import { VirtualClock } from "./virtual-clock.ts";

const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });

/** Where calls come from, unless they say. */
export const CALLER_IP = "192.0.2.7";

export interface ApiAnswer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  /** The envelope, or whatever JSON it is. */
  readonly json: {
    readonly success?: boolean;
    readonly errors?: readonly { readonly code: number; readonly message: string }[];
    readonly result?: unknown;
    readonly result_info?: Readonly<Record<string, number>>;
  };
}

export interface CallOptions {
  /** Secret of the token; null = none. @default that of the admin token */
  readonly secret?: string | null;
  /** Sent as JSON, unless it is bytes or text already. */
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  readonly ip?: string;
}

/** The API on a store in memory, on virtual time, without a socket. */
export interface TestApi extends Disposable {
  readonly app: Hono<ApiEnvironment>;
  readonly deps: ApiDeps;
  readonly endpoints: readonly AnyEndpoint[];
  readonly store: Store;
  readonly registry: Registry;
  readonly clock: VirtualClock;
  /** Every line of its log. */
  readonly lines: readonly string[];
  readonly account: Account;
  readonly zoneId: string;
  /** Secret of the admin token. */
  readonly admin: string;
  token(scopes: readonly TokenScope[], options?: TokenOptions): { readonly token: ApiToken; readonly secret: string };
  /** `path`: behind the prefix, or whole with a slash twice in front. */
  call(method: string, path: string, options?: CallOptions): Promise<ApiAnswer>;
  /** What an edge does first that stops. */
  stop(): void;
  /** A tunnel with a live connection. */
  connect(tunnel: StoredTunnel): LiveConnection;
}

export interface TokenOptions {
  readonly name?: string;
  readonly expiresAtMs?: number;
  readonly accountTag?: string;
}

export function startTestApi(): TestApi {
  const clock = new VirtualClock();
  const store = openSqliteStore(":memory:", new Uint8Array(32).fill(7), clock);
  const registry = new Registry();
  const lines: string[] = [];
  const log = createLogger({
    ...{ level: "debug", format: "default", wallMs: () => clock.wallMs(), write: (line) => void lines.push(line) },
  });
  const account = store.accounts.own();
  const [zone] = store.accounts.zones(account.tag);
  if (zone === undefined) throw new Error("The account has no zone");
  const stopping = new AbortController();
  const deps: ApiDeps = {
    ...{ store, registry, clock, log, location: "LAB", ca: "CA", stopping: stopping.signal },
    tunnelToken: (tunnel) => createTunnelToken(store, tunnel, { addresses: ["edge.test:7844"], ca: "CA" }),
    managementToken: (tunnel, resources, actor) =>
      signManagementToken(privateKey, { tunnel, resources, actor, nowMs: clock.wallMs() }),
    lastChange: () => ({}),
  };
  const endpoints = apiEndpoints(deps);
  const app = createApiApp(deps, endpoints);
  const token: TestApi["token"] = (scopes, options = {}) => {
    const { name = "test", expiresAtMs, accountTag = account.tag } = options;
    const made = newApiToken({ ...{ accountTag, name, scopes, expiresAtMs }, nowMs: clock.wallMs() });
    store.tokens.add(made.token, made.secret, ACTOR);
    return made;
  };
  const admin = token(["admin"], { name: "admin" }).secret;
  return {
    ...{ app, deps, endpoints, store, registry, clock, lines, account, admin, token },
    zoneId: zone.id,
    call: async (method, path, options = {}) => {
      const { secret = admin, body, ip = CALLER_IP } = options;
      const raw = typeof body === "string" || body instanceof Uint8Array || body instanceof ReadableStream;
      const answer = await app.request(
        path.startsWith("//") ? path.slice(1) : `/client/v4${path}`,
        {
          method,
          headers: {
            ...(secret === null ? {} : { authorization: `Bearer ${secret}` }),
            ...(body === undefined ? {} : { "content-type": "application/json" }),
            ...options.headers,
          },
          ...(body === undefined ? {} : { body: raw ? (body as string) : JSON.stringify(body) }),
        },
        { ip },
      );
      const text = await answer.text();
      const isJson = answer.headers.get("content-type") === "application/json";
      return { status: answer.status, headers: answer.headers, text, json: isJson ? JSON.parse(text) : {} };
    },
    connect: (tunnel) => {
      const live: LiveConnection = {
        ...{ connectionId: newConnectionId(), tunnelId: tunnel.id, connectorId: newConnectorId(), connIndex: 0 },
        session: createMemorySessionPair(clock).edge,
        ...{ remoteIp: "192.0.2.9", version: "2026.8.2", arch: "linux_amd64", features: ["a"] },
        ...{ registeredAtMs: clock.wallMs(), draining: false, suspectedAtMs: undefined, failures: 0, rttMs: undefined },
      };
      registry.admit(live);
      return live;
    },
    stop: () => stopping.abort(),
    [Symbol.dispose]: () => {
      stopping.abort();
      store.close();
    },
  };
}

/** What calls can be about: one of each kind. */
export interface ApiWorld {
  readonly api: TestApi;
  readonly web: StoredTunnel;
  readonly other: StoredTunnel;
  readonly connectorId: string;
  readonly poolId: string;
  readonly balancerId: string;
  readonly routeId: string;
  readonly vnetId: string;
  readonly tokenId: string;
}

/** An API with something of everything, made by its own calls. */
export async function startApiWorld(): Promise<ApiWorld> {
  const api = startTestApi();
  const web = storeTunnel(api.store, "web", { hostnames: ["web.example.test"] });
  const other = storeTunnel(api.store, "other");
  const { connectorId } = api.connect(web);
  const made = async (path: string, body: unknown): Promise<string> => {
    const { status, json, text } = await api.call("POST", path, { body });
    if (status !== 200) throw new Error(`POST ${path}: ${text}`);
    return (json.result as { id: string }).id;
  };
  const account = `/accounts/${api.account.tag}`;
  const lb = { type: "lb", lb_name: "lb.example.test", lb_pool: "used" };
  await api.call("PUT", `/zones/${api.zoneId}/tunnels/${web.id}/routes`, { body: lb });
  const poolId = await made(`${account}/load_balancers/pools`, { name: "free" });
  const vnetId = await made(`${account}/teamnet/virtual_networks`, { name: "staging" });
  const routeId = await made(`${account}/teamnet/routes`, { network: "10.1.0.0/16", tunnel_id: web.id });
  const balancerId = api.store.balancers.list()[0]?.id ?? "";
  const tokenId = api.token(["tokens:write"], { name: "spare" }).token.id;
  return { api, web, other, connectorId, poolId, balancerId, routeId, vnetId, tokenId };
}

/** Fills in the variable parts of an endpoint's path with what there is. */
export function pathIn(world: ApiWorld, path: string): string {
  const { api, web, connectorId, poolId, balancerId, routeId, vnetId, tokenId } = world;
  const parts: Readonly<Record<string, string>> = {
    ...{ account_id: api.account.tag, zone_id: api.zoneId, tunnel_id: web.id, connector_id: connectorId },
    ...{ resource: "logs", hostname: "web.example.test", pool_id: poolId, balancer_id: balancerId },
    ...{ ip: "10.1.2.3", route_id: routeId, vnet_id: vnetId, token_id: tokenId },
  };
  return path.replaceAll(/\{([^}]+)\}/g, (_, name: string) => {
    const part = parts[name];
    if (part === undefined) throw new Error(`No ${name} for ${path}`);
    return part;
  });
}

/** A good body of each endpoint that takes one, by method and path. */
export function bodyFor(world: ApiWorld, { method, path }: AnyEndpoint): unknown {
  const bodies: Readonly<Record<string, unknown>> = {
    "POST /accounts/{account_id}/cfd_tunnel": { name: "fresh", tunnel_secret: Buffer.alloc(32, 9).toString("base64") },
    "PATCH /accounts/{account_id}/cfd_tunnel/{tunnel_id}": { name: "renamed" },
    "POST /accounts/{account_id}/cfd_tunnel/{tunnel_id}/management": { resources: ["logs", "admin"] },
    "PUT /accounts/{account_id}/cfd_tunnel/{tunnel_id}/configurations": {
      config: { ingress: [{ service: "http_status:404" }] },
    },
    "PUT /zones/{zone_id}/tunnels/{tunnel_id}/routes": { type: "dns", user_hostname: "new.example.test" },
    "POST /accounts/{account_id}/load_balancers/pools": { name: "another", members: [{ tunnel_id: world.other.id }] },
    "PUT /accounts/{account_id}/load_balancers/pools/{pool_id}": {
      name: "free",
      members: [{ tunnel_id: world.web.id }],
    },
    "PATCH /zones/{zone_id}/load_balancers/{balancer_id}": { steering: "random" },
    "POST /accounts/{account_id}/teamnet/routes": { network: "10.2.0.0/16", tunnel_id: world.web.id },
    "POST /accounts/{account_id}/teamnet/virtual_networks": { name: "more" },
    "PATCH /accounts/{account_id}/teamnet/virtual_networks/{vnet_id}": { comment: "words" },
    "POST /accounts/{account_id}/tokens": { name: "ci", scopes: ["tokens:write"] },
  };
  return bodies[`${method} ${path}`];
}

/** What an endpoint needs in its query so that it answers. */
export function queryFor({ method, path }: AnyEndpoint): string {
  return method === "DELETE" && path === "/accounts/{account_id}/cfd_tunnel/{tunnel_id}" ? "?cascade=true" : "";
}
