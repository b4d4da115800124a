import { expect, test } from "bun:test";
import { createHmac } from "node:crypto";
import { silentLogger } from "../../../../src/core/log.ts";
import {
  CALL_TIMEOUT_MS,
  MAX_WAITING,
  SIGNATURE_HEADER,
  TRIES,
  Webhooks,
} from "../../../../src/edge/dispatcher/balancers/webhook.ts";
import { pollUntil } from "../../../support/poll-until.ts";
import { VirtualClock } from "../../../support/virtual-clock.ts";

const SECRET = "a secret";

interface Received {
  readonly headers: Headers;
  readonly body: string;
}

/** A real receiver; `answer` decides on each call, counted from 0. */
function receiver(answer: (call: number, request: Request) => Response | Promise<Response>) {
  const received: Received[] = [];
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    async fetch(request) {
      const call = received.length;
      received.push({ headers: request.headers, body: await request.text() });
      return await answer(call, request);
    },
  });
  return {
    received,
    url: `http://127.0.0.1:${server.port}/hook?key=1`,
    [Symbol.asyncDispose]: async () => {
      await server.stop(true);
    },
  };
}

function webhooks(clock: VirtualClock): Webhooks {
  return new Webhooks({ secret: SECRET, clock, random: () => 0, log: silentLogger });
}

test("a message is JSON with its time, signed so that its receiver can tell whose it is", async () => {
  await using hook = receiver(() => new Response("ignored"));
  const clock = new VirtualClock();
  const sender = webhooks(clock);
  sender.post(hook.url, { event: "pool.member.healthy", pool: { name: "p" } });
  await pollUntil(() => sender.counters.delivered === 1, { what: "the delivery" });
  const [{ headers, body } = { headers: new Headers(), body: "" }] = hook.received;
  expect(JSON.parse(body)).toEqual({
    id: expect.any(String),
    time: "2026-01-01T00:00:00.000Z",
    event: "pool.member.healthy",
    pool: { name: "p" },
  });
  const [, seconds, mac] = /^t=(\d+),v1=([0-9a-f]{64})$/.exec(headers.get(SIGNATURE_HEADER) ?? "") ?? [];
  expect(Number(seconds) * 1_000).toBe(clock.wallMs());
  expect(mac).toBe(createHmac("sha256", SECRET).update(`${seconds}.${body}`).digest("hex"));
  expect(headers.get("content-type")).toBe("application/json");
});

test("what fails is offered again with growing waits, in order, and given up at last", async () => {
  await using hook = receiver((call) => new Response(null, { status: call < TRIES ? 503 : 204 }));
  const clock = new VirtualClock();
  const sender = webhooks(clock);
  sender.post(hook.url, { event: "first" });
  sender.post(hook.url, { event: "second" });
  let waitMs = 1_000;
  for (let call = 1; call < TRIES; call += 1) {
    await pollUntil(() => hook.received.length === call, { what: `call ${call}` });
    // The answer must be back before the wait begins; until then only the limit on the call runs.
    await pollUntil(() => clock.awaited === 1, { what: "the wait" });
    await clock.advance(waitMs - 1);
    expect(hook.received).toHaveLength(call);
    await clock.advance(1);
    waitMs *= 2;
  }
  await pollUntil(() => sender.counters.delivered === 1, { what: "the second message" });
  expect(hook.received.map(({ body }) => (JSON.parse(body) as { event: string }).event)).toEqual([
    ...Array<string>(TRIES).fill("first"),
    "second",
  ]);
  expect(sender.counters).toEqual({ delivered: 1, failed: 1, dropped: 0 });
});

test.each([
  { status: 302, headers: { Location: "http://127.0.0.1:1/" } },
  { status: 400, headers: {} },
])("status $status is final: no redirect is followed, nothing repeated", async ({ status, headers }) => {
  await using hook = receiver(() => new Response(null, { status, headers: new Headers(Object.entries(headers)) }));
  const sender = webhooks(new VirtualClock());
  sender.post(hook.url, { event: "x" });
  await pollUntil(() => sender.counters.failed === 1, { what: "the failure" });
  expect(hook.received).toHaveLength(1);
});

test("a receiver that does not answer is left after a while, and holds up nobody else", async () => {
  await using slow = receiver((call) => (call === 0 ? new Promise<Response>(() => {}) : new Response()));
  await using quick = receiver(() => new Response());
  const clock = new VirtualClock();
  const sender = webhooks(clock);
  sender.post(slow.url, { event: "x" });
  await pollUntil(() => slow.received.length === 1, { what: "the slow call" });
  sender.post(quick.url, { event: "y" });
  await pollUntil(() => sender.counters.delivered === 1, { what: "the quick one" });
  await clock.advance(CALL_TIMEOUT_MS);
  await pollUntil(() => clock.awaited === 1, { what: "the wait" });
  await clock.advance(1_000);
  await pollUntil(() => sender.counters.delivered === 2, { what: "the slow one" });
});

test("the queue is bounded, and a stop gives up what waits", async () => {
  await using slow = receiver(() => new Promise<Response>(() => {}));
  const clock = new VirtualClock();
  const sender = webhooks(clock);
  for (let i = 0; i < MAX_WAITING + 5; i += 1) sender.post(slow.url, { event: "x" });
  // One of them is under way.
  expect(sender.counters.dropped).toBe(4);
  await pollUntil(() => slow.received.length === 1, { what: "the first call" });
  sender.stop();
  await pollUntil(() => clock.pending === 0, { what: "its timers are gone" });
  expect(slow.received).toHaveLength(1);
});
