import { describe, expect, test } from "bun:test";
import type { TunnelError } from "../../../../src/core/errors.ts";
import { MAX_SIZED_BODY_BYTES, withSizedBodies } from "../../../../src/origin/http/sized-bodies.ts";
import { ConnectionSlots, MAX_WAITING_REQUESTS } from "../../../../src/origin/http/slots.ts";
import type { OriginRequest } from "../../../../src/origin/port.ts";
import { bytesOf } from "../../wire/h1/recorder.ts";
import { GET, post, Recorder, ScriptedOrigin, start, turn } from "./scripted.ts";

const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const WAIT_MS = 5_000;
const WEBSOCKET: OriginRequest = {
  ...GET,
  kind: "websocket",
  headers: ["Host", "a", "Connection", "Upgrade", "Upgrade", "websocket"],
};

function limited(limit: number) {
  const origin = new ScriptedOrigin();
  const slots = new ConnectionSlots(limit, origin.clock, WAIT_MS);
  return { origin, slots, pool: origin.pool({ slots }) };
}

describe("maxConnections", () => {
  test("requests beyond it wait their turn, in order, and use what becomes idle", async () => {
    const { origin, slots, pool } = limited(2);
    const started = [1, 2, 3, 4].map((n) => start(pool, { ...GET, target: `/${n}` }));
    await turn();
    expect(origin.ends).toHaveLength(2);
    origin.end(1).send(OK);
    await turn();
    expect(origin.end(1).received).toContain("GET /3 ");
    origin.end(1).send(OK);
    await turn();
    expect(origin.end(1).received).toContain("GET /4 ");
    origin.end(0).send(OK);
    origin.end(1).send(OK);
    await turn();
    for (const { events } of started) expect(events.log).toEqual(["200", "end"]);
    expect(origin.ends).toHaveLength(2);
    expect(slots.taken).toBe(2);
    expect(pool.idleCount).toBe(2);
    pool.close();
    expect(slots.taken).toBe(0);
  });

  test("a connection that ends makes room for a new one", async () => {
    const { origin, slots, pool } = limited(1);
    start(pool, GET);
    const second = start(pool, GET);
    await turn();
    origin.end(0).send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
    await turn();
    expect(origin.ends).toHaveLength(2);
    origin.end(1).send(OK);
    await turn();
    expect(second.events.log).toEqual(["200", "end"]);
    expect(slots.taken).toBe(1);
  });

  test("so do a failed dial, an abort, and a reset", async () => {
    const { origin, slots, pool } = limited(1);
    origin.failure = new Error("refused");
    const failing = [start(pool, GET), start(pool, GET)];
    await turn();
    for (const { events } of failing) expect(events.log).toEqual(["origin.dial"]);
    expect(slots.taken).toBe(0);
    origin.failure = undefined;
    const gone = start(pool, GET);
    await turn();
    gone.exchange.abort();
    await turn();
    expect(slots.taken).toBe(0);
    start(pool, GET);
    await turn();
    origin.end(1).reset();
    await turn();
    expect(slots.taken).toBe(0);
  });

  test("a WebSocket keeps its place for as long as it lives", async () => {
    const { origin, slots, pool } = limited(1);
    const { events } = start(pool, WEBSOCKET);
    const waiting = start(pool, GET);
    await turn();
    origin.end(0).send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    await turn();
    expect(events.log).toEqual(["upgrade"]);
    expect(slots.taken).toBe(1);
    expect(origin.ends).toHaveLength(1);
    origin.end(0).reset();
    await turn();
    await turn();
    expect(origin.ends).toHaveLength(2);
    origin.end(1).send(OK);
    await turn();
    expect(waiting.events.log).toEqual(["200", "end"]);
  });

  test("who waits too long is told, and who gives up makes room in the queue", async () => {
    const { origin, slots, pool } = limited(1);
    start(pool, GET);
    const slow = start(pool, GET);
    start(pool, GET).exchange.abort();
    await turn();
    origin.clock.advance(WAIT_MS);
    expect(slow.events.log).toEqual(["origin.busy"]);
    origin.end(0).send(OK);
    await turn();
    expect(pool.idleCount).toBe(1);
    expect(slots.taken).toBe(1);
  });

  test("the queue has an end", async () => {
    const { origin, pool } = limited(1);
    const started = Array.from({ length: MAX_WAITING_REQUESTS + 2 }, () => start(pool, GET));
    await turn();
    expect(started.at(-1)?.events.log).toEqual(["origin.busy"]);
    expect(started.at(-2)?.events.log).toEqual([]);
    for (const { exchange } of started) exchange.abort();
    expect(origin.ends).toHaveLength(1);
  });

  test("is shared by the pools of a service: an idle connection of one gives way to another", async () => {
    const origin = new ScriptedOrigin();
    const slots = new ConnectionSlots(1, origin.clock, WAIT_MS);
    const [a, b] = [origin.pool({ slots }), origin.pool({ slots })];
    start(a, GET);
    await turn();
    origin.end(0).send(OK);
    await turn();
    expect(a.idleCount).toBe(1);
    start(b, GET);
    const third = start(a, GET);
    await turn();
    expect(a.idleCount).toBe(0);
    expect(origin.ends).toHaveLength(2);
    origin.end(1).send(OK);
    await turn();
    expect(b.idleCount).toBe(0);
    origin.end(2).send(OK);
    await turn();
    expect(third.events.log).toEqual(["200", "end"]);
    expect(slots.taken).toBe(1);
  });
});

describe("responseHeaderTimeout", () => {
  test("begins when the request is through, and ends with the head of the answer", async () => {
    const origin = new ScriptedOrigin();
    const pool = origin.pool({ answerTimeoutMs: 1_000 });
    const slow = start(pool, GET);
    const uploading = start(pool, post("chunked"));
    const answered = start(pool, GET);
    await turn();
    origin.end(2).send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
    await turn();
    origin.clock.advance(999);
    expect(slow.events.log).toEqual([]);
    origin.end(0).send("HTTP/1.1 103 Early Hints\r\n\r\n");
    await turn();
    origin.clock.advance(1);
    expect(slow.events.log).toEqual(["103", "origin.slow"]);
    expect(uploading.events.log).toEqual([]);
    uploading.exchange.end([]);
    origin.clock.advance(1_000);
    expect(uploading.events.log).toEqual(["origin.slow"]);
    origin.end(2).send("ok");
    await turn();
    expect(answered.events.log).toEqual(["200", "end"]);
    await turn();
    expect(origin.end(0).closed).toBeDefined();
    expect(pool.idleCount).toBe(1);
  });
});

describe("disableChunkedEncoding", () => {
  function gathering() {
    const origin = new ScriptedOrigin();
    const pool = origin.pool();
    const exchange = withSizedBodies((request, events) => pool.exchange(request, events));
    const begin = (request: OriginRequest) => {
      const events = new Recorder();
      return { events, exchange: exchange(request, events) };
    };
    return { origin, begin };
  }

  test("a body of unknown length is sent with its length", async () => {
    const { origin, begin } = gathering();
    const { events, exchange } = begin(post("chunked"));
    exchange.write(bytesOf("hello "));
    await turn();
    expect(origin.ends).toHaveLength(0);
    exchange.write(bytesOf("world"));
    exchange.end(["X-Trailer", "dropped"]);
    await turn();
    expect(origin.end(0).received).toBe("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello world");
    origin.end(0).send(OK);
    await turn();
    expect(events.log).toEqual(["200", "end"]);
  });

  test("an empty one too, and one whose length is known goes at once", async () => {
    const { origin, begin } = gathering();
    begin(post("chunked")).exchange.end([]);
    begin(post(5));
    await turn();
    expect(origin.end(0).received).toBe("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    expect(origin.end(1).received).toBe("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n");
  });

  test("one that is too long is refused, and what was gathered is let go", async () => {
    const { origin, begin } = gathering();
    const chunk = new Uint8Array(MAX_SIZED_BODY_BYTES);
    // As many as would fill the budget twice over, if it were not given back.
    for (let i = 0; i < 40; i += 1) {
      const { events, exchange } = begin(post("chunked"));
      exchange.write(chunk);
      await turn();
      expect(events.log).toEqual([]);
      exchange.write(bytesOf("x"));
      await turn();
      expect((events.error as TunnelError).code).toBe("request.too-large");
      exchange.end([]);
    }
    expect(origin.ends).toHaveLength(0);
  });

  test("a visitor who leaves costs nothing", async () => {
    const { origin, begin } = gathering();
    for (let i = 0; i < 40; i += 1) {
      const { exchange } = begin(post("chunked"));
      exchange.write(new Uint8Array(MAX_SIZED_BODY_BYTES));
      exchange.abort();
      exchange.end([]);
    }
    const { events, exchange } = begin(post("chunked"));
    exchange.write(bytesOf("ok"));
    exchange.end([]);
    await turn();
    expect(events.log).toEqual([]);
    expect(origin.ends).toHaveLength(1);
  });
});
