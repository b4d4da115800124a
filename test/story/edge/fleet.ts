import { newConnectionId, newConnectorId, type TunnelId } from "../../../src/core/ids.ts";
import { createLogger } from "../../../src/core/log.ts";
import { HealthAlerts } from "../../../src/edge/alerts.ts";
import { Balancers } from "../../../src/edge/dispatcher/balancers/index.ts";
import type { WebhookMessage } from "../../../src/edge/dispatcher/balancers/webhook.ts";
import { Dispatcher } from "../../../src/edge/dispatcher/dispatcher.ts";
import { startPublicListener } from "../../../src/edge/listener/listener.ts";
import type { AccessEntry } from "../../../src/edge/listener/visitor-deps.ts";
import { type LiveConnection, Registry } from "../../../src/edge/registry.ts";
import type { Monitor, Pool, Steering, Store, StoredTunnel } from "../../../src/edge/store/port.ts";
import { openSqliteStore } from "../../../src/edge/store/sqlite/index.ts";
import { createMemorySessionPair } from "../../../src/transport/memory.ts";
import type { IncomingStream } from "../../../src/transport/port.ts";
import { parseCidr } from "../../../src/wire/cidr.ts";
import { pollUntil } from "../../support/poll-until.ts";
import { seededRandom } from "../../support/seeded-random.ts";
import { ACTOR, storeTunnel } from "../../support/stored.ts";
import { VirtualClock } from "../../support/virtual-clock.ts";
import { parseAnswer, RawVisitor } from "./raw-visitor.ts";
import { answer, readBody } from "./small-edge.ts";

export const BALANCED = "lb.example.com";
export const HOOK = "https://hook.example.com/";
export const DOMAIN = "edge.example.com";

/** What is behind a tunnel does with a request, of which the body has been read. */
export type Behind = (stream: IncomingStream, body: string) => void;

/** One tunnel of a fleet, with connections in memory. */
export interface FleetTunnel {
  readonly stored: StoredTunnel;
  /** Paths of what it was asked for by visitors, and how often it was checked. */
  readonly asked: string[];
  checks: number;
  /** How it serves; checks are served so too. */
  behind: Behind;
  readonly live: LiveConnection[];
  /** Adds a connection, of a new connector unless one is given. */
  connect(of?: LiveConnection): LiveConnection;
  /** Cuts all connections as a dead network would. */
  cut(connection?: LiveConnection): void;
}

export interface Fleet extends AsyncDisposable {
  readonly clock: VirtualClock;
  readonly store: Store;
  readonly registry: Registry;
  readonly tunnels: readonly FleetTunnel[];
  readonly balancers: Balancers;
  readonly alerts: HealthAlerts;
  readonly access: readonly AccessEntry[];
  /** Webhook messages so far. */
  readonly told: readonly (WebhookMessage & { readonly url: string })[];
  readonly lines: readonly string[];
  /** Makes or replaces a pool of these tunnels, by number. */
  pool(name: string, members: readonly number[], options?: PoolOptions): Pool;
  balance(steering: Steering, pools: readonly Pool[], hostname?: string): void;
  /** One request on a connection of its own; gives the answer's status, body and fields. */
  ask(path?: string, options?: AskOptions): Promise<{ status: number; body: string; headers: Record<string, string> }>;
}

export interface PoolOptions {
  readonly weights?: readonly number[];
  readonly disabled?: readonly number[];
  readonly monitor?: Partial<Monitor>;
}

export interface AskOptions {
  readonly method?: string;
  readonly host?: string;
  /** More fields, each line with its end. */
  readonly fields?: string;
  readonly body?: string;
}

export const MONITOR: Monitor = {
  ...{ path: "/healthz", host: undefined, intervalMs: 10_000, timeoutMs: 2_000, expect: [200, 299] as const },
  ...{ unhealthyAfter: 2, healthyAfter: 2 },
};

/** Answers with the number of the tunnel. */
export function numbered(number: number): Behind {
  return (stream) => answer(stream, { headers: ["Content-Length", "1"], body: String(number) });
}

/**
 * The public half of an edge on a real socket, which trusts proxies of this machine, in front of several tunnels in memory, with its
 * clock in the test's hand.
 */
export async function startFleet(count: number): Promise<Fleet> {
  const clock = new VirtualClock();
  const lines: string[] = [];
  const log = createLogger({
    ...{ level: "info", format: "default", wallMs: () => clock.wallMs() },
    write: (line) => void lines.push(line),
  });
  const store = openSqliteStore(":memory:", new Uint8Array(32));
  const registry = new Registry();
  const told: (WebhookMessage & { url: string })[] = [];
  const webhooks = { post: (url: string, message: WebhookMessage) => void told.push({ url, ...message }) };
  const random = seededRandom(1);
  const key = new Uint8Array(32);
  const balancers = new Balancers({ store, registry, clock, random, log, key, webhooks });
  const alerts = new HealthAlerts({ store, registry, clock, log, webhooks }, { webhook: HOOK });
  const tunnels = Array.from({ length: count }, (_, i) =>
    fleetTunnel(storeTunnel(store, `t${i}`), i, { clock, registry }),
  );
  for (const tunnel of tunnels) tunnel.connect();
  const access: AccessEntry[] = [];
  const balance = balancers.choose;
  const listener = await startPublicListener({
    ...{
      host: "127.0.0.1",
      port: 0,
      clock,
      policy: { trustedProxies: [parseCidr("127.0.0.0/8") ?? []].flat() },
      location: "tst01",
    },
    dispatcher: new Dispatcher({ store, registry, clock, log, balance, directDomain: DOMAIN }),
    onAccess: (entry) => access.push(entry),
  });
  const { tag } = store.accounts.own();
  const zoneId = store.accounts.zones(tag)[0]?.id ?? "";
  return {
    ...{ clock, store, registry, tunnels, balancers, alerts, access, told, lines },
    pool: (name, members, options = {}) => {
      const pool: Pool = {
        ...{ id: store.balancers.poolByName(tag, name)?.id ?? crypto.randomUUID(), accountTag: tag, name },
        members: members.map((number, i) => ({
          tunnelId: (tunnels[number] as FleetTunnel).stored.id,
          ...{ weight: options.weights?.[i] ?? 1, enabled: options.disabled?.includes(number) !== true },
        })),
        monitor: options.monitor === undefined ? undefined : { ...MONITOR, ...options.monitor },
        ...{ webhook: HOOK, createdAtMs: 0 },
      };
      store.balancers.putPool(pool, ACTOR);
      return pool;
    },
    balance: (steering, pools, hostname = BALANCED) => {
      const id = store.balancers.byHostname(hostname)?.id ?? crypto.randomUUID();
      const poolIds = pools.map((pool) => pool.id);
      store.balancers.put({ id, accountTag: tag, hostname, steering, poolIds, createdAtMs: 0 }, zoneId, false, ACTOR);
    },
    ask: async (path = "/", { method = "GET", host = BALANCED, fields = "", body = "" } = {}) => {
      using visitor = await RawVisitor.connect(listener.port);
      const length = body === "" ? "" : `Content-Length: ${body.length}\r\n`;
      visitor.send(`${method} ${path} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n${fields}${length}\r\n${body}`);
      await visitor.untilOver();
      const { status, headers } = parseAnswer(visitor.received);
      return { status, headers, body: visitor.received.slice(visitor.received.indexOf("\r\n\r\n") + 4) };
    },
    [Symbol.asyncDispose]: async () => {
      balancers.stop();
      alerts.stop();
      listener.abort();
      await listener.close();
      for (const { live } of tunnels) for (const { session } of live) session.close();
      store.close();
    },
  };
}

function fleetTunnel(
  stored: StoredTunnel,
  number: number,
  { clock, registry }: { readonly clock: VirtualClock; readonly registry: Registry },
): FleetTunnel {
  const cuts = new Map<LiveConnection, () => void>();
  const tunnel: FleetTunnel = {
    ...{ stored, asked: [], checks: 0, behind: numbered(number), live: [] },
    connect: (of) => {
      const pair = createMemorySessionPair(clock);
      const live: LiveConnection = {
        ...{ connectionId: newConnectionId(), tunnelId: stored.id, connectorId: of?.connectorId ?? newConnectorId() },
        ...{ connIndex: cuts.size, session: pair.edge, remoteIp: "192.0.2.1", version: "1", arch: "linux_amd64" },
        ...{
          features: [],
          registeredAtMs: 0,
          draining: false,
          suspectedAtMs: undefined,
          failures: 0,
          rttMs: undefined,
        },
      };
      registry.admit(live);
      tunnel.live.push(live);
      void pair.edge.closed.then(() => {
        registry.remove(live);
        tunnel.live.splice(tunnel.live.indexOf(live), 1);
      });
      pair.connector.serve((stream) => {
        const { path } = stream.request;
        if (path.startsWith(MONITOR.path)) tunnel.checks += 1;
        else tunnel.asked.push(path);
        readBody(stream, (body) => tunnel.behind(stream, body));
      });
      cuts.set(live, pair.cut);
      return live;
    },
    cut: (connection) => {
      for (const live of connection === undefined ? [...tunnel.live] : [connection]) cuts.get(live)?.();
    },
  };
  return tunnel;
}

/** Resolves once the registry knows that this tunnel has no connection. */
export async function untilAbsent({ registry }: Fleet, tunnelId: TunnelId): Promise<void> {
  await pollUntil(() => !registry.serves(tunnelId), { what: "the tunnel is gone" });
}
