import { describe, expect, test } from "bun:test";
import { TunnelError } from "../../../../src/core/errors.ts";
import type { Connection } from "../../../../src/net/sockets.ts";
import { MAX_REPLAY_BYTES, MAX_WAITING_BODY_BYTES } from "../../../../src/origin/http/exchange.ts";
import { PING_ANSWER_MS, PING_INTERVAL_MS } from "../../../../src/origin/http2/connection.ts";
import { MAX_ATTEMPTS } from "../../../../src/origin/http2/exchange.ts";
import { DIAL_PAUSE_MS, type Http2Pool, SWEEP_MS } from "../../../../src/origin/http2/pool.ts";
import type { OriginExchange, OriginRequest } from "../../../../src/origin/port.ts";
import { bytesOf } from "../../wire/h1/recorder.ts";
import { Recorder } from "../http/scripted.ts";
import { type Http2End, ScriptedHttp2Origin, turns } from "./scripted.ts";

const REFUSED = 7;
const NO_ERROR = 0;
const CANCEL = 8;
const HTTP_1_1_REQUIRED = 13;

const CALL: OriginRequest = { kind: "http", method: "POST", target: "/s/M", headers: ["Host", "a"], body: "chunked" };
const GET: OriginRequest = { ...CALL, method: "GET", body: "none" };

function start(pool: Http2Pool, request: OriginRequest = GET): { events: Recorder; exchange: OriginExchange } {
  const events = new Recorder();
  return { events, exchange: pool.exchange(request, events) };
}

/** Runs one request to its end, so that there is a connection. */
async function warm(origin: ScriptedHttp2Origin, pool: Http2Pool): Promise<Http2End> {
  const { events } = start(pool);
  await turns();
  const end = origin.end(0);
  end.answer(0);
  await turns();
  expect(events.log).toEqual(["200", "end"]);
  return end;
}

/** Lets time pass as the pool looks at it, with what the two ends tell each other. */
async function pass(origin: ScriptedHttp2Origin, ms: number): Promise<void> {
  for (let passed = 0; passed < ms; passed += SWEEP_MS) {
    origin.clock.advance(SWEEP_MS);
    await turns(4);
  }
}

describe("request fields", () => {
  test.each<{ name: string; request: Partial<OriginRequest>; want: string[]; endsWithHead: boolean }>([
    {
      name: "are in lower case, without those of a connection",
      request: {
        headers: [
          ...["Host", "App.Test:80", "X-Odd", "\xe4", "Cookie", "a", "cookie", "b", "Connection", "keep-alive"],
          ...["Keep-Alive", "1", "Proxy-Connection", "x", "Upgrade", "h2c", "Transfer-Encoding", "chunked"],
        ],
      },
      want: [":authority", "App.Test:80", ":path", "/s/M", "x-odd", "\xe4", "cookie", "a", "cookie", "b"],
      endsWithHead: false,
    },
    {
      name: "keep trailers of TE and nothing else",
      request: { headers: ["Host", "a", "TE", "gzip, Trailers;q=1", "te", "deflate"] },
      want: [":authority", "a", ":path", "/s/M", "te", "trailers"],
      endsWithHead: false,
    },
    {
      name: "say the length of a body",
      request: { body: 3 },
      want: [":authority", "a", ":path", "/s/M", "content-length", "3"],
      endsWithHead: false,
    },
    {
      name: "say that POST has none",
      request: { body: "none", target: "/?%2F" },
      want: [":authority", "a", ":path", "/?%2F", "content-length", "0"],
      endsWithHead: true,
    },
  ])("$name", async ({ request, want, endsWithHead }) => {
    const origin = new ScriptedHttp2Origin();
    start(origin.pool(), { ...CALL, ...request });
    await turns();
    const seen = origin.end(0).request(0);
    expect(seen.fields).toEqual([":method", "POST", ":scheme", "http", ...want]);
    expect(seen.endsWithHead).toBe(endsWithHead);
  });

  test.each<[name: string, request: Partial<OriginRequest>, code: string]>([
    ["CONNECT", { method: "CONNECT" }, "origin.unsupported"],
    ["a field name that is none", { headers: ["Host", "a", "b c", "1"] }, "request.malformed"],
    ["a value with a line end", { headers: ["Host", "a", "b", "1\r\nc: 2"] }, "request.malformed"],
    ["a pseudo-header field", { headers: ["Host", "a", ":path", "/b"] }, "request.malformed"],
    ["a length of the visitor's", { headers: ["Host", "a", "Content-Length", "1"] }, "request.malformed"],
  ])("%s is refused before anybody is dialled", async (_name, request, code) => {
    const origin = new ScriptedHttp2Origin();
    const { events } = start(origin.pool(), { ...GET, ...request });
    expect(events.log).toEqual([]);
    await turns();
    expect(events.log).toEqual([code]);
    expect(origin.dials).toBe(0);
  });
});

describe("a connection", () => {
  test("is asked nothing before its origin has told its limits, and is given up when it never does", async () => {
    const origin = new ScriptedHttp2Origin();
    origin.silent = true;
    const pool = origin.pool();
    const { events } = start(pool);
    await turns();
    expect(origin.end(0).requests).toHaveLength(0);
    origin.clock.advance(10_000);
    await turns();
    expect(events.log).toEqual(["origin.timeout"]);
    expect(origin.end(0).ended).toBe(true);
    expect(pool.connectionCount).toBe(0);
  });

  test("carries as many streams as it may; the rest wait for others, or for room", async () => {
    const origin = new ScriptedHttp2Origin();
    origin.streams = 2;
    const pool = origin.pool();
    const calls = Array.from({ length: 7 }, () => start(pool));
    await turns(20);
    expect(origin.ends.map((end) => end.requests.length)).toEqual([2, 2, 2, 1]);
    for (const end of origin.ends) end.requests.forEach((_request, i) => void end.answer(i));
    await turns();
    for (const { events } of calls) expect(events.log).toEqual(["200", "end"]);
    start(pool);
    await turns();
    expect(origin.dials).toBe(4);
  });

  test("whose limit is 0 is waited for and not multiplied", async () => {
    const origin = new ScriptedHttp2Origin();
    origin.streams = 0;
    const { events } = start(origin.pool());
    await turns();
    origin.clock.advance(9_999);
    await turns();
    expect(origin.dials).toBe(1);
    origin.clock.advance(1);
    expect(events.log).toEqual(["origin.timeout"]);
  });

  test("that cannot be had fails those who wait, unless another one serves them", async () => {
    const origin = new ScriptedHttp2Origin();
    origin.streams = 1;
    origin.failure = new TunnelError("dial.tls", "no such name");
    const pool = origin.pool();
    const first = start(pool);
    await turns();
    expect(first.events.log).toEqual(["origin.tls"]);
    origin.clock.advance(DIAL_PAUSE_MS);
    origin.failure = undefined;
    const second = start(pool);
    await turns();
    origin.failure = new Error("no more");
    const third = start(pool);
    await turns();
    expect(origin.dials).toBe(3);
    origin.end(0).answer(0);
    await turns();
    expect(second.events.log).toEqual(["200", "end"]);
    origin.end(0).answer(1);
    await turns();
    expect(third.events.log).toEqual(["200", "end"]);
    expect(origin.dials).toBe(3);
  });

  test("that is idle for its time is closed with a good-bye; one at work is not", async () => {
    const origin = new ScriptedHttp2Origin();
    const pool = origin.pool();
    const end = await warm(origin, pool);
    const { events } = start(pool);
    await turns();
    await pass(origin, 200_000);
    expect(end.ended).toBe(false);
    end.answer(1);
    await turns();
    expect(events.log).toEqual(["200", "end"]);
    origin.clock.advance(85_000);
    await turns();
    expect(end.ended).toBe(false);
    origin.clock.advance(10_000);
    await turns();
    expect(end.goaway).toBe(true);
    expect(end.ended).toBe(true);
    expect(pool.connectionCount).toBe(0);
  });

  test("beyond those to keep is closed at the next look", async () => {
    const origin = new ScriptedHttp2Origin();
    const pool = origin.pool({ maxIdle: 0 });
    const end = await warm(origin, pool);
    origin.clock.advance(SWEEP_MS);
    await turns();
    expect(end.ended).toBe(true);
  });

  test("that is silent under a running call is asked for a sign of life, rarely, and then given up", async () => {
    const origin = new ScriptedHttp2Origin();
    const pool = origin.pool();
    const { events } = start(pool);
    await turns();
    const end = origin.end(0);
    await pass(origin, 95_000);
    expect(end.pings).toBe(1);
    await pass(origin, PING_INTERVAL_MS - 2 * SWEEP_MS);
    expect(end.pings).toBe(1);
    expect(events.log).toEqual([]);
    end.fall();
    await pass(origin, 2 * SWEEP_MS);
    expect(end.pings).toBe(2);
    await pass(origin, PING_ANSWER_MS + SWEEP_MS);
    expect(events.log).toEqual(["origin.timeout"]);
    expect(end.ended).toBe(true);
  });

  test("that its origin closes between calls is not missed", async () => {
    const origin = new ScriptedHttp2Origin();
    const pool = origin.pool();
    const end = await warm(origin, pool);
    end.channel.end();
    await turns();
    expect(pool.connectionCount).toBe(0);
    start(pool);
    await turns();
    expect(origin.end(1).requests).toHaveLength(1);
  });

  test("is closed with the pool once its calls are through", async () => {
    const origin = new ScriptedHttp2Origin();
    const pool = origin.pool();
    await warm(origin, pool);
    const { events } = start(pool);
    await turns();
    pool.close();
    await turns();
    expect(origin.end(0).ended).toBe(false);
    origin.end(0).answer(1);
    await turns();
    expect(events.log).toEqual(["200", "end"]);
    expect(origin.end(0).ended).toBe(true);
  });
});

describe("what was refused unread is sent again, whole", () => {
  test.each<{ name: string; refuse: (end: Http2End) => void; firstEnds: boolean }>([
    { name: "REFUSED_STREAM", refuse: (end) => end.resetStream(3, REFUSED), firstEnds: false },
    { name: "GOAWAY with an earlier stream", refuse: (end) => end.sayGoaway(1), firstEnds: true },
  ])("$name", async ({ refuse, firstEnds }) => {
    const origin = new ScriptedHttp2Origin();
    const pool = origin.pool();
    const end = await warm(origin, pool);
    const { exchange, events } = start(pool, CALL);
    exchange.write(bytesOf("one"));
    await turns();
    refuse(end);
    await turns();
    const again = origin.end(1).request(0);
    expect(again.body).toBe("one");
    exchange.write(bytesOf("two"));
    exchange.end(["x-sum", "1"]);
    await turns();
    expect(again.body).toBe("onetwo");
    expect([...(again.trailers ?? [])]).toEqual(["x-sum", "1"]);
    origin.end(1).answer(0, "", ["grpc-status", "0"]);
    await turns();
    expect(events.log).toEqual(["200", "end grpc-status,0"]);
    expect(end.ended).toBe(firstEnds);
  });

  test("with a body that had ended before", async () => {
    const origin = new ScriptedHttp2Origin();
    const pool = origin.pool();
    const end = await warm(origin, pool);
    const { exchange } = start(pool, { ...CALL, body: 3 });
    exchange.write(bytesOf("one"));
    exchange.end([]);
    await turns();
    end.sayGoaway(1);
    await turns();
    expect(origin.end(1).request(0)).toMatchObject({ body: "one", trailers: [] });
  });

  test("but not for ever, and not with a body that is gone", async () => {
    const origin = new ScriptedHttp2Origin();
    const pool = origin.pool();
    const { events } = start(pool);
    for (let i = 0; i < MAX_ATTEMPTS; i++) {
      await turns();
      // Each time by the one that was not asked last.
      origin.end(i % 2).resetStream(i < 2 ? 1 : 3, REFUSED);
    }
    await turns();
    expect(events.log).toEqual(["origin.reset"]);
    expect(origin.dials).toBe(2);

    const large = start(pool, CALL);
    large.exchange.write(new Uint8Array(MAX_REPLAY_BYTES + 1));
    await turns();
    origin.end(0).resetStream(5, REFUSED);
    await turns();
    expect(large.events.log).toEqual(["origin.reset"]);
  });

  test("after a lost connection only when repeating is harmless", async () => {
    const origin = new ScriptedHttp2Origin();
    const pool = origin.pool();
    const end = await warm(origin, pool);
    const [harmless, not] = [start(pool), start(pool, { ...CALL, body: "none" })];
    await turns();
    end.channel.abort(new TunnelError("aborted", "cut"));
    await turns();
    expect(not.events.log).toEqual(["origin.reset"]);
    expect(harmless.events.log).toEqual([]);
    expect(origin.end(1).requests).toHaveLength(1);
  });
});

describe("an answer", () => {
  test("that came whole holds although the rest of the request is not wanted", async () => {
    const origin = new ScriptedHttp2Origin();
    const { exchange, events } = start(origin.pool(), CALL);
    await turns();
    const end = origin.end(0);
    exchange.pause();
    end.answer(0, "early");
    await turns();
    end.resetStream(1, NO_ERROR);
    await turns();
    expect(events.log).toEqual(["200"]);
    exchange.resume();
    await turns();
    expect(events.log).toEqual(["200", "end"]);
    expect(events.body).toBe("early");
    expect(exchange.write(bytesOf("more"))).toBe(true);
  });

  test("in front of the end of the request ends it, and lets the writer go", async () => {
    const origin = new ScriptedHttp2Origin();
    const { exchange, events } = start(origin.pool(), CALL);
    await turns();
    while (exchange.write(new Uint8Array(1024 * 1024)));
    origin.end(0).request(0).stream.pause();
    origin.end(0).answer(0, "no");
    await turns();
    expect(events.log).toEqual(["200", "end"]);
    expect(events.drains).toBe(1);
    expect(origin.end(0).request(0).reset).toBe(NO_ERROR);
    expect(exchange.write(bytesOf("more"))).toBe(true);
  });

  test.each<{ name: string; answer: (end: Http2End) => void; log: string[]; method?: string }>([
    {
      name: "longer than announced",
      answer: (end) => {
        end.request(0).stream.sendHeaders([":status", "200", "content-length", "1"], false);
        end.request(0).stream.write(bytesOf("ab"));
      },
      log: ["200", "origin.malformed"],
    },
    {
      name: "shorter than announced",
      answer: (end) => {
        end.request(0).stream.sendHeaders([":status", "200", "content-length", "3"], false);
        end.request(0).stream.write(bytesOf("ab"));
        end.request(0).stream.end([]);
      },
      log: ["200", "origin.truncated"],
    },
    {
      name: "with two lengths",
      answer: (end) =>
        end.request(0).stream.sendHeaders([":status", "200", "content-length", "1", "content-length", "2"], false),
      log: ["origin.malformed"],
    },
    {
      name: "with a length to HEAD",
      method: "HEAD",
      answer: (end) => end.request(0).stream.sendHeaders([":status", "200", "content-length", "1"], true),
      log: ["200 bodyless", "end"],
    },
    {
      name: "with a body to HEAD",
      method: "HEAD",
      answer: (end) => {
        end.request(0).stream.sendHeaders([":status", "200"], false);
        end.request(0).stream.write(bytesOf("ab"));
      },
      log: ["200", "origin.malformed"],
    },
    {
      name: "with more fields than anybody needs",
      answer: (end) =>
        end.request(0).stream.sendHeaders([":status", "200", ...Array.from({ length: 2002 }, () => "x")], false),
      log: ["origin.malformed"],
    },
    {
      name: "with field names in capitals",
      answer: (end) => end.request(0).stream.sendHeaders([":status", "200", "Server", "x"], false),
      log: ["origin.malformed"],
    },
    {
      name: "that switches protocols",
      answer: (end) => end.request(0).stream.sendHeaders([":status", "101"], false),
      log: ["origin.malformed"],
    },
    {
      name: "that never stops to announce itself",
      answer: (end) => {
        for (let i = 0; i < 40; i++) end.request(0).stream.sendHeaders([":status", "102"], false);
      },
      log: [...Array.from({ length: 32 }, () => "102"), "origin.malformed"],
    },
    {
      name: "that is no frame",
      answer: (end) => void end.channel.write(new Uint8Array(64).fill(0xff)),
      log: ["origin.malformed"],
    },
    { name: "of a stream reset", answer: (end) => end.resetStream(1, 2), log: ["origin.reset"] },
  ])("$name", async ({ answer, log, method = "GET" }) => {
    const origin = new ScriptedHttp2Origin();
    const { events } = start(origin.pool(), { ...GET, method });
    await turns();
    answer(origin.end(0));
    await turns();
    expect(events.log).toEqual(log);
  });
});

describe("a request body", () => {
  test("waits for the connection within bounds", async () => {
    const origin = new ScriptedHttp2Origin();
    origin.silent = true;
    const pool = origin.pool();
    const { exchange, events } = start(pool, CALL);
    expect(exchange.write(new Uint8Array(1000))).toBe(true);
    expect(exchange.write(new Uint8Array(64 * 1024))).toBe(false);
    await turns();
    origin.end(0).speak();
    await turns();
    expect(origin.end(0).request(0).bodyBytes).toBe(1000 + 64 * 1024);
    expect(events.drains).toBe(1);

    origin.silent = true;
    const greedy = start(origin.pool(), CALL);
    greedy.exchange.write(new Uint8Array(MAX_WAITING_BODY_BYTES + 1));
    expect(greedy.events.log).toEqual(["stream.limit"]);
  });

  test.each<{ name: string; act: (exchange: OriginExchange) => void }>([
    { name: "longer", act: (exchange) => void exchange.write(bytesOf("abcd")) },
    { name: "shorter", act: (exchange) => exchange.end([]) },
  ])("$name than announced is not sent on", async ({ act }) => {
    const origin = new ScriptedHttp2Origin();
    const { exchange, events } = start(origin.pool(), { ...CALL, body: 3 });
    await turns();
    act(exchange);
    await turns();
    expect(events.log).toEqual(["request.length"]);
    expect(origin.end(0).request(0).reset).toBe(CANCEL);
  });
});

test("a request given up while it waits is never sent", async () => {
  const origin = new ScriptedHttp2Origin();
  const pool = origin.pool();
  const { exchange, events } = start(pool);
  exchange.abort();
  await turns();
  expect(origin.end(0).requests).toHaveLength(0);
  origin.clock.advance(20_000);
  expect(events.log).toEqual([]);
});

describe("an origin that wants HTTP/1.1", () => {
  /** Stands for the other pool: takes what it is given and answers at once. */
  function http1(): {
    adopted: Connection[];
    sent: string[];
    way: NonNullable<Parameters<ScriptedHttp2Origin["pool"]>[0]>;
  } {
    const adopted: Connection[] = [];
    const sent: string[] = [];
    return {
      adopted,
      sent,
      way: {
        http1: {
          adopt: (connection) => void adopted.push(connection),
          exchange: (request, events) => {
            sent.push(request.method);
            return {
              write: (chunk) => sent.push(String(chunk.length)) > 0,
              end: (trailers) => {
                sent.push(`end ${trailers.join()}`);
                events.onResponse(200, [], true);
                events.onEnd([]);
              },
              pause: () => void sent.push("pause"),
              resume: () => void sent.push("resume"),
              abort: () => void sent.push("abort"),
            };
          },
        },
      },
    };
  }

  test("by TLS is given the connection and everything that waits", async () => {
    const origin = new ScriptedHttp2Origin();
    origin.alpn = "http/1.1";
    const other = http1();
    const { exchange, events } = start(origin.pool(other.way), CALL);
    exchange.write(bytesOf("abc"));
    exchange.pause();
    await turns();
    expect(other.adopted).toHaveLength(1);
    exchange.resume();
    exchange.write(bytesOf("de"));
    exchange.end(["x", "y"]);
    expect(other.sent).toEqual(["POST", "3", "pause", "resume", "2", "end x,y"]);
    expect(events.log).toEqual(["200 bodyless", "end"]);
  });

  test("for one request is asked so", async () => {
    const origin = new ScriptedHttp2Origin();
    origin.alpn = "h2";
    const other = http1();
    const { exchange, events } = start(origin.pool(other.way), CALL);
    exchange.write(bytesOf("abc"));
    exchange.end([]);
    await turns();
    origin.end(0).resetStream(1, HTTP_1_1_REQUIRED);
    await turns();
    expect(other.sent).toEqual(["POST", "3", "end "]);
    expect(events.log).toEqual(["200 bodyless", "end"]);
  });
});
