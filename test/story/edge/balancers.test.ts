import { describe, expect, test } from "bun:test";
import type { TunnelId } from "../../../src/core/ids.ts";
import { EXPECT_MS, WAKE_AFTER_MS } from "../../../src/edge/dispatcher/absences.ts";
import { EJECT_AFTER, EJECT_MS } from "../../../src/edge/dispatcher/balancers/health.ts";
import { MAX_ANSWER_BYTES, MAX_RUNNING_CHECKS } from "../../../src/edge/dispatcher/balancers/monitor.ts";
import { pollUntil } from "../../support/poll-until.ts";
import { ACTOR } from "../../support/stored.ts";
import {
  BALANCED,
  type Behind,
  DOMAIN,
  type Fleet,
  type FleetTunnel,
  numbered,
  startFleet,
  untilAbsent,
} from "./fleet.ts";
import { answer } from "./small-edge.ts";

const refusing: Behind = (stream) => {
  stream.respond({ status: 502, headers: [], source: "cloudflared" });
  stream.end();
};
const failing: Behind = (stream) => answer(stream, { status: 500, headers: ["Content-Length", "0"] });

function tunnel(fleet: Fleet, number: number): FleetTunnel {
  return fleet.tunnels[number] as FleetTunnel;
}

function idOf(fleet: Fleet, number: number): TunnelId {
  return tunnel(fleet, number).stored.id;
}

/** Which tunnels answered so many requests. */
async function bodies(fleet: Fleet, count: number): Promise<string> {
  let all = "";
  for (let i = 0; i < count; i += 1) all += (await fleet.ask(`/${i}`)).body;
  return all;
}

/** A request that is still there when the test ends. */
function leave(fleet: Fleet, path: string): void {
  fleet.ask(path).catch(() => {});
}

/** Lets checks happen for so long. */
async function pass(fleet: Fleet, ms: number): Promise<void> {
  for (let left = ms; left > 0; left -= 1_000) await fleet.clock.advance(Math.min(1_000, left));
}

describe("which tunnel", () => {
  test("a change of the store counts for the next request", async () => {
    await using fleet = await startFleet(3);
    expect((await fleet.ask()).status).toBe(404);
    const pool = fleet.pool("p", [0, 1]);
    fleet.balance("round_robin", [pool]);
    expect(await bodies(fleet, 4)).toBe("0101");
    fleet.pool("p", [2]);
    expect(await bodies(fleet, 2)).toBe("22");
    fleet.balance("failover", [fleet.pool("q", [1, 2]), pool]);
    expect(await bodies(fleet, 2)).toBe("11");
    fleet.store.balancers.remove(fleet.store.balancers.byHostname(BALANCED)?.id ?? "", ACTOR);
    expect((await fleet.ask()).status).toBe(404);
  });

  test("weights count, and a disabled member gets nothing", async () => {
    await using fleet = await startFleet(3);
    fleet.balance("round_robin", [fleet.pool("p", [0, 1, 2], { weights: [3, 1, 9], disabled: [2] })]);
    const got = await bodies(fleet, 8);
    expect([...got].sort().join("")).toBe("00000011");
  });

  test("the first pool with a healthy member wins, and without any the connected ones get it", async () => {
    await using fleet = await startFleet(3);
    fleet.balance("failover", [fleet.pool("main", [0, 1]), fleet.pool("backup", [2])]);
    expect(await bodies(fleet, 1)).toBe("0");
    tunnel(fleet, 0).cut();
    await untilAbsent(fleet, idOf(fleet, 0));
    expect(await bodies(fleet, 1)).toBe("1");
    tunnel(fleet, 1).cut();
    await untilAbsent(fleet, idOf(fleet, 1));
    expect(await bodies(fleet, 1)).toBe("2");
    tunnel(fleet, 0).connect();
    expect(await bodies(fleet, 1)).toBe("0");
  });

  test("the one with the fewest running requests, for its weight", async () => {
    await using fleet = await startFleet(2);
    fleet.balance("least_outstanding", [fleet.pool("p", [0, 1], { weights: [1, 2] })]);
    for (const one of fleet.tunnels) one.behind = () => {};
    for (let i = 0; i < 6; i += 1) {
      leave(fleet, `/${i}`);
      await pollUntil(() => fleet.tunnels.reduce((sum, { asked }) => sum + asked.length, 0) === i + 1, {
        what: "it runs",
      });
    }
    expect(fleet.tunnels.map(({ asked }) => asked.length)).toEqual([2, 4]);
  });

  test("a visitor's address decides, as a trusted proxy tells it", async () => {
    await using fleet = await startFleet(4);
    fleet.balance("hash_ip", [fleet.pool("p", [0, 1, 2, 3])]);
    expect(new Set(await bodies(fleet, 6)).size).toBe(1);
    const from = async (ip: string): Promise<string> =>
      (await fleet.ask("/", { fields: `X-Forwarded-For: ${ip}\r\n` })).body;
    const seen: string[] = [];
    for (let i = 0; i < 20; i += 1) seen.push(await from(`198.51.100.${i}`));
    expect(new Set(seen).size).toBe(4);
    for (let i = 0; i < 20; i += 1) expect(await from(`198.51.100.${i}`)).toBe(seen[i] as string);
  });
});

describe("cookies", () => {
  const cookieOf = ({ headers }: { headers: Record<string, string> }): string =>
    /^__culvert_lb=([\w-]{22}); Path=\/; HttpOnly; SameSite=Lax$/.exec(headers["set-cookie"] ?? "")?.[1] ?? "";

  test("a visitor stays with its tunnel while that is healthy, then gets another one", async () => {
    await using fleet = await startFleet(3);
    fleet.balance("hash_cookie", [fleet.pool("p", [0, 1, 2])]);
    const first = await fleet.ask();
    const cookie = cookieOf(first);
    expect(cookie).not.toBe("");
    expect(cookie).not.toContain(idOf(fleet, Number(first.body)).slice(0, 8));
    const fields = `Cookie: a=b; __culvert_lb=${cookie}; c=d\r\n`;
    for (let i = 0; i < 5; i += 1) {
      const again = await fleet.ask("/", { fields });
      expect(again.body).toBe(first.body);
      expect(again.headers["set-cookie"]).toBeUndefined();
    }
    tunnel(fleet, Number(first.body)).cut();
    await untilAbsent(fleet, idOf(fleet, Number(first.body)));
    const moved = await fleet.ask("/", { fields });
    expect(moved.body).not.toBe(first.body);
    expect(cookieOf(moved)).not.toBe(cookie);
    expect(cookieOf(moved)).not.toBe("");
  });

  test("new visitors are spread, and made-up cookies lead nowhere in particular", async () => {
    await using fleet = await startFleet(2);
    fleet.balance("hash_cookie", [fleet.pool("p", [0, 1])]);
    expect(await bodies(fleet, 4)).toBe("0101");
    const fields = `Cookie: __culvert_lb=${idOf(fleet, 0)}\r\n`;
    const answers = [await fleet.ask("/", { fields }), await fleet.ask("/", { fields })];
    expect(answers.map(({ body }) => body)).toEqual(["0", "1"]);
    expect(answers.every((each) => cookieOf(each) !== "")).toBe(true);
  });

  test("over HTTPS the cookie stays with HTTPS", async () => {
    await using fleet = await startFleet(2);
    fleet.balance("hash_cookie", [fleet.pool("p", [0, 1])]);
    const { headers } = await fleet.ask("/", { fields: "X-Forwarded-Proto: https\r\n" });
    expect(headers["set-cookie"]).toEndWith("; HttpOnly; SameSite=Lax; Secure");
  });

  test("a cookie outlives the pool's order: its tunnel stays although a better pool is back", async () => {
    await using fleet = await startFleet(2);
    fleet.balance("hash_cookie", [fleet.pool("main", [0]), fleet.pool("backup", [1])]);
    tunnel(fleet, 0).cut();
    await untilAbsent(fleet, idOf(fleet, 0));
    const fields = `Cookie: __culvert_lb=${cookieOf(await fleet.ask())}\r\n`;
    tunnel(fleet, 0).connect();
    expect((await fleet.ask("/", { fields })).body).toBe("1");
    expect((await fleet.ask()).body).toBe("0");
  });
});

describe("a request that fails on one tunnel", () => {
  test.each([
    { method: "GET", body: "", repeated: true },
    { method: "PUT", body: "small", repeated: true },
    { method: "POST", body: "small", repeated: false },
  ])("$method whose tunnel is lost goes to another one: $repeated", async ({ method, body, repeated }) => {
    await using fleet = await startFleet(2);
    fleet.balance("failover", [fleet.pool("p", [0, 1])]);
    tunnel(fleet, 0).behind = () => tunnel(fleet, 0).cut();
    const got = await fleet.ask("/", { method, body });
    expect(got.status).toBe(repeated ? 200 : 502);
    expect(tunnel(fleet, 1).asked).toHaveLength(repeated ? 1 : 0);
    if (repeated) expect(fleet.access.at(-1)).toMatchObject({ tunnelId: idOf(fleet, 1), retries: 1 });
  });

  test.each([
    { method: "GET", body: "", repeated: true },
    { method: "DELETE", body: "small", repeated: true },
    { method: "POST", body: "small", repeated: false },
  ])(
    "$method that the connector answers with 502 goes to another one: $repeated",
    async ({ method, body, repeated }) => {
      await using fleet = await startFleet(2);
      fleet.balance("failover", [fleet.pool("p", [0, 1])]);
      tunnel(fleet, 0).behind = refusing;
      const seen: string[] = [];
      tunnel(fleet, 1).behind = (stream, got) => {
        seen.push(got);
        numbered(1)(stream, got);
      };
      expect((await fleet.ask("/", { method, body })).status).toBe(repeated ? 200 : 502);
      expect(seen).toEqual(repeated ? [body] : []);
      expect(fleet.tunnels.map(({ live }) => live.map(({ session }) => session.streamCount))).toEqual([[0], [0]]);
    },
  );

  test("the last tunnel's 502 is the answer, and the visitor gets one page", async () => {
    await using fleet = await startFleet(3);
    fleet.balance("failover", [fleet.pool("p", [0, 1, 2])]);
    for (const one of fleet.tunnels) one.behind = refusing;
    expect((await fleet.ask()).status).toBe(502);
    expect(fleet.tunnels.map(({ asked }) => asked.length)).toEqual([1, 1, 1]);
  });

  test("a tunnel that refuses streams is passed over", async () => {
    await using fleet = await startFleet(2);
    fleet.balance("failover", [fleet.pool("p", [0, 1])]);
    const [live] = tunnel(fleet, 0).live;
    // Something runs on it, so that it is not over at once.
    tunnel(fleet, 0).behind = () => {};
    leave(fleet, "/held");
    await pollUntil(() => tunnel(fleet, 0).asked.length === 1, { what: "a running request" });
    live?.session.drain();
    expect(await fleet.ask("/", { method: "POST", body: "x" })).toMatchObject({ status: 200, body: "1" });
  });

  test("with all tunnels away a request waits for whichever comes first", async () => {
    await using fleet = await startFleet(3);
    fleet.balance("round_robin", [fleet.pool("p", [0, 1, 2])]);
    for (const one of fleet.tunnels) one.cut();
    for (let number = 0; number < 3; number += 1) await untilAbsent(fleet, idOf(fleet, number));
    const got = fleet.ask("/", { method: "POST", body: "x" });
    await fleet.clock.advance(1_000);
    tunnel(fleet, 2).connect();
    await fleet.clock.advance(WAKE_AFTER_MS);
    expect(await got).toMatchObject({ status: 200, body: "2" });
    tunnel(fleet, 2).cut();
    await untilAbsent(fleet, idOf(fleet, 2));
    const late = fleet.ask();
    await pollUntil(() => fleet.clock.pending > 3, { what: "it waits" });
    await fleet.clock.advance(EXPECT_MS);
    expect((await late).status).toBe(530);
  });
});

describe("passive checks", () => {
  test("failures in a row leave a tunnel out for a growing time, and its webhook is told", async () => {
    await using fleet = await startFleet(2);
    fleet.balance("failover", [fleet.pool("p", [0, 1])]);
    tunnel(fleet, 0).behind = refusing;
    expect(await bodies(fleet, EJECT_AFTER + 3)).toBe("1".repeat(EJECT_AFTER + 3));
    expect(tunnel(fleet, 0).asked).toHaveLength(EJECT_AFTER);
    expect(fleet.told).toMatchObject([
      { event: "pool.member.unhealthy", reason: "ejected", tunnel: { name: "t0" }, members: 2, healthy: 1 },
    ]);
    await pass(fleet, EJECT_MS + 1_000);
    expect(fleet.told.at(-1)).toMatchObject({
      event: "pool.member.healthy",
      tunnel: { id: idOf(fleet, 0) },
      healthy: 2,
    });
    // Another failure, and it is out for twice as long.
    await bodies(fleet, 3);
    expect(tunnel(fleet, 0).asked).toHaveLength(EJECT_AFTER + 1);
    await pass(fleet, EJECT_MS + 1_000);
    await bodies(fleet, 1);
    expect(tunnel(fleet, 0).asked).toHaveLength(EJECT_AFTER + 1);
    tunnel(fleet, 0).behind = numbered(0);
    await pass(fleet, EJECT_MS);
    expect(await bodies(fleet, 2)).toBe("00");
  });

  test("the only tunnel of a pool is never left out", async () => {
    await using fleet = await startFleet(1);
    fleet.balance("random", [fleet.pool("p", [0])]);
    tunnel(fleet, 0).behind = refusing;
    for (let i = 0; i < EJECT_AFTER * 2; i += 1) expect((await fleet.ask()).status).toBe(502);
    tunnel(fleet, 0).behind = numbered(0);
    expect((await fleet.ask()).status).toBe(200);
    expect(fleet.told).toEqual([]);
  });
});

describe("active checks", () => {
  test("a tunnel whose checks fail gets nothing until they pass again", async () => {
    await using fleet = await startFleet(2);
    fleet.balance("failover", [fleet.pool("p", [0, 1], { monitor: {} })]);
    const hosts: string[] = [];
    tunnel(fleet, 0).behind = (stream, body) => {
      hosts.push(stream.request.authority);
      numbered(0)(stream, body);
    };
    await pass(fleet, 1_000);
    expect(fleet.tunnels.map(({ checks }) => checks)).toEqual([1, 1]);
    expect(hosts).toEqual([BALANCED]);
    tunnel(fleet, 0).behind = failing;
    await pass(fleet, 25_000);
    expect(fleet.told).toMatchObject([{ event: "pool.member.unhealthy", reason: "check", detail: "status 500" }]);
    expect(fleet.lines.join("\n")).toContain("A tunnel of a pool is not well and gets no requests");
    expect(await bodies(fleet, 2)).toBe("11");
    tunnel(fleet, 0).behind = numbered(0);
    await pass(fleet, 25_000);
    expect(fleet.told).toHaveLength(2);
    expect(fleet.told[1]).toMatchObject({ event: "pool.member.healthy", members: 2, healthy: 2, reason: null });
    expect(await bodies(fleet, 2)).toBe("00");
  });

  test("silence, an endless answer, a connector's own answer: what passes and what does not", async () => {
    await using fleet = await startFleet(4);
    fleet.balance("random", [
      fleet.pool("p", [0, 1, 2, 3], { monitor: { host: "check.example.com", expect: [200, 599] } }),
    ]);
    tunnel(fleet, 0).behind = () => {};
    let stopped: unknown;
    tunnel(fleet, 1).behind = (stream) => {
      stream.respond({ status: 200, headers: [], source: "origin" });
      stream.write(new Uint8Array(MAX_ANSWER_BYTES + 1));
      stream.listen({ onData: () => {}, onEnd: () => {}, onDrain: () => {}, onClose: (error) => (stopped = error) });
    };
    tunnel(fleet, 2).behind = refusing;
    await pass(fleet, 30_000);
    const states = fleet.balancers.states().map(({ trouble }) => trouble);
    expect(states).toEqual([
      { kind: "check", detail: "no answer within 2000 ms" },
      undefined,
      { kind: "check", detail: "status 502 of the connector" },
      undefined,
    ]);
    expect(stopped).toBeDefined();
    await pass(fleet, 3_000);
    expect(fleet.tunnels.map(({ live }) => live[0]?.session.streamCount)).toEqual([0, 0, 0, 0]);
  });

  test("a tunnel without a connection is not checked, and is told of once it has been away for long enough", async () => {
    await using fleet = await startFleet(2);
    fleet.balance("random", [fleet.pool("p", [0, 1], { monitor: {} })]);
    await pass(fleet, 1_000);
    tunnel(fleet, 0).cut();
    await untilAbsent(fleet, idOf(fleet, 0));
    await pass(fleet, EXPECT_MS - 1_000);
    expect(fleet.told).toEqual([]);
    await pass(fleet, 60_000);
    expect(fleet.told).toMatchObject([{ event: "pool.member.unhealthy", reason: "disconnected" }]);
    expect(tunnel(fleet, 0).checks).toBe(1);
    tunnel(fleet, 0).connect();
    await pass(fleet, 1_000);
    expect(fleet.told).toHaveLength(2);
    await pass(fleet, 12_000);
    expect(tunnel(fleet, 0).checks).toBe(2);
  });

  test("intervals differ, few run at once, and a pool that is not used is left alone", async () => {
    const count = MAX_RUNNING_CHECKS + 8;
    await using fleet = await startFleet(count);
    const numbers = fleet.tunnels.map((_, i) => i);
    for (const one of fleet.tunnels) one.behind = () => {};
    const pool = fleet.pool("p", numbers, { monitor: { timeoutMs: 5_000 } });
    await pass(fleet, 2_000);
    expect(fleet.tunnels.every(({ checks }) => checks === 0)).toBe(true);
    fleet.balance("random", [pool]);
    await pass(fleet, 2_000);
    const checked = () => fleet.tunnels.reduce((sum, { checks }) => sum + checks, 0);
    expect(checked()).toBe(MAX_RUNNING_CHECKS);
    await pass(fleet, 4_000);
    expect(checked()).toBe(count);
    fleet.store.balancers.remove(fleet.store.balancers.byHostname(BALANCED)?.id ?? "", ACTOR);
    await pass(fleet, 60_000);
    expect(checked()).toBe(count);
    expect(fleet.tunnels.every(({ live }) => live[0]?.session.streamCount === 0)).toBe(true);
  });
});

describe("direct names", () => {
  test("a tunnel's id in front of the edge's domain reaches it", async () => {
    await using fleet = await startFleet(2);
    const host = (number: number): string => `${idOf(fleet, number).toUpperCase()}.${DOMAIN}`;
    expect(await fleet.ask("/", { host: host(1) })).toMatchObject({ status: 200, body: "1" });
    tunnel(fleet, 1).cut();
    await untilAbsent(fleet, idOf(fleet, 1));
    await fleet.clock.advance(EXPECT_MS);
    expect((await fleet.ask("/", { host: host(1) })).status).toBe(530);
    fleet.store.tunnels.remove(idOf(fleet, 1), ACTOR);
    expect((await fleet.ask("/", { host: host(1) })).status).toBe(404);
    expect((await fleet.ask("/", { host: `${crypto.randomUUID()}.${DOMAIN}` })).status).toBe(404);
    expect((await fleet.ask("/", { host: `x${host(0)}` })).status).toBe(404);
    expect((await fleet.ask("/", { host: `${idOf(fleet, 0)}.other.example.com` })).status).toBe(404);
  });
});
