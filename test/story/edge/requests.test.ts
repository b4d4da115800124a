import { expect, test } from "bun:test";
import { TunnelError } from "../../../src/core/errors.ts";
import type { IncomingStream } from "../../../src/transport/port.ts";
import { headerValue, headerValues, type RawHeaders } from "../../../src/wire/headers.ts";
import { leakCheck } from "../../support/leak-check.ts";
import { pollUntil } from "../../support/poll-until.ts";
import { settle } from "../../support/virtual-clock.ts";
import { parseAnswer } from "./raw-visitor.ts";
import { answer, bytes, HOST, helloOrigin, readBody, type Serve, startSmallEdge } from "./small-edge.ts";

const get = (path = "/", fields = "", host = HOST): string => `GET ${path} HTTP/1.1\r\nHost: ${host}\r\n${fields}\r\n`;

test.each([
  { host: HOST, status: 200 },
  { host: "APP.Example.COM:8080", status: 200 },
  { host: "app.example.com.", status: 200 },
  { host: "a.wild.example.com", status: 200 },
  { host: "a.b.wild.example.com", status: 200 },
  { host: "wild.example.com", status: 404 },
  { host: "other.example.com", status: 404 },
])("a request for $host is answered with $status", async ({ host, status }) => {
  await using edge = await startSmallEdge();
  using visitor = await edge.visit();
  visitor.send(get("/a%2Fb?x=1", "", host));
  const got = parseAnswer(await visitor.until("\r\n\r\n"));
  expect(got.status).toBe(status);
  if (status === 200) {
    await visitor.until(`GET ${host} /a%2Fb?x=1 `);
    expect(got.headers["cf-ray"]).toMatch(/^[0-9a-f]{16}-TST$/);
  }
});

test("a tunnel without connections is answered with 530 and Cloudflare's error number", async () => {
  await using edge = await startSmallEdge({ connections: 0 });
  using visitor = await edge.visit();
  visitor.send(get("/", "Accept: application/json\r\n"));
  await visitor.until("}");
  const got = parseAnswer(visitor.received);
  expect(got.status).toBe(530);
  expect(JSON.parse(got.body)).toMatchObject({ success: false, errors: [{ code: 1033 }], ray: got.headers["cf-ray"] });
});

test("one connection carries several requests, those that the edge answers itself among them", async () => {
  await using edge = await startSmallEdge();
  using visitor = await edge.visit();
  visitor.send(get("/1"));
  await visitor.until("/1 ");
  visitor.send(get("/2", "", "nobody.example.com"));
  await visitor.until("404");
  visitor.send(get("/3"));
  await visitor.until(" /3 ");
  expect(visitor.end).toBe("open");
});

test("pipelined requests are answered in order", async () => {
  await using edge = await startSmallEdge();
  using visitor = await edge.visit();
  const unknown = get("/x", "", "nobody.example.com");
  const post = `POST /2 HTTP/1.1\r\nHost: ${HOST}\r\nContent-Length: 3\r\n\r\nabc`;
  visitor.send(get("/1") + post + unknown + get("/3") + get("/4", "Connection: close\r\n"));
  const text = await visitor.untilOver();
  const order = ["/1 ", "/2 abc", "404", "/3 ", "/4 "].map((mark) => text.indexOf(mark));
  expect(order).toEqual([...order].sort((a, b) => a - b));
  expect(Math.min(...order)).toBeGreaterThan(0);
  expect(visitor.end).toBe("ended");
});

test("a visitor that ends its direction gets its answers and then the end", async () => {
  await using edge = await startSmallEdge();
  using visitor = await edge.visit();
  visitor.send(get("/1") + get("/2"));
  visitor.finish();
  const text = await visitor.untilOver();
  expect(text).toContain(" /1 ");
  expect(text).toContain(" /2 ");
  expect(visitor.end).toBe("ended");
});

test("a body goes through in both framings, with its trailers", async () => {
  const seen: { body: string; trailers: RawHeaders }[] = [];
  await using edge = await startSmallEdge({
    serve: (stream) =>
      readBody(stream, (body, trailers) => {
        seen.push({ body, trailers });
        answer(stream, { body: "fine", trailers: ["X-Sum", "9", "Content-Length", "5"] });
      }),
  });
  using visitor = await edge.visit();
  visitor.send(`POST / HTTP/1.1\r\nHost: ${HOST}\r\nContent-Length: 5\r\n\r\nhello`);
  await visitor.until("\r\n0\r\n");
  visitor.send(`POST / HTTP/1.1\r\nHost: ${HOST}\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n`);
  visitor.send("3\r\nabc\r\n2;ext=1\r\nde\r\n0\r\nX-Mine: 1\r\n\r\n");
  const text = await visitor.untilOver();
  expect(seen).toEqual([
    { body: "hello", trailers: [] },
    { body: "abcde", trailers: ["X-Mine", "1"] },
  ]);
  // The framing field among the trailers must not reach the visitor.
  expect(text).toContain("4\r\nfine\r\n0\r\nX-Sum: 9\r\n\r\n");
});

test.each([
  { method: "HEAD", status: 200, headers: ["Content-Length", "10"], want: "10" },
  { method: "GET", status: 304, headers: ["Content-Length", "10"], want: "10" },
  { method: "GET", status: 204, headers: ["Content-Length", "0"], want: undefined },
  { method: "GET", status: 204, headers: [], want: undefined },
])("$method answered with $status carries no body, and the next answer is found", async (row) => {
  const serve: Serve = (stream, connection) => {
    if (stream.request.path === "/next") helloOrigin(stream, connection);
    // A connector that sends a body nevertheless must not shift the next answer.
    else answer(stream, { status: row.status, headers: row.headers, body: "0123456789" });
  };
  await using edge = await startSmallEdge({ serve });
  using visitor = await edge.visit();
  visitor.send(`${row.method} / HTTP/1.1\r\nHost: ${HOST}\r\n\r\n`);
  const got = parseAnswer(await visitor.until("\r\n\r\n"));
  expect(got).toMatchObject({ status: row.status, body: "" });
  expect(got.headers["content-length"]).toBe(row.want as string);
  expect(got.headers["transfer-encoding"]).toBeUndefined();
  visitor.send(get("/next"));
  expect(await visitor.until(" /next ")).not.toContain("0123456789");
});

test.each([
  { name: "closes", fields: "", connection: "close", ends: true },
  { name: "keeps its connection when it asks", fields: "Connection: keep-alive\r\n", connection: "close", ends: true },
])("an answer of unknown length to HTTP/1.0 lasts until the end: $name", async ({ fields }) => {
  await using edge = await startSmallEdge({ serve: (stream) => answer(stream, { body: "abc" }) });
  using visitor = await edge.visit();
  visitor.send(`GET / HTTP/1.0\r\nHost: ${HOST}\r\n${fields}\r\n`);
  const got = parseAnswer(await visitor.untilOver());
  expect(got).toMatchObject({ status: 200, body: "abc" });
  expect(got.headers).toMatchObject({ connection: "close" });
  expect(got.headers["transfer-encoding"]).toBeUndefined();
  expect(visitor.end).toBe("ended");
});

test("HTTP/1.0 with keep-alive and a known length goes on", async () => {
  await using edge = await startSmallEdge();
  using visitor = await edge.visit();
  for (const path of ["/1", "/2"]) {
    visitor.send(`GET ${path} HTTP/1.0\r\nHost: ${HOST}\r\nConnection: keep-alive\r\n\r\n`);
    await visitor.until(` ${path} `);
  }
  expect(visitor.end).toBe("open");
});

test("hop-by-hop fields end at the edge, both ways", async () => {
  let seen: RawHeaders = [];
  await using edge = await startSmallEdge({
    serve: (stream) => {
      seen = stream.request.headers;
      const headers = ["Connection", "X-Gone", "X-Gone", "1", "Keep-Alive", "timeout=5", "X-Stays", "2"];
      answer(stream, { headers: [...headers, "Set-Cookie", "a=1", "Set-Cookie", "b=2"] });
    },
  });
  using visitor = await edge.visit();
  visitor.send(get("/", "Connection: X-Mine, keep-alive\r\nX-Mine: 1\r\nTE: trailers, gzip\r\nX-Kept: 2\r\n"));
  const text = await visitor.until("\r\n\r\n");
  const got = parseAnswer(text);
  expect(headerValue(seen, "x-mine")).toBeUndefined();
  expect(headerValue(seen, "connection")).toBeUndefined();
  expect(headerValue(seen, "te")).toBe("trailers");
  expect(headerValue(seen, "x-kept")).toBe("2");
  expect(got.headers).toMatchObject({ "x-stays": "2", "set-cookie": "a=1, b=2" });
  expect(got.headers["x-gone"]).toBeUndefined();
  expect(got.headers["keep-alive"]).toBeUndefined();
});

test("Expect: 100-continue is answered by the edge and not passed on", async () => {
  let seen: RawHeaders = [];
  await using edge = await startSmallEdge({
    serve: (stream, connection) => {
      seen = stream.request.headers;
      helloOrigin(stream, connection);
    },
  });
  using visitor = await edge.visit();
  visitor.send(`POST /up HTTP/1.1\r\nHost: ${HOST}\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n`);
  await visitor.until("HTTP/1.1 100 Continue\r\n\r\n");
  visitor.send("ok");
  await visitor.until("/up ok");
  expect(headerValue(seen, "expect")).toBeUndefined();
});

test("Expect: 100-continue for nobody's hostname gets its 404 without an invitation to send", async () => {
  await using edge = await startSmallEdge();
  using visitor = await edge.visit();
  visitor.send("POST / HTTP/1.1\r\nHost: nobody\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
  const text = await visitor.untilOver();
  expect(text).toStartWith("HTTP/1.1 404 ");
  expect(visitor.end).toBe("ended");
});

test("103 goes to HTTP/1.1 before the answer, and never to HTTP/1.0", async () => {
  const serve: Serve = (stream) => {
    stream.inform(103, ["Link", "</a.css>; rel=preload"]);
    answer(stream, { headers: ["Content-Length", "2"], body: "ok" });
  };
  await using edge = await startSmallEdge({ serve });
  using modern = await edge.visit();
  modern.send(get());
  expect(await modern.until("ok")).toMatch(/^HTTP\/1\.1 103 \r\nLink: <\/a\.css>; rel=preload\r\n\r\nHTTP\/1\.1 200 /);
  using old = await edge.visit();
  old.send(`GET / HTTP/1.0\r\nHost: ${HOST}\r\n\r\n`);
  expect(await old.untilOver()).toStartWith("HTTP/1.1 200 ");
});

test("an origin that breaks off within its answer cuts the visitor's connection: no clean end", async () => {
  const serve: Serve = (stream) => {
    stream.respond({ status: 200, headers: [], source: "origin" });
    stream.write(bytes("half"));
    stream.listen({ onData: () => {}, onEnd: () => {}, onDrain: () => {}, onClose: () => {} });
    streams.push(stream);
  };
  const streams: IncomingStream[] = [];
  await using edge = await startSmallEdge({ serve });
  using visitor = await edge.visit();
  visitor.send(get());
  await visitor.until("half");
  streams[0]?.abort(new TunnelError("origin.reset", "gone"));
  const text = await visitor.untilOver();
  expect(visitor.end).toBe("reset");
  expect(text).not.toContain("\r\n0\r\n");
  expect(edge.access).toMatchObject([{ status: 200, error: expect.any(String) }]);
});

test.each([
  { name: "shorter", length: "10" },
  { name: "longer", length: "2" },
])("an answer $name than its Content-Length cuts the connection", async ({ length }) => {
  const serve: Serve = (stream) => answer(stream, { headers: ["Content-Length", length], body: "12345" });
  await using edge = await startSmallEdge({ serve });
  using visitor = await edge.visit();
  visitor.send(get());
  await visitor.untilOver();
  expect(visitor.end).toBe("reset");
});

test.each([
  { name: "a line break in a value", headers: ["X-Evil", "a\r\nSet-Cookie: b=1"] },
  { name: "a colon in a name", headers: ["X:Evil", "a"] },
  { name: "a length that is no number", headers: ["Content-Length", "1e3"] },
  { name: "an interim status as the final one", status: 199, headers: [] },
  { name: "an upgrade nobody asked for", status: 101, headers: ["Upgrade", "x"] },
])("an answer with $name becomes 502", async ({ headers, status }) => {
  await using edge = await startSmallEdge({ serve: (stream) => answer(stream, { status: status ?? 200, headers }) });
  using visitor = await edge.visit();
  visitor.send(get());
  const text = await visitor.until("\r\n\r\n");
  expect(text).toStartWith("HTTP/1.1 502 ");
  expect(text).not.toContain("b=1");
});

test("a connector's own refusal becomes the edge's page", async () => {
  const serve: Serve = (stream) => {
    stream.respond({ status: 502, headers: [], source: "cloudflared" }, { bodyless: true });
  };
  await using edge = await startSmallEdge({ serve });
  using visitor = await edge.visit();
  visitor.send(get("/", "Accept: text/html\r\n"));
  const text = await visitor.until("</html>");
  expect(parseAnswer(text)).toMatchObject({ status: 502, headers: { "content-type": "text/html; charset=utf-8" } });
});

test("a visitor that goes away aborts its request", async () => {
  await using _ = leakCheck();
  const ends: (TunnelError | undefined)[] = [];
  let started = false;
  const serve: Serve = (stream) => {
    started = true;
    stream.listen({ onData: () => {}, onEnd: () => {}, onDrain: () => {}, onClose: (error) => void ends.push(error) });
  };
  await using edge = await startSmallEdge({ serve });
  using visitor = await edge.visit();
  visitor.send(get());
  await pollUntil(() => started, { what: "the request arrives" });
  visitor.reset();
  await pollUntil(() => ends.length === 1, { what: "the request is aborted" });
  expect(ends[0]).toBeInstanceOf(TunnelError);
  await pollUntil(() => edge.connections[0]?.session.streamCount === 0, { what: "the stream is gone" });
});

test("an early answer is read although the upload still runs, and the connection ends", async () => {
  const ends: unknown[] = [];
  const serve: Serve = (stream) => {
    stream.listen({ onData: () => {}, onEnd: () => {}, onDrain: () => {}, onClose: (error) => void ends.push(error) });
    answer(stream, { status: 413, headers: ["Content-Length", "3"], body: "big" });
  };
  await using edge = await startSmallEdge({ serve });
  using visitor = await edge.visit();
  visitor.send(`POST / HTTP/1.1\r\nHost: ${HOST}\r\nContent-Length: 100000000\r\n\r\n`);
  visitor.send("x".repeat(200_000));
  await visitor.until("big");
  visitor.send("x".repeat(200_000));
  const text = await visitor.untilOver();
  expect(text).toStartWith("HTTP/1.1 413 ");
  expect(visitor.end).toBe("ended");
  await pollUntil(() => ends.length === 1, { what: "the upload is aborted" });
  // Somebody who goes on sending is not listened to for ever.
  await edge.clock.advance(6_000);
  await pollUntil(
    () => {
      visitor.send("x".repeat(1000));
      return visitor.end === "reset";
    },
    { what: "the lingering connection is cut" },
  );
});

test("a slow visitor gets all of an answer that ends with its connection", async () => {
  const size = 3_000_000;
  const serve: Serve = (stream) => {
    stream.respond({ status: 200, headers: [], source: "origin" });
    let left = size;
    const more = (): void => {
      while (left > 0) {
        const count = Math.min(left, 60_000);
        left -= count;
        if (!stream.write(bytes("x".repeat(count)))) return;
      }
      stream.end();
    };
    stream.listen({ onData: () => {}, onEnd: () => {}, onDrain: more, onClose: () => {} });
    more();
  };
  await using edge = await startSmallEdge({ serve });
  using visitor = await edge.visit();
  visitor.pause();
  visitor.send(`GET / HTTP/1.0\r\nHost: ${HOST}\r\n\r\n`);
  await pollUntil(() => edge.listener.counters.requests === 1, { what: "the request arrives" });
  // Longer than any linger for visitors that still send, shorter than the limit for those that never read.
  for (let i = 0; i < 30; i += 1) await edge.clock.advance(1_000);
  visitor.resume();
  await pollUntil(() => visitor.end !== "open", { what: "the answer ends" });
  expect(visitor.end).toBe("ended");
  expect(parseAnswer(visitor.received).body.length).toBe(size);
});

test("a request body waits for a slow origin without being held against the visitor", async () => {
  const streams: IncomingStream[] = [];
  await using edge = await startSmallEdge({ serve: (stream) => void streams.push(stream) });
  using visitor = await edge.visit();
  const size = 4_000_000;
  visitor.send(`POST / HTTP/1.1\r\nHost: ${HOST}\r\nContent-Length: ${size}\r\n\r\n${"x".repeat(size)}`);
  await pollUntil(() => streams.length === 1, { what: "the request arrives" });
  for (let i = 0; i < 200; i += 1) await edge.clock.advance(1_000);
  let length = 0;
  readBody(streams[0] as IncomingStream, (body) => {
    length = body.length;
    answer(streams[0] as IncomingStream, { headers: ["Content-Length", "4"], body: "done" });
  });
  await visitor.until("done");
  expect(length).toBe(size);
});

test("a stalled upload is answered with 408", async () => {
  await using edge = await startSmallEdge();
  using visitor = await edge.visit();
  visitor.send(`POST / HTTP/1.1\r\nHost: ${HOST}\r\nContent-Length: 10\r\n\r\nabc`);
  await pollUntil(() => edge.listener.counters.requests === 1, { what: "the request arrives" });
  await settle();
  for (let i = 0; i < 121; i += 1) await edge.clock.advance(1_000);
  expect(await visitor.untilOver()).toStartWith("HTTP/1.1 408 ");
  await pollUntil(() => edge.connections[0]?.session.streamCount === 0, { what: "the stream is gone" });
});

test("an upload may rest as long as it likes once the answer has begun", async () => {
  const serve: Serve = (stream) => {
    stream.respond({ status: 200, headers: [], source: "origin" });
    stream.listen({
      onData: (chunk) => void stream.write(chunk),
      onEnd: () => stream.end(),
      onDrain: () => {},
      onClose: () => {},
    });
  };
  await using edge = await startSmallEdge({ serve });
  using visitor = await edge.visit();
  visitor.send(`POST / HTTP/1.1\r\nHost: ${HOST}\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n`);
  await visitor.until("one");
  for (let i = 0; i < 300; i += 1) await edge.clock.advance(1_000);
  visitor.send("3\r\ntwo\r\n0\r\n\r\n");
  await visitor.until("two\r\n0\r\n\r\n");
});

test("a head that trickles in is answered with 408 however often a byte comes", async () => {
  await using edge = await startSmallEdge();
  using visitor = await edge.visit();
  visitor.send("GET / HTTP/1.1\r\n");
  await pollUntil(() => edge.listener.counters.connections === 1, { what: "the visitor is there" });
  for (let i = 0; i < 17; i += 1) {
    visitor.send(`X-${i}: 1\r\n`);
    await edge.clock.advance(1_000);
  }
  expect(await visitor.untilOver()).toStartWith("HTTP/1.1 408 ");
  expect(edge.listener.counters.timeouts).toBe(1);
});

test("an idle connection ends without a word", async () => {
  await using edge = await startSmallEdge();
  using visitor = await edge.visit();
  visitor.send(get("/1"));
  const before = await visitor.until(" /1 ");
  for (let i = 0; i < 77; i += 1) await edge.clock.advance(1_000);
  expect(await visitor.untilOver()).toBe(before);
  expect(visitor.end).toBe("ended");
});

test("the edge's own fields go down the tunnel, and nobody else's", async () => {
  let seen: RawHeaders = [];
  await using edge = await startSmallEdge({
    serve: (stream, connection) => {
      seen = stream.request.headers;
      helloOrigin(stream, connection);
    },
  });
  using visitor = await edge.visit();
  visitor.send(get("/", "X-Forwarded-For: 6.6.6.6\r\nCf-Connecting-IP: 6.6.6.6\r\ncookie: a=1\r\n"));
  const got = parseAnswer(await visitor.until("\r\n\r\n"));
  expect(headerValues(seen, "x-forwarded-for")).toEqual(["127.0.0.1"]);
  expect(headerValues(seen, "cf-connecting-ip")).toEqual(["127.0.0.1"]);
  expect(headerValues(seen, "x-forwarded-proto")).toEqual(["http"]);
  expect(headerValues(seen, "cf-visitor")).toEqual(['{"scheme":"http"}']);
  expect(headerValues(seen, "cf-ray")).toEqual([got.headers["cf-ray"] as string]);
  expect(seen).toContain("cookie");
});

test("a request that goes in circles is answered with 508", async () => {
  await using edge = await startSmallEdge();
  using visitor = await edge.visit();
  visitor.send(get("/", `Cdn-Loop: ${Array(8).fill("culvert").join(", ")}\r\n`));
  expect(await visitor.until("\r\n\r\n")).toStartWith("HTTP/1.1 508 ");
});

test("closing lets a running request end, closes idle connections and takes no new ones", async () => {
  const streams: IncomingStream[] = [];
  await using edge = await startSmallEdge({ serve: (stream) => void streams.push(stream) });
  using idle = await edge.visit();
  using busy = await edge.visit();
  busy.send(get("/busy"));
  await pollUntil(() => streams.length === 1, { what: "the request arrives" });
  await pollUntil(() => edge.listener.counters.connections === 2, { what: "both are there" });
  let closed = false;
  void edge.listener.close().then(() => {
    closed = true;
  });
  await idle.untilOver();
  idle.finish();
  expect(closed).toBe(false);
  answer(streams[0] as IncomingStream, { headers: ["Content-Length", "2"], body: "ok" });
  const got = parseAnswer(await busy.untilOver());
  expect(got).toMatchObject({ body: "ok", headers: { connection: "close" } });
  busy.finish();
  await pollUntil(() => closed, { what: "the listener is closed" });
  await expect(edge.visit()).rejects.toThrow();
});

test("a store that fails costs a request, not the edge", async () => {
  await using edge = await startSmallEdge();
  const broken = edge.store.hostnames;
  const { lookUp } = broken;
  using visitor = await edge.visit();
  broken.lookUp = () => {
    throw new TunnelError("store.failed", "disk");
  };
  visitor.send(get("/1"));
  expect(await visitor.until("\r\n\r\n")).toStartWith("HTTP/1.1 503 ");
  broken.lookUp = lookUp;
  visitor.send(get("/2"));
  await visitor.until(" /2 ");
});

test("a visitor that leaves a silent event stream is given up, one that half-closed reads an answer that moves", async () => {
  const streams: IncomingStream[] = [];
  const ends: (TunnelError | undefined)[] = [];
  const serve: Serve = (stream) => {
    stream.listen({ onData: () => {}, onEnd: () => {}, onDrain: () => {}, onClose: (error) => ends.push(error) });
    stream.respond({ status: 200, headers: ["Content-Type", "text/event-stream"], source: "origin" });
    stream.write(bytes("data: first\n\n"));
    streams.push(stream);
  };
  await using edge = await startSmallEdge({ serve });
  using visitor = await edge.visit();
  visitor.send(get());
  await visitor.until("first");
  visitor.finish();
  for (let i = 0; i < 3; i += 1) await edge.clock.advance(1_000);
  streams[0]?.write(bytes("data: second\n\n"));
  await visitor.until("second");
  for (let i = 0; i < 4; i += 1) await edge.clock.advance(1_000);
  expect(ends).toEqual([]);
  for (let i = 0; i < 3; i += 1) await edge.clock.advance(1_000);
  await pollUntil(() => ends.length === 1, { what: "the origin is told" });
  expect(ends[0]).toBeInstanceOf(TunnelError);
});
