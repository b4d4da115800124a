import { describe, expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { TunnelError } from "../../../../src/core/errors.ts";
import { newConnectionId, newConnectorId, newTunnelId, type TunnelId } from "../../../../src/core/ids.ts";
import { silentLogger } from "../../../../src/core/log.ts";
import { quickName } from "../../../../src/edge/quick/names.ts";
import {
  MAX_QUICK_TUNNELS_PER_HOUR,
  MAX_QUICK_TUNNELS_PER_IP,
  QuickTunnels,
} from "../../../../src/edge/quick/quick-tunnels.ts";
import { type LiveConnection, Registry } from "../../../../src/edge/registry.ts";
import type { Store } from "../../../../src/edge/store/port.ts";
import { openSqliteStore } from "../../../../src/edge/store/sqlite/index.ts";
import { createMemorySessionPair } from "../../../../src/transport/memory.ts";
import { VirtualClock } from "../../../support/virtual-clock.ts";

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;

function world(store?: Store, options: { readonly domain: string | undefined } = { domain: "edge.example.test" }) {
  const clock = new VirtualClock();
  const registry = new Registry();
  const kept = store ?? openSqliteStore(":memory:", randomBytes(32), clock);
  const quick = new QuickTunnels({
    ...{ store: kept, registry, clock, log: silentLogger, ...options },
    tunnelToken: ({ id }) => `token of ${id}`,
  });
  return { clock, registry, store: kept, quick };
}

function connectionOf(tunnelId: TunnelId, clock: VirtualClock): LiveConnection {
  return {
    ...{ connectionId: newConnectionId(), tunnelId, connectorId: newConnectorId(), connIndex: 0 },
    ...{ session: createMemorySessionPair(clock).edge, remoteIp: "192.0.2.1", version: "1", arch: "linux_amd64" },
    ...{ features: [], registeredAtMs: 0, draining: false, suspectedAtMs: undefined, failures: 0, rttMs: undefined },
  };
}

describe("quick tunnels", () => {
  test("one has a hostname below the domain, a secret that registers, and nothing to do with the edge's own account", () => {
    const { quick, store } = world();
    const made = quick.create("192.0.2.1");
    expect(made.hostname).toBe(`${made.name}.edge.example.test`);
    expect(store.hostnames.lookUp(made.hostname)).toEqual({ kind: "tunnel", tunnelId: made.id });
    expect(Buffer.from(store.tunnels.credentials(made.id)?.secret ?? []).toString("base64")).toBe(made.secret);
    expect(made.token).toBe(`token of ${made.id}`);
    expect(store.tunnels.find({ accountTag: store.accounts.own().tag }).total).toBe(0);
    expect(store.audit.find({ subject: made.id }).items[0]?.actor).toEqual({
      kind: "system",
      id: "quick tunnels",
      from: "192.0.2.1",
    });
  });

  test("an address has so many at once, counted by network for IPv6", () => {
    const { quick } = world();
    for (let i = 0; i < MAX_QUICK_TUNNELS_PER_IP; i += 1) quick.create(`2001:db8:1:2::${i + 1}`);
    expect(() => quick.create("2001:db8:1:2:ffff::1")).toThrow(/You have 10 quick tunnels already/);
    expect(quick.create("2001:db8:1:3::1").hostname).toContain(".edge.example.test");
  });

  test("an address makes so many an hour, even when they end at once", async () => {
    const { quick, store, clock } = world();
    for (let i = 0; i < MAX_QUICK_TUNNELS_PER_HOUR; i += 1) {
      quick.create("192.0.2.1");
      // Without a connector they end after ten minutes, and ten more may come.
      if (i % MAX_QUICK_TUNNELS_PER_IP === MAX_QUICK_TUNNELS_PER_IP - 1) await clock.advance(11 * MINUTE_MS);
    }
    expect(store.tunnels.find({ deleted: false }).total).toBe(0);
    expect(() => quick.create("192.0.2.1")).toThrow(/You made 30 quick tunnels within an hour/);
    await clock.advance(HOUR_MS);
    quick.create("192.0.2.1");
  });

  test("one that has a connector stays, and goes ten minutes after it", async () => {
    const { quick, store, clock, registry } = world();
    const { id, hostname } = quick.create("192.0.2.1");
    const live = connectionOf(id, clock);
    registry.admit(live);
    await clock.advance(HOUR_MS);
    expect(store.tunnels.get(id)?.deletedAtMs).toBeUndefined();
    registry.remove(live);
    await clock.advance(9 * MINUTE_MS);
    expect(store.hostnames.lookUp(hostname)).toBeDefined();
    await clock.advance(2 * MINUTE_MS);
    expect(store.hostnames.lookUp(hostname)).toBeUndefined();
  });

  test("none lives longer than a day, and its connections end with it", async () => {
    const { quick, store, clock, registry } = world();
    const { id } = quick.create("192.0.2.1");
    const live = connectionOf(id, clock);
    registry.admit(live);
    await clock.advance(25 * HOUR_MS);
    expect(store.tunnels.get(id)?.deletedAtMs).toBeDefined();
    expect((await live.session.closed).kind).not.toBe("lost");
  });

  test("those of an earlier run of the edge go as well when nobody comes back", async () => {
    const first = world();
    const { id } = first.quick.create("192.0.2.1");
    first.quick.stop();
    const second = world(first.store);
    await second.clock.advance(11 * MINUTE_MS);
    expect(second.store.tunnels.get(id)?.deletedAtMs).toBeDefined();
  });

  test("those of an earlier run go as well when the edge gives out none any more", async () => {
    const first = world();
    const { id, hostname } = first.quick.create("192.0.2.1");
    first.quick.stop();
    const second = world(first.store, { domain: undefined });
    expect(second.quick.open).toBe(false);
    expect(() => second.quick.create("192.0.2.1")).toThrow(/gives out no quick tunnels/);
    await second.clock.advance(11 * MINUTE_MS);
    expect(second.store.tunnels.get(id)?.deletedAtMs).toBeDefined();
    expect(second.store.hostnames.lookUp(hostname)).toBeUndefined();
    second.quick.stop();
    expect(second.clock.pending).toBe(0);
  });

  test("an edge that gives out none makes no account for them", () => {
    const { store } = world(undefined, { domain: undefined });
    expect(store.accounts.get("9".repeat(32))).toBeUndefined();
    expect(store.audit.find({}).total).toBe(0);
  });

  test("one that the operator deleted makes room for another", async () => {
    const { quick, store, clock } = world();
    const made = Array.from({ length: MAX_QUICK_TUNNELS_PER_IP }, () => quick.create("192.0.2.1"));
    expect(() => quick.create("192.0.2.1")).toThrow(/quick tunnels already/);
    store.tunnels.remove(made[0]?.id ?? newTunnelId(), { kind: "operator", id: "test", from: "" });
    await clock.advance(MINUTE_MS);
    expect(quick.create("192.0.2.1").hostname).toContain(".edge.example.test");
  });

  test("a sweep of many ends at a busy database once, and the next one ends them all", async () => {
    const { quick, store, clock } = world();
    const ids = [1, 2, 3].map((i) => quick.create(`192.0.2.${i}`).id);
    const { remove } = store.tunnels;
    let busy = 0;
    store.tunnels.remove = () => {
      busy += 1;
      throw new TunnelError("store.failed", "Another process holds the database", { retry: "same" });
    };
    await clock.advance(10 * MINUTE_MS);
    expect(busy).toBe(1);
    store.tunnels.remove = remove.bind(store.tunnels);
    await clock.advance(MINUTE_MS);
    for (const id of ids) expect(store.tunnels.get(id)?.deletedAtMs).toBeDefined();
  });
});

test("names are hostnames, each different, and never a tunnel's id", () => {
  const names = Array.from({ length: 2_000 }, () => quickName((bytes) => randomBytes(bytes)));
  for (const name of names) expect(name).toMatch(/^[a-z]+-[a-z]+-[2-9a-hjkmnp-z]{6}$/);
  expect(new Set(names).size).toBe(names.length);
});
