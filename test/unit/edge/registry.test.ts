import { expect, test } from "bun:test";
import { TunnelError } from "../../../src/core/errors.ts";
import { type ConnectorId, newConnectionId, newConnectorId, newTunnelId } from "../../../src/core/ids.ts";
import {
  FAR_HANDICAP,
  type LiveConnection,
  MAX_CONNECTIONS_PER_TUNNEL,
  MAX_CONNECTORS_PER_TUNNEL,
  MAX_FAILURES,
  Registry,
} from "../../../src/edge/registry.ts";
import { createMemorySessionPair } from "../../../src/transport/memory.ts";
import type { RequestEvents, StreamRequest } from "../../../src/transport/port.ts";
import { VirtualClock } from "../../support/virtual-clock.ts";

const TUNNEL = newTunnelId();

function connection(connectorId: ConnectorId = newConnectorId(), connIndex = 0): LiveConnection {
  return {
    connectionId: newConnectionId(),
    tunnelId: TUNNEL,
    connectorId,
    connIndex,
    session: createMemorySessionPair(new VirtualClock()).edge,
    remoteIp: "192.0.2.1",
    version: "1",
    arch: "linux_amd64",
    features: [],
    registeredAtMs: 0,
    draining: false,
    suspectedAtMs: undefined,
    failures: 0,
    rttMs: undefined,
  };
}

test("a connector that takes its slot again replaces what it had there, and only that", () => {
  const registry = new Registry();
  const connectorId = newConnectorId();
  const first = connection(connectorId, 0);
  const second = connection(connectorId, 1);
  const stranger = connection(newConnectorId(), 0);
  for (const live of [first, second, stranger])
    expect(registry.admit(live)).toEqual({ kind: "admitted", replaced: undefined });
  const again = connection(connectorId, 0);
  expect(registry.admit(again)).toEqual({ kind: "admitted", replaced: first });
  expect(registry.connections(TUNNEL)).toEqual([second, stranger, again]);
  // The end of the replaced one must not take its successor along.
  registry.remove(first);
  expect(registry.size).toBe(3);
});

test("a tunnel has room for so many connectors, and a full one still lets its own come back", () => {
  const registry = new Registry();
  const members = Array.from({ length: MAX_CONNECTORS_PER_TUNNEL }, () => connection());
  for (const live of members) registry.admit(live);
  expect(registry.admit(connection())).toEqual({ kind: "full", what: "connectors" });
  const known = members[3] as LiveConnection;
  expect(registry.admit(connection(known.connectorId, 0))).toEqual({ kind: "admitted", replaced: known });
  expect(registry.admit(connection(known.connectorId, 1)).kind).toBe("admitted");
  expect(registry.connections(newTunnelId())).toEqual([]);
});

test("a tunnel has room for so many connections", () => {
  const registry = new Registry();
  const connectorId = newConnectorId();
  for (let i = 0; i < MAX_CONNECTIONS_PER_TUNNEL; i += 1) registry.admit(connection(connectorId, i));
  expect(registry.admit(connection(connectorId, 200))).toEqual({ kind: "full", what: "connections" });
  expect(registry.size).toBe(MAX_CONNECTIONS_PER_TUNNEL);
});

test("connectors that are leaving make room for their successors", () => {
  const registry = new Registry();
  const old = Array.from({ length: MAX_CONNECTORS_PER_TUNNEL }, () => connection());
  for (const live of old) registry.admit(live);
  for (const live of old) live.draining = true;
  expect(registry.admit(connection()).kind).toBe("admitted");
});

test("requests go where the fewest run, in turns among equals, and never to one that drains or was tried", () => {
  const registry = new Registry();
  const members = Array.from({ length: 3 }, () => connection());
  for (const live of members) registry.admit(live);
  const [first, second, third] = members as [LiveConnection, LiveConnection, LiveConnection];
  const chosen = new Set(Array.from({ length: 3 }, () => registry.choose(TUNNEL, [])));
  expect(chosen).toEqual(new Set(members));
  expect(registry.choose(TUNNEL, [first, second])).toBe(third);
  third.draining = true;
  expect(registry.choose(TUNNEL, [first, second])).toBeUndefined();
  expect(registry.serves(TUNNEL)).toBe(true);
  first.draining = true;
  second.draining = true;
  expect(registry.serves(TUNNEL)).toBe(false);
  expect(registry.choose(newTunnelId(), [])).toBeUndefined();
});

test("nothing is kept of a tunnel whose last connection left", () => {
  const registry = new Registry();
  const live = connection();
  registry.admit(live);
  registry.remove(live);
  registry.remove(live);
  expect(registry.size).toBe(0);
  expect(registry.all()).toEqual([]);
  expect(registry.serves(TUNNEL)).toBe(false);
});

test("once per connector: its own slot again is a replacement, another slot a duplicate, a draining one no obstacle", () => {
  const registry = new Registry({ oncePerConnector: true });
  const connectorId = newConnectorId();
  const first = connection(connectorId, 0);
  registry.admit(first);
  expect(registry.admit(connection(connectorId, 1))).toEqual({ kind: "duplicate" });
  const again = connection(connectorId, 0);
  expect(registry.admit(again)).toEqual({ kind: "admitted", replaced: first });
  again.draining = true;
  expect(registry.admit(connection(connectorId, 1))).toEqual({ kind: "admitted", replaced: undefined });
});

test("far connectors get their share only when the near ones are busier, doubtful ones only when there is no other", () => {
  const registry = new Registry();
  const near = connection();
  const far = connection();
  near.rttMs = 5;
  far.rttMs = 100;
  for (const live of [near, far]) registry.admit(live);
  const chosen = () => Array.from({ length: 4 }, () => registry.choose(TUNNEL, []));
  expect(new Set(chosen())).toEqual(new Set([near]));
  expect(registry.choose(TUNNEL, [near])).toBe(far);
  const running = Array.from({ length: FAR_HANDICAP + 1 }, () => near.session.open(REQUEST, IGNORE));
  expect(registry.choose(TUNNEL, [])).toBe(far);
  far.failures = MAX_FAILURES;
  expect(registry.choose(TUNNEL, [])).toBe(near);
  near.suspectedAtMs = near.session.lastReceivedAtMs;
  expect(new Set(chosen()).size).toBe(1);
  near.draining = true;
  expect(registry.choose(TUNNEL, [])).toBe(far);
  for (const stream of running) stream.abort(new TunnelError("aborted", "over"));
});

const REQUEST: StreamRequest = {
  kind: "http",
  method: "GET",
  authority: "a",
  path: "/",
  headers: [],
  bodyless: true,
};
const IGNORE: RequestEvents = {
  onInformational: () => {},
  onResponse: () => {},
  onData: () => {},
  onEnd: () => {},
  onDrain: () => {},
  onClose: () => {},
};
