import { expect, test } from "bun:test";
import { ALERT_AFTER_MS, FORGET_CONNECTOR_MS } from "../../../src/edge/alerts.ts";
import type { LiveConnection } from "../../../src/edge/registry.ts";
import { pollUntil } from "../../support/poll-until.ts";
import { ACTOR } from "../../support/stored.ts";
import { type Fleet, type FleetTunnel, startFleet, untilAbsent } from "./fleet.ts";

const SECOND_MS = 1_000;

function first(fleet: Fleet): FleetTunnel {
  return fleet.tunnels[0] as FleetTunnel;
}

/** Cuts one connection and waits until the registry knows. */
async function lose(fleet: Fleet, connection: LiveConnection): Promise<void> {
  first(fleet).cut(connection);
  await pollUntil(() => !fleet.registry.all().includes(connection), { what: "the connection is gone" });
}

/** A connection goes as one that unregistered. */
async function leave(fleet: Fleet, connection: LiveConnection): Promise<void> {
  fleet.registry.drain(connection);
  connection.session.drain();
  await pollUntil(() => !fleet.registry.all().includes(connection), { what: "the connection is gone" });
}

test("a tunnel without a connection for more than five minutes is told of once, and so is its return", async () => {
  await using fleet = await startFleet(2);
  const tunnel = first(fleet);
  const timers = fleet.clock.pending;
  tunnel.cut();
  await untilAbsent(fleet, tunnel.stored.id);
  await fleet.clock.advance(ALERT_AFTER_MS - 1);
  expect(fleet.told).toEqual([]);
  await fleet.clock.advance(1);
  expect(fleet.told).toMatchObject([
    {
      ...{ event: "alert.firing", kind: "tunnel", tunnel: { id: tunnel.stored.id, name: "t0" }, connector: null },
      ...{ since: "2026-01-01T00:00:00.000Z", seconds: 300 },
    },
  ]);
  expect(
    fleet.lines.filter((line) => line.includes("WRN A tunnel has had no connection for a long time")),
  ).toHaveLength(1);
  expect([fleet.alerts.firing("tunnel"), fleet.alerts.firing("connector")]).toEqual([1, 0]);
  await fleet.clock.advance(10 * ALERT_AFTER_MS);
  expect(fleet.told).toHaveLength(1);
  tunnel.connect();
  expect(fleet.told).toHaveLength(2);
  expect(fleet.told[1]).toMatchObject({ event: "alert.resolved", kind: "tunnel", seconds: 3_300 });
  expect(fleet.alerts.firing("tunnel")).toBe(0);
  expect(fleet.clock.pending).toBe(timers);
});

test("a tunnel that is back in time is not told of, nor one that was stopped and deleted", async () => {
  await using fleet = await startFleet(2);
  const tunnel = first(fleet);
  tunnel.cut();
  await untilAbsent(fleet, tunnel.stored.id);
  await fleet.clock.advance(ALERT_AFTER_MS - SECOND_MS);
  tunnel.connect();
  await fleet.clock.advance(ALERT_AFTER_MS);
  tunnel.cut();
  await untilAbsent(fleet, tunnel.stored.id);
  fleet.store.tunnels.remove(tunnel.stored.id, ACTOR);
  await fleet.clock.advance(2 * ALERT_AFTER_MS);
  expect(fleet.told).toEqual([]);
});

test("a connector that lost a connection and does not make it again is told of while its tunnel serves", async () => {
  await using fleet = await startFleet(1);
  const [one] = first(fleet).live as [LiveConnection];
  const two = first(fleet).connect(one);
  await lose(fleet, two);
  await fleet.clock.advance(ALERT_AFTER_MS);
  expect(fleet.told).toMatchObject([{ event: "alert.firing", kind: "connector", connector: one.connectorId }]);
  first(fleet).connect(one);
  expect(fleet.told[1]).toMatchObject({ event: "alert.resolved", kind: "connector", connector: one.connectorId });
});

test("a replica that is gone is told of; one that starts anew takes its place although its id is another", async () => {
  await using fleet = await startFleet(1);
  const replica = first(fleet).connect();
  const more = first(fleet).connect(replica);
  await lose(fleet, replica);
  await lose(fleet, more);
  await fleet.clock.advance(ALERT_AFTER_MS);
  expect(fleet.told).toMatchObject([{ event: "alert.firing", connector: replica.connectorId }]);
  const anew = first(fleet).connect();
  first(fleet).connect(anew);
  expect(fleet.told).toHaveLength(2);
  expect(fleet.told[1]).toMatchObject({ event: "alert.resolved", connector: replica.connectorId });
  expect(fleet.alerts.firing("connector")).toBe(0);
});

test("a replica that says farewell is nothing to tell of, and neither is a connection that has a successor", async () => {
  await using fleet = await startFleet(1);
  const replica = first(fleet).connect();
  await leave(fleet, replica);
  const [one] = first(fleet).live as [LiveConnection];
  first(fleet).connect(one);
  await leave(fleet, one);
  await fleet.clock.advance(2 * ALERT_AFTER_MS);
  expect(fleet.told).toEqual([]);
});

test("while the tunnel is away only that is told, and what is still missing afterwards is told then", async () => {
  await using fleet = await startFleet(1);
  first(fleet).connect();
  first(fleet).cut();
  await untilAbsent(fleet, first(fleet).stored.id);
  await fleet.clock.advance(3 * ALERT_AFTER_MS);
  expect(fleet.told.map(({ kind, event }) => `${kind} ${event}`)).toEqual(["tunnel alert.firing"]);
  first(fleet).connect();
  await fleet.clock.advance(2 * ALERT_AFTER_MS);
  expect(fleet.told.map(({ kind, event }) => `${kind} ${event}`)).toEqual([
    ...["tunnel alert.firing", "tunnel alert.resolved", "connector alert.firing"],
  ]);
});

test("a replica that nobody brings back is forgotten after a day", async () => {
  await using fleet = await startFleet(1);
  await lose(fleet, first(fleet).connect());
  await fleet.clock.advance(ALERT_AFTER_MS);
  expect(fleet.alerts.firing("connector")).toBe(1);
  await fleet.clock.advance(FORGET_CONNECTOR_MS);
  expect(fleet.alerts.firing("connector")).toBe(0);
  expect(fleet.told).toHaveLength(1);
});
