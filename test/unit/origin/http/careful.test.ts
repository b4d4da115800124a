import { describe, expect, test } from "bun:test";
import { HASTE_REMEMBERED_MS, type OriginPool, RECENT_MS } from "../../../../src/origin/http/pool.ts";
import { bytesOf } from "../../wire/h1/recorder.ts";
import { GET, type OriginEnd, post, ScriptedOrigin, start, turn } from "./scripted.ts";

const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const HEAD = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n";

/** A pool with one kept connection. */
async function warm(): Promise<{ origin: ScriptedOrigin; pool: OriginPool; old: OriginEnd }> {
  const origin = new ScriptedOrigin();
  const pool = origin.pool();
  const { events } = start(pool, GET);
  await turn();
  const old = origin.end(0);
  old.send(OK);
  await turn();
  expect(events.log).toEqual(["200", "end"]);
  old.received = "";
  old.writes = 0;
  return { origin, pool, old };
}

async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 100 && !condition(); i += 1) await turn();
  if (!condition()) throw new Error("did not happen");
}

describe("a request that may not be repeated, on a kept connection", () => {
  test("sends its head, then its body, and the connection is kept", async () => {
    const { origin, pool, old } = await warm();
    const { exchange, events } = start(pool, post(5));
    expect(exchange.write(bytesOf("hello"))).toBe(true);
    exchange.end([]);
    await until(() => old.received !== "");
    expect(old.received).toBe(HEAD);
    await until(() => old.received === `${HEAD}hello`);
    old.send(OK);
    await turn();
    expect(events.log).toEqual(["200", "end"]);
    expect(origin.ends).toHaveLength(1);
    expect(pool.idleCount).toBe(1);
  });

  test.each(["end", "reset"] as const)(
    "that the origin closes before anything left (%s): a fresh one carries it",
    async (how) => {
      const { origin, pool, old } = await warm();
      const { events } = start(pool, post("none"));
      old[how]();
      await until(() => origin.ends.length === 2 && origin.end(1).received !== "");
      expect(old.received).toBe("");
      origin.end(1).send(OK);
      await turn();
      expect(events.log).toEqual(["200", "end"]);
    },
  );

  test.each([post(5), GET])(
    "gets a timeout that was meant for nobody ($method): a fresh one carries it",
    async (request) => {
      const { origin, pool, old } = await warm();
      const { exchange, events } = start(pool, request);
      if (request.body === 5) exchange.write(bytesOf("hello"));
      old.send("HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
      old.end();
      await until(() => origin.ends.length === 2 && origin.end(1).received !== "");
      origin.end(1).send("HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
      await turn();
      expect(events.log).toEqual(["408 bodyless", "end"]);
    },
  );

  test.each(["end", "reset"] as const)(
    "that the origin closes between head and body (%s): a fresh one carries all of it",
    async (how) => {
      const { origin, pool, old } = await warm();
      const { exchange, events } = start(pool, post("chunked"));
      exchange.write(bytesOf("hel"));
      await until(() => old.received !== "");
      old[how]();
      exchange.write(bytesOf("lo"));
      await until(() => origin.ends.length === 2);
      exchange.end([]);
      await until(() => origin.end(1).received.endsWith("3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"));
      expect(old.received).toEndWith("\r\n\r\n");
      origin.end(1).send(OK);
      await turn();
      expect(events.log).toEqual(["200", "end"]);
      expect(pool.idleCount).toBe(1);
    },
  );

  test("is not sent again once its body was on the way", async () => {
    const { origin, pool, old } = await warm();
    const { exchange, events } = start(pool, post(5));
    exchange.write(bytesOf("h"));
    await until(() => old.received === `${HEAD}h`);
    old.end();
    await turn();
    expect(events.log).toEqual(["origin.reset"]);
    expect(origin.ends).toHaveLength(1);
  });

  test("without a body it is not sent again once its head was on the way", async () => {
    const { origin, pool, old } = await warm();
    const { events } = start(pool, post("none"));
    await until(() => old.received !== "");
    old.reset();
    await turn();
    expect(events.log).toEqual(["origin.reset"]);
    expect(origin.ends).toHaveLength(1);
  });

  test("is sent again when the client says that this does no harm", async () => {
    const { origin, pool, old } = await warm();
    const { exchange, events } = start(pool, { ...post(5), headers: ["Host", "a", "Idempotency-Key", "7"] });
    exchange.write(bytesOf("hello"));
    await until(() => old.received.endsWith("hello"));
    old.end();
    await until(() => origin.ends.length === 2 && origin.end(1).received === old.received);
    origin.end(1).send(OK);
    await turn();
    expect(events.log).toEqual(["200", "end"]);
  });

  test("an answer to the head alone: the body follows, and nothing is sent again", async () => {
    const { origin, pool, old } = await warm();
    const { exchange, events } = start(pool, post(5));
    exchange.write(bytesOf("hello"));
    await until(() => old.received !== "");
    old.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n");
    await until(() => old.received === `${HEAD}hello`);
    old.send("done");
    await turn();
    expect(events.log).toEqual(["200", "end"]);
    expect(origin.ends).toHaveLength(1);
    expect(pool.idleCount).toBe(1);
  });

  test("a refusal with close to the head alone: the body stays here", async () => {
    const { pool, old } = await warm();
    const { exchange, events } = start(pool, post(5));
    exchange.write(bytesOf("hel"));
    await until(() => old.received !== "");
    old.send("HTTP/1.1 413 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    await turn();
    expect(exchange.write(bytesOf("lo"))).toBe(true);
    await turn();
    expect(events.log).toEqual(["413 bodyless", "end"]);
    expect(old.received).toBe(HEAD);
    expect(pool.idleCount).toBe(0);
  });

  test("given up before anything left: the connection is dropped", async () => {
    const { pool, old } = await warm();
    const { exchange, events } = start(pool, post(5));
    exchange.abort();
    for (let i = 0; i < 5; i += 1) await turn();
    expect(old.received).toBe("");
    expect(events.log).toEqual([]);
    expect(pool.idleCount).toBe(0);
  });

  test("takes no connection that was idle for long: others may", async () => {
    const { origin, pool, old } = await warm();
    origin.clock.advance(RECENT_MS + 1);
    start(pool, post("none"));
    await turn();
    expect(origin.ends).toHaveLength(2);
    expect(old.received).toBe("");
    start(pool, GET);
    await turn();
    expect(old.received).toStartWith("GET");
  });

  test("nor one that is about as old as one that the origin closed, for a while", async () => {
    const { origin, pool, old } = await warm();
    origin.clock.advance(100);
    old.end();
    await turn();
    expect(pool.idleCount).toBe(0);
    start(pool, GET);
    await turn();
    origin.end(1).send(OK);
    await turn();
    origin.clock.advance(51);
    start(pool, post("none"));
    await turn();
    expect(origin.ends).toHaveLength(3);
    origin.clock.advance(HASTE_REMEMBERED_MS);
    origin.end(2).send(OK);
    await turn();
    origin.clock.advance(51);
    start(pool, post("none"));
    await until(() => origin.end(2).received.split("POST").length === 3);
    expect(origin.ends).toHaveLength(3);
  });
});
