import { expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { newConnectionId, newConnectorId, type TunnelId } from "../../../src/core/ids.ts";
import { type LiveConnection, Registry } from "../../../src/edge/registry.ts";
import { openStateDir } from "../../../src/edge/state-dir.ts";
import { openSqliteStore } from "../../../src/edge/store/sqlite/index.ts";
import { TunnelHistory } from "../../../src/edge/tunnel-history.ts";
import { createMemorySessionPair } from "../../../src/transport/memory.ts";
import { ACTOR, storeTunnel } from "../../support/stored.ts";
import { makeTempDir } from "../../support/temp-dir.ts";
import { VirtualClock } from "../../support/virtual-clock.ts";

function world() {
  const clock = new VirtualClock();
  const registry = new Registry();
  const store = openSqliteStore(":memory:", randomBytes(32), clock);
  return { clock, registry, store, history: new TunnelHistory({ registry, store, clock }) };
}

function connectionOf(tunnelId: TunnelId, clock: VirtualClock): LiveConnection {
  return {
    ...{ connectionId: newConnectionId(), tunnelId, connectorId: newConnectorId(), connIndex: 0 },
    ...{ session: createMemorySessionPair(clock).edge, remoteIp: "192.0.2.1", version: "1", arch: "linux_amd64" },
    ...{ features: [], registeredAtMs: 0, draining: false, suspectedAtMs: undefined, failures: 0, rttMs: undefined },
  };
}

test("it says since when a tunnel is there, and since when it is gone", async () => {
  const { clock, registry, store, history } = world();
  const { id } = storeTunnel(store, "t");
  const live = connectionOf(id, clock);
  const cameAtMs = clock.wallMs();
  registry.admit(live);
  await clock.advance(1_000);
  registry.admit({ ...connectionOf(id, clock), connIndex: 1, connectorId: live.connectorId });
  expect(history.of(id)).toEqual({ activeAtMs: cameAtMs });
  for (const connection of registry.connections(id)) registry.remove(connection);
  expect(history.of(id)).toEqual({ inactiveAtMs: cameAtMs + 1_000 });
});

test.each([
  ["before its connections end", true],
  ["after that", false],
])("a tunnel that is deleted %s is forgotten, and no other", (_, connected) => {
  const { clock, registry, store, history } = world();
  const tunnels = [storeTunnel(store, "kept"), storeTunnel(store, "deleted")];
  const lives = tunnels.map(({ id }) => connectionOf(id, clock));
  for (const live of lives) registry.admit(live);
  const [kept, deleted] = lives;
  if (kept === undefined || deleted === undefined) throw new Error("There are no connections");
  if (!connected) registry.remove(deleted);
  expect(history.size).toBe(2);
  store.tunnels.remove(deleted.tunnelId, ACTOR);
  if (connected) registry.remove(deleted);
  expect(history.size).toBe(1);
  expect(history.of(kept.tunnelId).activeAtMs).toBeDefined();
});

test("it forgets what another process deletes, and nothing more once it is stopped", () => {
  using dir = makeTempDir();
  const clock = new VirtualClock();
  const state = openStateDir(dir.path, clock.wallMs());
  const [store, other] = [1, 2].map(() => openSqliteStore(state.databasePath, state.sealingKey, clock));
  if (store === undefined || other === undefined) throw new Error("There are no stores");
  const registry = new Registry();
  const history = new TunnelHistory({ registry, store, clock });
  const [first, second] = [storeTunnel(store, "first"), storeTunnel(store, "second")];
  for (const { id } of [first, second]) registry.admit(connectionOf(id, clock));
  other.tunnels.remove(first.id, ACTOR);
  store.poll();
  expect(history.size).toBe(1);
  history.stop();
  other.tunnels.remove(second.id, ACTOR);
  store.poll();
  for (const connection of registry.connections(second.id)) registry.remove(connection);
  expect(history.size).toBe(1);
  store.close();
  other.close();
});
