import { afterEach, beforeEach, expect, test } from "bun:test";
import { type ConnectorId, newConnectionId, newConnectorId } from "../../../src/core/ids.ts";
import { createLogger } from "../../../src/core/log.ts";
import { ConfigurationPush } from "../../../src/edge/configuration-push.ts";
import { type LiveConnection, Registry } from "../../../src/edge/registry.ts";
import type { Store, StoredTunnel } from "../../../src/edge/store/port.ts";
import { openSqliteStore } from "../../../src/edge/store/sqlite/index.ts";
import { createMemorySessionPair } from "../../../src/transport/memory.ts";
import type { ConfigurationAnswer, ConfigurationUpdate } from "../../../src/transport/port.ts";
import { ACTOR, storeTunnel } from "../../support/stored.ts";
import { settle, VirtualClock } from "../../support/virtual-clock.ts";

let clock: VirtualClock;
let store: Store;
let registry: Registry;
let push: ConfigurationPush;
let tunnel: StoredTunnel;
let lines: string[];

beforeEach(() => {
  clock = new VirtualClock();
  store = openSqliteStore(":memory:", new Uint8Array(32), clock);
  registry = new Registry();
  lines = [];
  const write = (line: string): void => void lines.push(line);
  const log = createLogger({ level: "debug", format: "default", wallMs: () => clock.wallMs(), write });
  push = new ConfigurationPush({ store, registry, clock, log });
  tunnel = storeTunnel(store, "web");
});
afterEach(() => {
  push.stop();
  store.close();
});

/** A connector as both programs behave: it takes what is newer than what it has, and says what it has. */
class Connector {
  readonly id: ConnectorId = newConnectorId();
  version = -1;
  config = "";
  readonly pushes: number[] = [];
  /** Holds answers back until it resolves. */
  held: Promise<void> | undefined;
  answer: (update: ConfigurationUpdate) => ConfigurationAnswer = (update) => {
    if (update.version > this.version) {
      this.version = update.version;
      this.config = update.config;
    }
    return { latestAppliedVersion: this.version, error: "" };
  };

  connect(connIndex = 0): LiveConnection {
    const pair = createMemorySessionPair(clock);
    pair.connector.onConfiguration(async (update) => {
      this.pushes.push(update.version);
      const { held } = this;
      const answer = this.answer(update);
      await held;
      return answer;
    });
    const live: LiveConnection = {
      ...{ connectionId: newConnectionId(), tunnelId: tunnel.id, connectorId: this.id, connIndex, session: pair.edge },
      ...{ remoteIp: "192.0.2.1", version: "1", arch: "linux_amd64", features: [], registeredAtMs: clock.wallMs() },
      ...{ draining: false, suspectedAtMs: undefined, failures: 0, rttMs: undefined },
    };
    registry.admit(live);
    return live;
  }
}

const put = (config: string): number => store.configurations.put(tunnel.id, config, ACTOR).version;

test("a connection gets the configuration once it serves, and each change, once", async () => {
  const connector = new Connector();
  put("one");
  connector.connect();
  expect(connector.pushes).toEqual([]);
  await clock.advance(0);
  expect([connector.version, connector.config]).toEqual([1, "one"]);
  put("two");
  await settle();
  expect([connector.version, connector.config]).toEqual([2, "two"]);
  await clock.advance(60_000);
  expect(connector.pushes).toEqual([1, 2]);
});

test("changes while an answer is awaited are not forgotten; only the last one is sent", async () => {
  const connector = new Connector();
  connector.connect();
  await clock.advance(0);
  const gate = Promise.withResolvers<void>();
  connector.held = gate.promise;
  put("one");
  await settle();
  for (const config of ["two", "three", "four"]) put(config);
  connector.held = undefined;
  gate.resolve();
  await settle();
  expect(connector.pushes).toEqual([1, 4]);
  expect(connector.config).toBe("four");
});

test("a connector that has more than the edge remembers gets what counts now, also what changed meanwhile", async () => {
  const connector = new Connector();
  connector.version = 9;
  put("old");
  const gate = Promise.withResolvers<void>();
  connector.held = gate.promise;
  connector.connect();
  await clock.advance(0);
  put("new, acknowledged while the first answer was on its way");
  connector.held = undefined;
  gate.resolve();
  await settle();
  expect(connector.version).toBe(10);
  expect(connector.config).toStartWith("new");
  expect(store.configurations.current(tunnel.id)).toMatchObject({ version: 10, config: connector.config });
  expect(store.audit.find({ action: "configuration.put" }).items[0]?.actor.kind).toBe("system");
});

test("two connections of one connector do not drive the version up", async () => {
  const connector = new Connector();
  for (const index of [0, 1]) connector.connect(index);
  await clock.advance(0);
  const gate = Promise.withResolvers<void>();
  connector.held = gate.promise;
  put("one");
  await settle();
  connector.held = undefined;
  put("two");
  gate.resolve();
  await settle();
  await clock.advance(60_000);
  expect([connector.version, store.configurations.current(tunnel.id)?.version]).toEqual([2, 2]);
});

test("one that refuses is not asked again until there is something else", async () => {
  const connector = new Connector();
  connector.answer = () => ({ latestAppliedVersion: -1, error: "no such rule" });
  connector.connect();
  put("wrong");
  await clock.advance(600_000);
  expect(connector.pushes).toEqual([1]);
  expect(lines.filter((line) => line.includes("no such rule"))).toHaveLength(1);
  put("other");
  await settle();
  expect(connector.pushes).toEqual([1, 2]);
});

test.each([2 ** 30 + 1, 2 ** 31 - 1])(
  "one that claims to have version %p leaves the others in peace",
  async (claimed) => {
    const liar = new Connector();
    liar.answer = () => ({ latestAppliedVersion: claimed, error: "" });
    const honest = new Connector();
    for (const connector of [liar, honest]) connector.connect();
    put("one");
    await clock.advance(60_000);
    expect(store.configurations.current(tunnel.id)?.version).toBe(1);
    expect(honest.config).toBe("one");
    expect(lines.join("\n")).toContain("keeps another configuration");
    put("two");
    await settle();
    expect(honest.version).toBe(2);
  },
);

test("what fails is tried again, with waits, and not on a connection that has gone", async () => {
  const connector = new Connector();
  let working = false;
  const { answer } = connector;
  connector.answer = (update) => {
    if (!working) throw new Error("broken");
    return answer(update);
  };
  const live = connector.connect();
  put("one");
  await clock.advance(3_600);
  const tries = connector.pushes.length;
  expect(tries).toBeGreaterThan(2);
  expect(tries).toBeLessThan(7);
  working = true;
  await clock.advance(15_000);
  expect(connector.version).toBe(1);
  working = false;
  put("two");
  await settle();
  registry.remove(live);
  const after = connector.pushes.length;
  await clock.advance(120_000);
  expect(connector.pushes).toHaveLength(after);
});
