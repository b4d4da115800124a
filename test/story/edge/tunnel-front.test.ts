import { expect, test } from "bun:test";
import { join } from "node:path";
import { RegistrationClient, type RegistrationRequest } from "../../../src/control/registration-client.ts";
import { TunnelError } from "../../../src/core/errors.ts";
import { newConnectorId, newTunnelId, type TunnelId } from "../../../src/core/ids.ts";
import { createLogger } from "../../../src/core/log.ts";
import { MAX_CONNECTORS_PER_TUNNEL, Registry } from "../../../src/edge/registry.ts";
import { newTunnel } from "../../../src/edge/store/new-tunnel.ts";
import type { Store } from "../../../src/edge/store/port.ts";
import { openSqliteStore } from "../../../src/edge/store/sqlite/index.ts";
import { MAX_UNREGISTERED_PER_IP, TunnelFront } from "../../../src/edge/tunnel-front.ts";
import type { ByteChannel } from "../../../src/net/channel.ts";
import { createMemoryChannelPair } from "../../../src/net/memory-channel.ts";
import type { Connection } from "../../../src/net/sockets.ts";
import { connectHttp2 } from "../../../src/transport/http2/connector.ts";
import { acceptHttp2 } from "../../../src/transport/http2/edge.ts";
import type { ConnectorSession, IncomingStream, RequestEvents } from "../../../src/transport/port.ts";
import { ACTOR, storeTunnel } from "../../support/stored.ts";
import { makeTempDir } from "../../support/temp-dir.ts";
import { settle, VirtualClock } from "../../support/virtual-clock.ts";

const SECRET = Uint8Array.from({ length: 32 }, (_, i) => i);
const DRAIN_MS = 60_000;

interface Line {
  readonly level: string;
  readonly message: string;
  readonly [field: string]: unknown;
}

/** A tunnel front and the connectors that dial it, joined in memory, the protocol between them the real one. */
class World {
  readonly clock = new VirtualClock();
  readonly registry: Registry;
  readonly store: Store;
  readonly tunnelId: TunnelId;
  readonly accountTag: string;
  readonly lines: Line[] = [];
  readonly front: TunnelFront;

  constructor(options: { oncePerConnector: boolean } = { oncePerConnector: false }, path = ":memory:") {
    this.store = openSqliteStore(path, new Uint8Array(32), this.clock);
    this.registry = new Registry(options);
    const tunnel = storeTunnel(this.store, "t", { secret: SECRET });
    this.tunnelId = tunnel.id;
    this.accountTag = tunnel.accountTag;
    const log = createLogger({
      level: "debug",
      format: "json",
      wallMs: () => this.clock.wallMs(),
      write: (line) => this.lines.push(JSON.parse(line) as Line),
    });
    const { store, registry, clock } = this;
    this.front = new TunnelFront({ store, registry, clock, log, location: "tst01", drainMs: DRAIN_MS });
  }

  dial(remoteIp = "192.0.2.1"): Dialled {
    const [edgeEnd, connectorEnd] = createMemoryChannelPair();
    const connection = (channel: ByteChannel): Connection => ({
      channel,
      remoteIp,
      remotePort: 1234,
      localIp: undefined,
    });
    this.front.accept(acceptHttp2(connection(edgeEnd), { clock: this.clock }), remoteIp);
    return new Dialled(this, connectHttp2(connection(connectorEnd), { clock: this.clock }), connectorEnd);
  }

  get warnings(): readonly Line[] {
    return this.lines.filter((line) => line.level !== "debug" && line.level !== "info");
  }
}

class Dialled {
  readonly session: ConnectorSession;
  readonly channel: ByteChannel;
  readonly streams: IncomingStream[] = [];
  closed: string | undefined;
  #client: RegistrationClient | undefined;
  readonly #world: World;

  constructor(world: World, session: ConnectorSession, channel: ByteChannel) {
    this.#world = world;
    this.session = session;
    this.channel = channel;
    session.serve((stream) => this.streams.push(stream));
    void session.closed.then((reason) => {
      this.closed = reason.kind;
    });
  }

  async register(change: Partial<RegistrationRequest> = {}) {
    this.#client = new RegistrationClient(await this.session.control, { clock: this.#world.clock });
    const request: RegistrationRequest = {
      accountTag: this.#world.accountTag,
      tunnelSecret: SECRET,
      tunnelId: this.#world.tunnelId,
      connIndex: 0,
      connectorId: newConnectorId(),
      features: ["some_feature"],
      version: "2026.1.0",
      arch: "linux_arm64",
      localIp: undefined,
      numPreviousAttempts: 0,
      ...change,
    };
    return await this.#client.register(request, { signal: new AbortController().signal });
  }

  async unregister(): Promise<void> {
    await this.#client?.unregister({ signal: new AbortController().signal });
  }

  closeControl(): void {
    this.#client?.close();
  }
}

const request = { kind: "http", method: "GET", authority: "a", path: "/", headers: [], bodyless: true } as const;
const deaf: RequestEvents = {
  onInformational: () => {},
  onResponse: () => {},
  onData: () => {},
  onEnd: () => {},
  onDrain: () => {},
  onClose: () => {},
};

test("a connector that shows the secret is registered, written down and counted", async () => {
  const world = new World();
  const connector = world.dial();
  const connectorId = newConnectorId();
  const answer = await connector.register({ connectorId, connIndex: 2 });
  expect(answer).toMatchObject({ kind: "registered", location: "tst01", remotelyManaged: false });
  expect(world.registry.connections(world.tunnelId)).toMatchObject([
    { connectorId, connIndex: 2, version: "2026.1.0", arch: "linux_arm64", draining: false },
  ]);
  expect(world.lines.find((line) => line.message === "Tunnel connection registered")).toMatchObject({
    level: "info",
    ...{ tunnelID: world.tunnelId, connector: connectorId, connIndex: 2, ip: "192.0.2.1", location: "tst01" },
    ...{ version: "2026.1.0", arch: "linux_arm64", protocol: "http2" },
  });
  expect(JSON.stringify(world.lines)).not.toContain(Buffer.from(SECRET).toString("base64"));
});

test.each([
  { name: "a wrong secret", change: { tunnelSecret: new Uint8Array(32) } },
  { name: "a part of the secret", change: { tunnelSecret: SECRET.subarray(0, 16) } },
  { name: "no secret", change: { tunnelSecret: new Uint8Array(0) } },
  { name: "a tunnel nobody knows", change: { tunnelId: newTunnelId() } },
  {
    name: "a tunnel nobody knows, with a secret of zeros",
    change: { tunnelId: newTunnelId(), tunnelSecret: new Uint8Array(32) },
  },
  { name: "a wrong account", change: { accountTag: "other" } },
])("$name is refused with one and the same answer, and the edge hangs up", async ({ change }) => {
  const world = new World();
  const connector = world.dial();
  expect(await connector.register(change)).toEqual({
    kind: "refused",
    code: "unauthorized",
    cause: "Unauthorized: Invalid tunnel secret",
    retryAfterMs: 0,
    shouldRetry: false,
  });
  expect(world.registry.size).toBe(0);
  // The refusal had to arrive first; but a connector waits for the end, so it must come.
  await world.clock.advance(5_000);
  expect(connector.closed).toBeDefined();
  expect(world.clock.pending).toBe(0);
});

test("a tunnel whose time is over is refused for good, also before it is swept away", async () => {
  const world = new World();
  const tunnel = { ...newTunnel("short", world.accountTag, 0), expiresAtMs: world.clock.wallMs() + 60_000 };
  world.store.tunnels.add(tunnel, SECRET, ACTOR, []);
  const connector = world.dial();
  expect(await connector.register({ tunnelId: tunnel.id })).toMatchObject({ kind: "registered" });
  await world.clock.advance(60_000);
  const late = world.dial();
  expect(await late.register({ tunnelId: tunnel.id })).toMatchObject({
    ...{ kind: "refused", code: "unauthorized", shouldRetry: false },
    cause: expect.stringContaining("over"),
  });
  expect(world.registry.connections(tunnel.id)).toHaveLength(1);
  await world.front.close(0);
});

test("a tunnel that another process deletes loses its connections, others keep theirs", async () => {
  using dir = makeTempDir();
  const path = join(dir.path, "culvert.db");
  const world = new World({ oncePerConnector: false }, path);
  const other = openSqliteStore(path, new Uint8Array(32), world.clock);
  const kept = storeTunnel(other, "kept", { secret: SECRET });
  const [gone, stays] = [world.dial(), world.dial()];
  expect(await gone.register()).toMatchObject({ kind: "registered" });
  expect(await stays.register({ tunnelId: kept.id })).toMatchObject({ kind: "registered" });
  other.tunnels.remove(world.tunnelId, ACTOR);
  world.store.poll();
  await settle();
  expect(world.registry.connections(world.tunnelId)).toEqual([]);
  expect(gone.closed).toBeDefined();
  expect(world.registry.connections(kept.id)).toHaveLength(1);
  expect(stays.closed).toBeUndefined();
  await world.front.close(0);
  other.close();
  world.store.close();
});

test("a store that fails is a refusal to try again, and is logged", async () => {
  const world = new World();
  world.store.tunnels.credentials = () => {
    throw new Error("disk on fire");
  };
  const connector = world.dial();
  expect(await connector.register()).toMatchObject({
    kind: "refused",
    shouldRetry: true,
    cause: "registration failed",
  });
  expect(world.warnings).toMatchObject([{ level: "error", error: "disk on fire" }]);
});

test("a full tunnel refuses further connectors, who may try again", async () => {
  const world = new World();
  for (let i = 0; i < MAX_CONNECTORS_PER_TUNNEL; i += 1) await world.dial(`192.0.2.${i}`).register();
  expect(await world.dial().register()).toMatchObject({ kind: "refused", code: "other", shouldRetry: true });
  expect(world.registry.size).toBe(MAX_CONNECTORS_PER_TUNNEL);
});

test("the same connector and index again takes the place of the dead connection", async () => {
  const world = new World();
  const connectorId = newConnectorId();
  const first = world.dial();
  await first.register({ connectorId });
  const second = world.dial();
  expect((await second.register({ connectorId })).kind).toBe("registered");
  await settle();
  expect(first.closed).toBeDefined();
  expect(second.closed).toBeUndefined();
  expect(world.registry.connections(world.tunnelId)).toHaveLength(1);
});

test("unregistering stops new requests at once, lets the running one end, and then hangs up", async () => {
  const world = new World();
  const connector = world.dial();
  await connector.register();
  const live = world.registry.connections(world.tunnelId)[0];
  live?.session.open(request, deaf);
  await settle();
  await connector.unregister();
  connector.closeControl();
  expect(world.registry.serves(world.tunnelId)).toBe(false);
  await world.clock.advance(DRAIN_MS / 2);
  expect(connector.closed).toBeUndefined();
  connector.streams[0]?.respond({ status: 204, headers: [], source: "origin" }, { bodyless: true });
  await settle();
  expect(connector.closed).toBeDefined();
  expect(world.registry.size).toBe(0);
  expect(world.warnings).toEqual([]);
});

test("a request that never ends holds up a leaving connector only so long", async () => {
  const world = new World();
  const connector = world.dial();
  await connector.register();
  world.registry.connections(world.tunnelId)[0]?.session.open(request, deaf);
  await settle();
  await connector.unregister();
  // Neither closing its control stream nor ending its request.
  await world.clock.advance(DRAIN_MS + 2_000);
  expect(connector.closed).toBeDefined();
  expect(world.registry.size).toBe(0);
});

test("somebody who connects and says nothing is let go", async () => {
  const world = new World();
  const [edgeEnd] = createMemoryChannelPair();
  const raw = { channel: edgeEnd, remoteIp: "192.0.2.1", remotePort: 1, localIp: undefined };
  world.front.accept(acceptHttp2(raw, { clock: world.clock }), raw.remoteIp);
  const connector = world.dial();
  await settle();
  await world.clock.advance(16_000);
  expect(connector.closed).toBeDefined();
  expect(world.clock.pending).toBe(0);
});

test("a probe that comes and goes leaves no word above debug", async () => {
  const world = new World();
  const [edgeEnd, probe] = createMemoryChannelPair();
  const raw = { channel: edgeEnd, remoteIp: "192.0.2.1", remotePort: 1, localIp: undefined };
  world.front.accept(acceptHttp2(raw, { clock: world.clock }), raw.remoteIp);
  probe.listen({ onData: () => {}, onEnd: () => {}, onDrain: () => {}, onClose: () => {} });
  probe.end();
  await settle();
  expect(world.lines.filter((line) => line.level !== "debug")).toEqual([]);
  expect(world.clock.pending).toBe(0);
});

test("too many from one address that do not register are turned away; others are not", async () => {
  const world = new World();
  const waiting = Array.from({ length: MAX_UNREGISTERED_PER_IP }, () => world.dial());
  const surplus = world.dial();
  const other = world.dial("198.51.100.7");
  await settle();
  expect(surplus.closed).toBeDefined();
  expect(waiting.every((connector) => connector.closed === undefined)).toBe(true);
  expect((await other.register()).kind).toBe("registered");
  // Registering makes room for the next.
  expect((await waiting[0]?.register())?.kind).toBe("registered");
  expect((await world.dial().register()).kind).toBe("registered");
});

test("a link that answers pings lives through any quiet time; one that falls silent is given up", async () => {
  const world = new World();
  const alive = world.dial();
  const dead = world.dial();
  await alive.register();
  await dead.register();
  await world.clock.advance(3_600_000);
  expect(world.registry.size).toBe(2);
  dead.channel.pause();
  await world.clock.advance(21_000);
  expect(alive.closed).toBeUndefined();
  expect(world.registry.size).toBe(1);
  expect(world.warnings).toMatchObject([{ message: "Tunnel connection went silent" }]);
});

test.each([
  { name: "closes", end: (one: Dialled) => one.session.close(), level: "info", message: "Tunnel connection ended" },
  {
    name: "is cut off",
    end: (one: Dialled) => one.channel.abort(new TunnelError("channel.lost", "cut by the test")),
    level: "warn",
    message: "Tunnel connection lost",
  },
])("a connection that $name leaves the registry and is written down", async ({ end, level, message }) => {
  const world = new World();
  const connector = world.dial();
  await connector.register({ connIndex: 3 });
  end(connector);
  await settle();
  expect(world.registry.size).toBe(0);
  expect(world.lines.at(-1)).toMatchObject({ level, message, connIndex: 3, tunnelID: world.tunnelId });
  // The transport lets a farewell pass before it hangs up.
  await world.clock.advance(2_000);
  expect(world.clock.pending).toBe(0);
});

test("closing the front ends every session", async () => {
  const world = new World();
  const connectors = [world.dial(), world.dial()];
  for (const connector of connectors) await connector.register();
  const unregistered = world.dial();
  await settle();
  const closed = world.front.close(1_000);
  await world.clock.advance(1_000);
  await closed;
  expect([...connectors, unregistered].map((connector) => connector.closed !== undefined)).toEqual([true, true, true]);
  expect(world.registry.size).toBe(0);
});

test("an edge that takes each connector once sends its second connection elsewhere, until the first is gone", async () => {
  const world = new World({ oncePerConnector: true });
  const connectorId = newConnectorId();
  const first = world.dial();
  expect(await first.register({ connectorId, connIndex: 0 })).toMatchObject({ kind: "registered" });
  const second = world.dial();
  expect(await second.register({ connectorId, connIndex: 1 })).toMatchObject({
    kind: "refused",
    code: "duplicate",
    cause: "EDUPCONN",
    shouldRetry: true,
  });
  expect(await world.dial().register({ connIndex: 1 })).toMatchObject({ kind: "registered" });
  first.session.close();
  await settle();
  expect(await world.dial().register({ connectorId, connIndex: 1 })).toMatchObject({ kind: "registered" });
});
