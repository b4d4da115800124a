import { describe, expect, test } from "bun:test";
import { TunnelError } from "../../../../src/core/errors.ts";
import { MAX_WAITING_BODY_BYTES } from "../../../../src/origin/http/exchange.ts";
import {
  CLOSE_LINGER_MS,
  CONNECT_TIMEOUT_MS,
  IDLE_TIMEOUT_MS,
  type OriginPool,
  SURPLUS_FACTOR,
  SURPLUS_IDLE_MS,
  SWEEP_MS,
} from "../../../../src/origin/http/pool.ts";
import type { OriginRequest } from "../../../../src/origin/port.ts";
import { bytesOf, textOf } from "../../wire/h1/recorder.ts";
import { GET, type OriginEnd, post, type Recorder, ScriptedOrigin, start, turn } from "./scripted.ts";

const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const WEBSOCKET: OriginRequest = {
  ...GET,
  kind: "websocket",
  headers: ["Host", "a", "Connection", "Upgrade", "Upgrade", "websocket"],
};

/** Runs one request that the origin answers with OK on connection `index`, so that it is kept. */
async function warm(origin: ScriptedOrigin, pool: OriginPool, index = 0): Promise<OriginEnd> {
  const { events } = start(pool, GET);
  await turn();
  const end = origin.end(index);
  end.send(OK);
  await turn();
  expect(events.log).toEqual(["200", "end"]);
  end.received = "";
  end.writes = 0;
  return end;
}

describe("request bytes", () => {
  test.each<{ name: string; request: OriginRequest; want: string }>([
    {
      name: "fields and target byte for byte",
      request: { ...GET, target: "/a//../%2F?\xe4|", headers: ["Host", "a", "x-oDD", "\xff", "X-Odd", ""] },
      want: "GET /a//../%2F?\xe4| HTTP/1.1\r\nHost: a\r\nx-oDD: \xff\r\nX-Odd: \r\n\r\n",
    },
    {
      name: "POST without a body",
      request: post("none"),
      want: "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    },
    { name: "DELETE without a body", request: post("none", "DELETE"), want: "DELETE / HTTP/1.1\r\nHost: a\r\n\r\n" },
    { name: "a length of 0", request: post(0, "GET"), want: "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n" },
  ])("$name", async ({ request, want }) => {
    const origin = new ScriptedOrigin();
    start(origin.pool(), request);
    await turn();
    expect(origin.end(0).received).toBe(want);
  });

  test.each([0, 1])("head and small body leave in one write (kept connections: %d)", async (kept) => {
    const origin = new ScriptedOrigin();
    const pool = origin.pool();
    if (kept === 1) await warm(origin, pool);
    const { exchange, events } = start(pool, post(5, "PUT"));
    expect(exchange.write(bytesOf("hello"))).toBe(true);
    exchange.end([]);
    await turn();
    const end = origin.end(0);
    expect(end.received).toBe("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    expect(end.writes).toBe(1);
    end.send(OK);
    await turn();
    expect(events.log).toEqual(["200", "end"]);
    expect(pool.idleCount).toBe(1);
  });

  test("a chunked body with trailers, those that may not be dropped", async () => {
    const origin = new ScriptedOrigin();
    const { exchange } = start(origin.pool(), post("chunked"));
    exchange.write(bytesOf("hello"));
    await turn();
    exchange.write(bytesOf(""));
    exchange.write(bytesOf("x".repeat(20)));
    exchange.end(["Grpc-Status", "0", "Content-Length", "5", "Host", "b"]);
    await turn();
    expect(origin.end(0).received).toBe(
      `POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n14\r\n${"x".repeat(20)}\r\n0\r\nGrpc-Status: 0\r\n\r\n`,
    );
  });

  test.each<{ name: string; request: OriginRequest; code: string }>([
    { name: "a value with a line end", request: { ...GET, headers: ["X", "a\r\nY: b"] }, code: "request.malformed" },
    { name: "a target with a space", request: { ...GET, target: "/ x" }, code: "request.malformed" },
    {
      name: "framing of the caller's own",
      request: { ...GET, headers: ["Content-length", "5"] },
      code: "request.malformed",
    },
    { name: "CONNECT", request: { ...GET, method: "CONNECT" }, code: "origin.unsupported" },
  ])("refuses $name without dialling", async ({ request, code }) => {
    const origin = new ScriptedOrigin();
    const { events } = start(origin.pool(), request);
    expect(events.log).toEqual([]);
    await turn();
    expect(events.log).toEqual([code]);
    expect(origin.signals).toHaveLength(0);
  });

  test.each([
    { name: "more bytes than announced", request: post(3), body: "abcd", end: false },
    { name: "fewer bytes than announced", request: post(3), body: "ab", end: true },
    { name: "a body where none was announced", request: GET, body: "a", end: false },
  ])("$name: error and reset", async ({ request, body, end }) => {
    const origin = new ScriptedOrigin();
    const pool = origin.pool();
    const { events, exchange } = start(pool, request);
    await turn();
    exchange.write(bytesOf(body));
    if (end) exchange.end([]);
    await turn();
    expect(events.log).toEqual(["request.length"]);
    expect(origin.end(0).closed?.error?.code).toBe("channel.reset");
    expect(pool.idleCount).toBe(0);
  });

  test("trailers that cannot be sent", async () => {
    const origin = new ScriptedOrigin();
    const { events, exchange } = start(origin.pool(), post("chunked"));
    await turn();
    exchange.end(["X", "\n"]);
    expect(events.log).toEqual(["request.malformed"]);
  });
});

describe("answers", () => {
  test("interim ones, then trailers", async () => {
    const origin = new ScriptedOrigin();
    const { events } = start(origin.pool(), GET);
    await turn();
    origin
      .end(0)
      .send(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nGrpc-Status: 0\r\n\r\n",
      );
    await turn();
    expect(events.log).toEqual(["100", "103 Link,x", "200", "end Grpc-Status,0"]);
    expect(events.body).toBe("ok");
  });

  test.each([
    { method: "HEAD", answer: "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n" },
    { method: "GET", answer: "HTTP/1.1 204 No Content\r\n\r\n" },
    { method: "GET", answer: "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n" },
    { method: "GET", answer: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" },
  ])("no body, connection kept: %j", async ({ method, answer }) => {
    const origin = new ScriptedOrigin();
    const pool = origin.pool();
    const { events } = start(pool, { ...GET, method });
    await turn();
    origin.end(0).send(answer);
    await turn();
    expect(events.log[0]).toEndWith("bodyless");
    expect(events.log[1]).toBe("end");
    expect(pool.idleCount).toBe(1);
  });

  test.each([
    { name: "until close", answer: "HTTP/1.1 200 OK\r\n\r\nall", close: true },
    {
      name: "Connection: close",
      answer: "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nall",
      close: false,
    },
    { name: "HTTP/1.0", answer: "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nall", close: false },
  ])("$name: our side is ended, the connection not kept", async ({ answer, close }) => {
    const origin = new ScriptedOrigin();
    const pool = origin.pool();
    const { events } = start(pool, GET);
    await turn();
    const end = origin.end(0);
    end.send(answer);
    await turn();
    if (close) {
      expect(events.log).toEqual(["200"]);
      end.end();
      await turn();
    }
    expect(events.log).toEqual(["200", "end"]);
    expect(events.body).toBe("all");
    expect(pool.idleCount).toBe(0);
    expect(end.ended).toBe(true);
    if (!close) end.end();
    await turn();
    expect(end.closed).toEqual({ error: undefined });
  });

  test.each([
    { name: "bytes behind the answer", answer: `${OK}HTTP/1.1 200 OK\r\n\r\nfor the next visitor` },
    { name: "a body on 204", answer: "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\n\r\nforged" },
  ])("$name: the connection is reset, the answer stands", async ({ answer }) => {
    const origin = new ScriptedOrigin();
    const pool = origin.pool();
    const { events } = start(pool, GET);
    await turn();
    origin.end(0).send(answer);
    await turn();
    expect(events.log.at(-1)).toBe("end");
    expect(pool.idleCount).toBe(0);
    expect(origin.end(0).closed?.error?.code).toBe("channel.reset");
  });

  test.each<{ name: string; answer: string; how: string; log: string[] }>([
    { name: "FIN in the head", answer: "HTTP/1.1 200 OK\r\nContent", how: "end", log: ["origin.truncated"] },
    {
      name: "FIN in the body",
      answer: "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab",
      how: "end",
      log: ["200", "origin.truncated"],
    },
    {
      name: "FIN before the last chunk",
      answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
      how: "end",
      log: ["200", "origin.truncated"],
    },
    { name: "FIN at once", answer: "", how: "end", log: ["origin.reset"] },
    { name: "FIN after 103", answer: "HTTP/1.1 103 Early Hints\r\n\r\n", how: "end", log: ["103", "origin.reset"] },
    { name: "reset at once", answer: "", how: "reset", log: ["origin.reset"] },
    {
      name: "reset in a body until close",
      answer: "HTTP/1.1 200 OK\r\n\r\nab",
      how: "reset",
      log: ["200", "origin.reset"],
    },
    { name: "garbage", answer: "SSH-2.0-x\r\n", how: "", log: ["origin.malformed"] },
    { name: "101 nobody asked for", answer: "HTTP/1.1 101 X\r\n\r\n", how: "", log: ["origin.malformed"] },
  ])("$name", async ({ answer, how, log }) => {
    const origin = new ScriptedOrigin();
    const pool = origin.pool();
    const { events } = start(pool, GET);
    await turn();
    const end = origin.end(0);
    if (answer !== "") end.send(answer);
    await turn();
    if (how === "end") end.end();
    else if (how === "reset") end.reset();
    await turn();
    expect(events.log).toEqual(log);
    expect(pool.idleCount).toBe(0);
    expect(end.closed).toBeDefined();
    expect(origin.ends).toHaveLength(1);
  });

  test("before the body was sent: the rest goes on, the connection is not kept", async () => {
    const origin = new ScriptedOrigin();
    const pool = origin.pool();
    const { events, exchange } = start(pool, post(10));
    exchange.write(bytesOf("12345"));
    await turn();
    const end = origin.end(0);
    end.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n");
    await turn();
    exchange.write(bytesOf("678"));
    await turn();
    expect(end.received).toEndWith("12345678");
    end.send("0\r\n\r\n");
    await turn();
    expect(events.log).toEqual(["200", "end"]);
    expect(end.closed?.error?.code).toBe("channel.reset");
    expect(exchange.write(bytesOf("90"))).toBe(true);
    exchange.end([]);
    expect(events.log).toHaveLength(2);
  });

  test("a refusal with close stops the body", async () => {
    const origin = new ScriptedOrigin();
    const { events, exchange } = start(origin.pool(), post("chunked"));
    await turn();
    const end = origin.end(0);
    end.send("HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\n");
    await turn();
    const before = end.received;
    expect(exchange.write(bytesOf("dropped"))).toBe(true);
    exchange.end([]);
    await turn();
    expect(end.received).toBe(before);
    end.send("no");
    await turn();
    expect(events.log).toEqual(["413", "end"]);
  });

  test("a writer that waits is let go when the answer ends", async () => {
    const origin = new ScriptedOrigin();
    const { events, exchange } = start(origin.pool(), post("chunked"));
    await turn();
    const end = origin.end(0);
    end.channel.pause();
    while (exchange.write(new Uint8Array(32 * 1024)));
    expect(events.drains).toBe(0);
    end.send(OK);
    await turn();
    expect(events.log).toEqual(["200", "end"]);
    expect(events.drains).toBe(1);
  });

  test("back-pressure of the request body", async () => {
    const origin = new ScriptedOrigin();
    const { events, exchange } = start(origin.pool(), post("chunked"));
    await turn();
    const end = origin.end(0);
    end.channel.pause();
    while (exchange.write(new Uint8Array(32 * 1024)));
    await turn();
    expect(events.drains).toBe(0);
    end.channel.resume();
    await turn();
    expect(events.drains).toBe(1);
  });

  test("abort resets the connection and reports nothing", async () => {
    const origin = new ScriptedOrigin();
    const pool = origin.pool();
    const { events, exchange } = start(pool, GET);
    await turn();
    origin.end(0).send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\na");
    await turn();
    exchange.abort();
    await turn();
    expect(events.log).toEqual(["200"]);
    expect(origin.end(0).closed?.error?.code).toBe("channel.reset");
  });

  test("an exchange that is over cannot touch the next one on its connection", async () => {
    const origin = new ScriptedOrigin();
    const pool = origin.pool();
    const first = start(pool, GET);
    await turn();
    origin.end(0).send(OK);
    await turn();
    const second = start(pool, GET);
    first.exchange.pause();
    first.exchange.write(bytesOf("x"));
    first.exchange.end([]);
    first.exchange.abort();
    await turn();
    origin.end(0).send(OK);
    await turn();
    expect(second.events.log).toEqual(["200", "end"]);
    expect(origin.ends).toHaveLength(1);
  });
});

describe("upgrade", () => {
  async function upgrade(origin: ScriptedOrigin, answer: string): Promise<Recorder> {
    const { events } = start(origin.pool(), WEBSOCKET);
    await turn();
    origin.end(0).send(answer);
    await turn();
    return events;
  }
  const SWITCH = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

  test("hands over a channel with what came behind the answer", async () => {
    const origin = new ScriptedOrigin();
    const events = await upgrade(origin, `${SWITCH}early`);
    const end = origin.end(0);
    end.send("+later");
    await turn();
    expect(events.log).toEqual(["upgrade"]);
    const channel = events.upgraded;
    let received = "";
    const over: string[] = [];
    channel?.listen({
      onData: (chunk) => {
        received += textOf(chunk);
      },
      onEnd: () => over.push("end"),
      onDrain: () => {},
      onClose: (error) => over.push(error?.code ?? "closed"),
    });
    expect(received).toBe("");
    await turn();
    expect(received).toBe("early+later");
    channel?.write(bytesOf("ping"));
    end.end();
    await turn();
    expect(end.received).toEndWith("ping");
    expect(over).toEqual(["end"]);
    channel?.end();
    await turn();
    expect(over).toEqual(["end", "closed"]);
  });

  test("stays silent while paused, and remembers a reset nobody saw", async () => {
    const origin = new ScriptedOrigin();
    const events = await upgrade(origin, `${SWITCH}early`);
    const seen: string[] = [];
    const owner = {
      onData: (chunk: Uint8Array) => seen.push(textOf(chunk)),
      onEnd: () => seen.push("end"),
      onDrain: () => {},
      onClose: (error: TunnelError | undefined) => seen.push(error?.code ?? "closed"),
    };
    events.upgraded?.listen(owner);
    events.upgraded?.pause();
    await turn();
    expect(seen).toEqual([]);
    events.upgraded?.resume();
    await turn();
    expect(seen).toEqual(["early"]);

    const unheard = new ScriptedOrigin();
    const late = await upgrade(unheard, SWITCH);
    unheard.end(0).reset();
    await turn();
    seen.length = 0;
    late.upgraded?.listen(owner);
    await turn();
    expect(seen).toEqual(["channel.reset"]);
  });

  test("refused: an ordinary answer, and the connection is kept", async () => {
    const origin = new ScriptedOrigin();
    const events = await upgrade(origin, OK);
    expect(events.log).toEqual(["200", "end"]);
    expect(events.upgraded).toBeUndefined();
  });
});

describe("connecting", () => {
  test.each([
    { name: "refused", failure: new TunnelError("dial.failed", "no"), code: "origin.dial" },
    { name: "TLS", failure: new TunnelError("dial.tls", "no"), code: "origin.tls" },
    { name: "anything else", failure: new Error("no"), code: "origin.dial" },
  ])("$name: $code", async ({ failure, code }) => {
    const origin = new ScriptedOrigin();
    origin.failure = failure;
    const { events } = start(origin.pool(), GET);
    await turn();
    expect(events.log).toEqual([code]);
    expect(events.error?.retry).toBe("elsewhere");
    expect(origin.clock.timers).toBe(0);
  });

  test("takes too long", async () => {
    const origin = new ScriptedOrigin();
    const gate = Promise.withResolvers<void>();
    origin.gate = gate.promise;
    const { events } = start(origin.pool(), GET);
    origin.clock.advance(CONNECT_TIMEOUT_MS - 1);
    expect(events.log).toEqual([]);
    origin.clock.advance(1);
    expect(events.log).toEqual(["origin.timeout"]);
    expect(origin.signals[0]?.aborted).toBe(true);
    gate.resolve();
    await turn();
    expect(events.log).toHaveLength(1);
  });

  test("is given up with the request", async () => {
    const origin = new ScriptedOrigin();
    const gate = Promise.withResolvers<void>();
    origin.gate = gate.promise;
    const { events, exchange } = start(origin.pool(), GET);
    exchange.abort();
    expect(origin.signals[0]?.aborted).toBe(true);
    expect(origin.clock.timers).toBe(0);
    gate.resolve();
    await turn();
    expect(events.log).toEqual([]);
  });

  test("the body waits, within bounds", async () => {
    const origin = new ScriptedOrigin();
    const gate = Promise.withResolvers<void>();
    origin.gate = gate.promise;
    const { events, exchange } = start(origin.pool(), post("chunked"));
    const chunk = new Uint8Array(60 * 1024).fill(0x61);
    expect(exchange.write(chunk)).toBe(true);
    expect(exchange.write(chunk)).toBe(false);
    gate.resolve();
    await turn();
    expect(events.drains).toBe(1);
    expect(origin.end(0).received.length).toBeGreaterThan(2 * chunk.length);

    origin.gate = Promise.withResolvers<void>().promise;
    const rude = start(origin.pool(), post("chunked"));
    for (let sent = 0; sent <= MAX_WAITING_BODY_BYTES; sent += chunk.length) rude.exchange.write(chunk);
    expect(rude.events.log).toEqual(["stream.limit"]);
  });

  test("a pause before the connection holds the answer back", async () => {
    const origin = new ScriptedOrigin();
    const { events, exchange } = start(origin.pool(), GET);
    exchange.pause();
    await turn();
    origin.end(0).send(OK);
    await turn();
    expect(events.log).toEqual([]);
    exchange.resume();
    await turn();
    expect(events.log).toEqual(["200", "end"]);
  });
});

describe("keeping connections", () => {
  test("the last used first", async () => {
    const origin = new ScriptedOrigin();
    const pool = origin.pool();
    const both = [start(pool, GET), start(pool, GET)];
    await turn();
    origin.end(1).send(OK);
    await turn();
    origin.end(0).send(OK);
    await turn();
    expect(both.map(({ events }) => events.log.at(-1))).toEqual(["end", "end"]);
    expect(pool.idleCount).toBe(2);
    origin.end(0).received = "";
    origin.end(1).received = "";
    start(pool, GET);
    await turn();
    expect([origin.end(0).received !== "", origin.end(1).received !== ""]).toEqual([true, false]);
  });

  test("more than the maximum only for a moment, and never more than a few times as many", async () => {
    const origin = new ScriptedOrigin();
    const pool = origin.pool({ maxIdle: 1 });
    for (let i = 0; i < SURPLUS_FACTOR + 1; i++) start(pool, GET);
    await turn();
    for (let i = 0; i < SURPLUS_FACTOR + 1; i++) origin.end(i).send(OK);
    await turn();
    expect(pool.idleCount).toBe(SURPLUS_FACTOR);
    expect(origin.ends.filter((end) => end.ended)).toHaveLength(1);
    origin.clock.advance(SURPLUS_IDLE_MS + SWEEP_MS);
    await turn();
    expect(pool.idleCount).toBe(1);
  });

  test("none when the maximum is 0", async () => {
    const origin = new ScriptedOrigin();
    const pool = origin.pool({ maxIdle: 0 });
    start(pool, GET);
    await turn();
    origin.end(0).send(OK);
    await turn();
    expect(pool.idleCount).toBe(0);
  });

  test("no longer than the idle time, and no timer without need", async () => {
    const origin = new ScriptedOrigin();
    const pool = origin.pool();
    const end = await warm(origin, pool);
    origin.clock.advance(IDLE_TIMEOUT_MS - 5_000);
    expect(pool.idleCount).toBe(1);
    origin.clock.advance(10_000);
    expect(pool.idleCount).toBe(0);
    await turn();
    expect(end.ended).toBe(true);
    end.end();
    await turn();
    origin.clock.advance(10_000);
    expect(origin.clock.timers).toBe(0);
  });

  test("a connection past its time is not used even before the sweep", async () => {
    const origin = new ScriptedOrigin();
    const pool = origin.pool({ idleTimeoutMs: 1000 });
    await warm(origin, pool);
    origin.clock.advance(1000);
    start(pool, GET);
    await turn();
    expect(origin.ends).toHaveLength(2);
  });

  test("for ever when the idle time is 0", async () => {
    const origin = new ScriptedOrigin();
    const pool = origin.pool({ idleTimeoutMs: 0 });
    await warm(origin, pool);
    origin.clock.advance(24 * 3600_000);
    expect(pool.idleCount).toBe(1);
  });

  test.each([
    { hint: "timeout=5, max=100", keptMs: 3_999, goneMs: 4_000 },
    { hint: "max=3,timeout=2", keptMs: 999, goneMs: 1_000 },
    { hint: "nonsense", keptMs: IDLE_TIMEOUT_MS - 1, goneMs: IDLE_TIMEOUT_MS },
  ])("Keep-Alive: $hint", async ({ hint, keptMs, goneMs }) => {
    for (const [ms, connections] of [
      [keptMs, 1],
      [goneMs, 2],
    ] as const) {
      const origin = new ScriptedOrigin();
      const pool = origin.pool();
      start(pool, GET);
      await turn();
      origin.end(0).send(`HTTP/1.1 200 OK\r\nKeep-Alive: ${hint}\r\nContent-Length: 0\r\n\r\n`);
      await turn();
      origin.clock.advance(ms);
      start(pool, GET);
      await turn();
      expect(origin.ends).toHaveLength(connections);
    }
  });

  test("not when the origin keeps it for a second or less", async () => {
    const origin = new ScriptedOrigin();
    const pool = origin.pool();
    start(pool, GET);
    await turn();
    origin.end(0).send("HTTP/1.1 200 OK\r\nKeep-Alive: timeout=1\r\nContent-Length: 0\r\n\r\n");
    await turn();
    expect(pool.idleCount).toBe(0);
  });

  test.each(["keep-alive", "close"])("a reader that paused on the last byte (Connection: %s)", async (option) => {
    const origin = new ScriptedOrigin();
    const pool = origin.pool();
    const { events, exchange } = start(pool, GET);
    events.onData = () => exchange.pause();
    await turn();
    const end = origin.end(0);
    end.send(`HTTP/1.1 200 OK\r\nConnection: ${option}\r\nContent-Length: 2\r\n\r\nok`);
    await turn();
    expect(events.log).toEqual(["200", "end"]);
    end.end();
    await turn();
    expect(pool.idleCount).toBe(0);
    expect(end.closed).toEqual({ error: undefined });
  });

  test.each(["byte", "end", "reset"] as const)("a %s on an idle connection removes it", async (what) => {
    const origin = new ScriptedOrigin();
    const pool = origin.pool();
    const end = await warm(origin, pool);
    if (what === "byte") end.send("HTTP/1.1 408 Request Timeout\r\n\r\n");
    else if (what === "end") end.end();
    else end.reset();
    await turn();
    expect(pool.idleCount).toBe(0);
    expect(end.closed).toBeDefined();
  });

  test("one that the origin never closes is reset after a while", async () => {
    const origin = new ScriptedOrigin();
    const pool = origin.pool();
    const end = await warm(origin, pool);
    pool.close();
    await turn();
    expect([end.ended, end.closed]).toEqual([true, undefined]);
    origin.clock.advance(2 * CLOSE_LINGER_MS);
    await turn();
    expect(end.closed?.error?.code).toBe("channel.reset");
    expect(origin.clock.timers).toBe(0);
  });

  test("close lets running requests end and keeps nothing", async () => {
    const origin = new ScriptedOrigin();
    const pool = origin.pool();
    const { events } = start(pool, GET);
    await turn();
    pool.close();
    origin.end(0).send(OK);
    await turn();
    expect(events.log).toEqual(["200", "end"]);
    expect(pool.idleCount).toBe(0);
    expect(origin.end(0).ended).toBe(true);
  });
});

describe("a kept connection that the origin had closed", () => {
  /** A request on a kept connection, which ends as told before the answer. */
  async function stale(request: OriginRequest, how: "end" | "reset", body = "", answer = "") {
    const origin = new ScriptedOrigin();
    const pool = origin.pool();
    const old = await warm(origin, pool);
    const started = start(pool, request);
    if (body !== "") started.exchange.write(bytesOf(body));
    await turn();
    if (answer !== "") old.send(answer);
    await turn();
    old[how]();
    await turn();
    return { origin, pool, old, ...started };
  }

  test.each([
    { name: "GET, FIN", request: GET, how: "end" as const },
    { name: "GET, reset", request: GET, how: "reset" as const },
    { name: "DELETE", request: post("none", "DELETE"), how: "end" as const },
  ])("$name: sent once more on a fresh one", async ({ request, how }) => {
    const { origin, events } = await stale(request, how);
    expect(events.log).toEqual([]);
    expect(origin.ends).toHaveLength(2);
    expect(origin.end(1).received).toBe(origin.end(0).received);
    origin.end(1).send(OK);
    await turn();
    expect(events.log).toEqual(["200", "end"]);
  });

  test("PUT with a short body: the body is sent again, and the rest of it", async () => {
    const { origin, events, exchange } = await stale(post("chunked", "PUT"), "end", "hello");
    exchange.write(bytesOf("world"));
    exchange.end([]);
    await turn();
    expect(origin.end(1).received).toEndWith("5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n");
    origin.end(1).send(OK);
    await turn();
    expect(events.log).toEqual(["200", "end"]);
  });

  test.each([
    { name: "POST", request: post("none") },
    { name: "PUT with a long body", request: post("chunked", "PUT"), body: "x".repeat(70_000) },
    { name: "GET after the first byte of an answer", request: GET, answer: "H", code: "origin.truncated" },
  ])("$name: not sent again", async ({ request, body, answer, code = "origin.reset" }) => {
    const { origin, events } = await stale(request, "end", body, answer);
    expect(events.log).toEqual([code]);
    expect(origin.ends).toHaveLength(1);
  });

  test("once, not twice", async () => {
    const { origin, events } = await stale(GET, "end");
    origin.end(1).end();
    await turn();
    expect(events.log).toEqual(["origin.reset"]);
    expect(origin.ends).toHaveLength(2);
  });
});
