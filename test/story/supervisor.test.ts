import { describe, expect, test } from "bun:test";
import { EdgeWorld, HTTP2, QUIC } from "../support/edge-world.ts";

const FOUR = [{ host: "a1" }, { host: "b1" }, { host: "a2" }, { host: "b2" }];
const MANY = Array.from({ length: 20 }, (_, i) => ({ host: `${i % 2 === 0 ? "a" : "b"}${i}` }));
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

async function started(options: ConstructorParameters<typeof EdgeWorld>[0]): Promise<EdgeWorld> {
  const world = new EdgeWorld(options);
  await world.until("all connections are up", () => world.usable.length === (options.haConnections ?? 4), 3_000);
  return world;
}

test("four connections in two regions are up within 3 s, over the preferred transport", async () => {
  const world = await started({ addresses: MANY });
  expect(world.regions()).toEqual(["a", "a", "b", "b"]);
  expect(world.usableOver(QUIC)).toBe(4);
  await world.clock.advance(HOUR);
  expect([world.usable.length, world.dials]).toEqual([4, 4]);
});

describe("an edge that is down for an hour", () => {
  test.each([
    { name: "refuses connections", behaviour: "refuses-tcp" as const, quietMs: 4_000 },
    { name: "does not answer", behaviour: "dark" as const, quietMs: 4_000 },
  ])("and $name is served again within 4 s and a dial of its return, and not asked too often", async (given) => {
    const world = await started({ addresses: FOUR });
    await world.become(() => {
      for (const { host } of FOUR) world.behaviour.set(host, given.behaviour);
    });
    const before = world.dials;
    await world.clock.advance(HOUR);
    expect(world.usable).toEqual([]);
    // Each of four connections asks once in 4 s at most on the average of waits and dials.
    expect(world.dials - before).toBeLessThan((4 * HOUR) / 1_900);
    await world.become(() => world.behaviour.clear());
    await world.until("the tunnel serves", () => world.usable.length > 0, given.quietMs + 3_000);
    await world.until("all connections are back", () => world.usable.length === 4, 10_000);
  });

  test("for ten seconds only, is served again within 2.4 s of its return", async () => {
    const world = await started({ addresses: FOUR });
    await world.become(() => {
      for (const { host } of FOUR) world.behaviour.set(host, "dark");
    });
    await world.clock.advance(10_000);
    await world.become(() => world.behaviour.clear());
    await world.until("the tunnel serves", () => world.usable.length > 0, 2_400);
  });
});

test("one of two regions gone: the other carries all connections within 40 s, and they spread again in 5 minutes", async () => {
  const world = await started({ addresses: MANY });
  await world.become(() => {
    for (const { host } of MANY) if (host.startsWith("b")) world.behaviour.set(host, "dark");
  });
  expect(world.regions()).toEqual(["a", "a"]);
  await world.until("region a carries four", () => world.usable.length === 4, 40_000);
  expect(world.regions()).toEqual(["a", "a", "a", "a"]);
  await world.clock.advance(HOUR);
  expect(world.usable.length).toBe(4);
  await world.become(() => world.behaviour.clear());
  await world.until("both regions carry two", () => world.regions().join("") === "aabb", 5 * MINUTE);
  expect(world.cut).toBe(0);
});

describe("UDP blocked", () => {
  test("from the start: served over HTTP/2 within 4 s, and looked for again ever more rarely", async () => {
    const world = new EdgeWorld({ addresses: FOUR });
    world.udpBlocked = true;
    await world.until("HTTP/2 serves", () => world.usableOver(HTTP2) > 0, 4_000);
    await world.until("four connections", () => world.usableOver(HTTP2) === 4, 10_000);
    const before = world.dials;
    await world.clock.advance(HOUR);
    // 15 s doubling to 8 min: the first ten minutes take six tries.
    expect(world.dials - before).toBeLessThan(16);
    expect(world.usableOver(HTTP2)).toBe(4);
    expect(world.cut).toBe(0);
  });

  test("later: served over HTTP/2 within 10 s; back on QUIC once it works, one connection after the other", async () => {
    const world = await started({ addresses: FOUR });
    await world.become(() => {
      world.udpBlocked = true;
    });
    await world.until("HTTP/2 serves", () => world.usableOver(HTTP2) > 0, 10_000);
    await world.until("four connections", () => world.usableOver(HTTP2) === 4, 20_000);
    await world.clock.advance(MINUTE);
    await world.become(() => {
      world.udpBlocked = false;
    });
    let least = 4;
    await world.until(
      "QUIC carries all",
      () => {
        least = Math.min(least, world.usable.length);
        return world.usableOver(QUIC) === 4 && world.usable.length === 4;
      },
      2 * MINUTE,
    );
    expect([least, world.cut]).toEqual([4, 0]);
  });

  test("and an edge restart meanwhile: HTTP/2 is not given up for QUIC", async () => {
    const world = new EdgeWorld({ addresses: FOUR });
    world.udpBlocked = true;
    await world.until("HTTP/2 serves", () => world.usableOver(HTTP2) === 4, 10_000);
    await world.become(() => {
      for (const { host } of FOUR) world.behaviour.set(host, "refuses-tcp");
    });
    await world.clock.advance(HOUR);
    await world.become(() => world.behaviour.clear());
    await world.until("HTTP/2 serves", () => world.usableOver(HTTP2) > 0, 10_000);
  });

  test("with QUIC alone asked for: comes back with it, within 4 s and a dial", async () => {
    const world = await started({ addresses: FOUR, transports: 1 });
    await world.become(() => {
      world.udpBlocked = true;
    });
    await world.clock.advance(HOUR);
    await world.become(() => {
      world.udpBlocked = false;
    });
    await world.until("QUIC serves", () => world.usableOver(QUIC) > 0, 7_000);
  });
});

describe("DNS dead", () => {
  test("from the start: asked again every 16 s at most, and served within a second of an answer", async () => {
    const world = new EdgeWorld({ addresses: FOUR, dnsDead: true });
    await world.clock.advance(HOUR);
    expect(world.lookups).toBeGreaterThan(HOUR / 17_000);
    world.dnsDead = false;
    await world.until("the tunnel serves", () => world.usable.length > 0, 16_100);
  });

  test("later, with the edge: known addresses are still tried", async () => {
    const world = await started({ addresses: FOUR });
    world.dnsDead = true;
    await world.become(() => {
      for (const { host } of FOUR) world.behaviour.set(host, "dark");
    });
    await world.clock.advance(HOUR);
    await world.become(() => world.behaviour.clear());
    await world.until("the tunnel serves", () => world.usable.length > 0, 7_000);
  });

  test("an edge that moved to other addresses is found there within 75 s", async () => {
    const world = await started({ addresses: FOUR });
    await world.become(() => {
      for (const { host } of FOUR) world.behaviour.set(host, "dark");
      const moved = ["c1", "d1", "c2", "d2"].map(
        (host, i) => ({ id: host, host, port: 1, region: `${i % 2}`, family: 4 }) as const,
      );
      world.addresses.splice(0, 4, ...moved);
    });
    await world.until("the tunnel serves", () => world.usable.length > 0, 75_000);
    await world.until("all connections are up", () => world.usable.length === 4, MINUTE);
  });
});

test("a certificate that is wrong is tried again for ever, and served within 4 s of its repair", async () => {
  const world = new EdgeWorld({ addresses: FOUR });
  for (const { host } of FOUR) world.behaviour.set(host, { kind: "dial-failed" });
  await world.clock.advance(HOUR);
  expect(world.usable).toEqual([]);
  world.behaviour.clear();
  await world.until("the tunnel serves", () => world.usable.length > 0, 4_100);
});

test("one edge that accepts and never speaks costs one connection, and the others are up within 4 s", async () => {
  const world = new EdgeWorld({ addresses: MANY });
  world.behaviour.set("a0", "mute");
  await world.until("the tunnel serves", () => world.usable.length > 0, 13_000);
  await world.until("four connections", () => world.usable.length === 4, 4_000);
});

describe("registration refused", () => {
  const refusal = (why: "other" | "unauthorized", permanent: boolean) => ({ kind: "refused", why, permanent }) as const;

  test("for good, at first: ends and says why", async () => {
    const world = new EdgeWorld({ addresses: FOUR });
    for (const { host } of FOUR) world.behaviour.set(host, refusal("other", true));
    await world.clock.advance(1_000);
    expect(await world.supervisor.finished).toEqual(refusal("other", true));
  });

  test("for now: asked again every 32 s at most, and served then", async () => {
    const world = new EdgeWorld({ addresses: FOUR });
    for (const { host } of FOUR) world.behaviour.set(host, refusal("other", false));
    await world.clock.advance(HOUR);
    world.behaviour.clear();
    await world.until("the tunnel serves", () => world.usable.length > 0, 32_500);
  });

  test("after a success, even for good: comes back with the edge's mind", async () => {
    const world = await started({ addresses: FOUR });
    await world.become(() => {
      for (const { host } of FOUR) world.behaviour.set(host, refusal("unauthorized", true));
    });
    await world.clock.advance(HOUR);
    world.behaviour.clear();
    await world.until("the tunnel serves", () => world.usable.length > 0, 32_500);
  });
});

test("a network that flaps every 7 s for an hour is used whenever it is there, and does not strand the tunnel", async () => {
  const world = await started({ addresses: FOUR });
  for (let i = 0; i < HOUR / 14_000; i++) {
    await world.become(() => {
      for (const { host } of FOUR) world.behaviour.set(host, "dark");
    });
    await world.clock.advance(7_000);
    await world.become(() => world.behaviour.clear());
    await world.clock.advance(7_000);
    expect(world.usable.length).toBeGreaterThan(0);
  }
  await world.until("four connections", () => world.usable.length === 4, 10_000);
});

describe("a laptop that slept", () => {
  test("for a night is served within 9 s of waking, over another network", async () => {
    const world = await started({ addresses: FOUR });
    world.clock.sleepMachine(8 * HOUR);
    // The old connections are gone with the network they ran on; no packet says so.
    const old = new Set(world.usable.map(({ id }) => id));
    await world.become(() => {
      for (const { host } of FOUR) world.behaviour.set(host, "dark");
    });
    await world.clock.advance(1_000);
    await world.become(() => world.behaviour.clear());
    for (const id of old) world.lose(id);
    await world.until("a new connection serves", () => world.usable.some(({ id }) => !old.has(id)), 9_000);
  });

  test("while it waited, asks at once", async () => {
    const world = new EdgeWorld({ addresses: FOUR });
    for (const { host } of FOUR) world.behaviour.set(host, { kind: "refused", why: "other", permanent: false });
    await world.clock.advance(10 * MINUTE);
    world.behaviour.clear();
    world.clock.sleepMachine(HOUR);
    await world.until("the tunnel serves", () => world.usable.length > 0, 5_200);
  });
});

test("an edge that leaves is left for another one before it goes", async () => {
  const world = await started({ addresses: [...FOUR, { host: "a3" }, { host: "b3" }] });
  world.leave("a1");
  await world.until(
    "its connection is elsewhere",
    () => world.usable.every(({ address }) => address.host !== "a1"),
    2_000,
  );
  expect([world.usable.length, world.cut]).toEqual([4, 0]);
});

test("an edge that leaves is not left for itself", async () => {
  const world = await started({
    addresses: [{ host: "e1" }, { host: "e2" }, { host: "e1" }, { host: "e2" }, { host: "e1" }],
  });
  const before = world.dials;
  world.leave("e1");
  await world.clock.advance(MINUTE);
  expect([world.dials - before, world.usable.length]).toEqual([0, 4]);
});

test("a stop ends everything, whatever state it is in", async () => {
  for (const behaviour of ["serves", "dark", "mute", "refuses-tcp"] as const) {
    const world = new EdgeWorld({ addresses: FOUR });
    for (const { host } of FOUR) world.behaviour.set(host, behaviour);
    await world.clock.advance(5_000);
    world.supervisor.stop();
    await world.clock.advance(1_000);
    expect(await world.supervisor.finished).toBeUndefined();
    await world.clock.advance(MINUTE);
    expect(world.clock.pending).toBe(0);
  }
});
