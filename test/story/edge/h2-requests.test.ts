import { expect, test } from "bun:test";
import { EXPECT_MS } from "../../../src/edge/dispatcher/absences.ts";
import { NO_TRAILERS } from "../../../src/net/channel.ts";
import type { StreamRequest } from "../../../src/transport/port.ts";
import { CLIENT_PREFACE, FRAME } from "../../../src/wire/h2/constants.ts";
import type { RawHeaders } from "../../../src/wire/headers.ts";
import { pollUntil } from "../../support/poll-until.ts";
import { H2Visitor, readAnswer } from "./h2-visitor.ts";
import { answer, bytes, HOST, readBody, type SmallEdge, startSmallEdge } from "./small-edge.ts";

async function serving(
  serve: Parameters<typeof startSmallEdge>[0] = {},
): Promise<{ edge: SmallEdge; visitor: H2Visitor } & AsyncDisposable> {
  const edge = await startSmallEdge(serve);
  const visitor = new H2Visitor(edge.listener.port);
  return {
    edge,
    visitor,
    [Symbol.asyncDispose]: async () => {
      await visitor[Symbol.asyncDispose]();
      await edge[Symbol.asyncDispose]();
    },
  };
}

test("a request over HTTP/2 reaches the connector as one over HTTP/1.1 would", async () => {
  const seen: StreamRequest[] = [];
  await using both = await serving({
    serve: (stream) => {
      seen.push(stream.request);
      answer(stream, { headers: ["Content-Length", "2", "X-Answer", "yes", "Connection", "x-answer"], body: "ok" });
    },
  });
  const got = await both.visitor.ask({
    ":path": "/a%2Fb?x=1",
    "x-own": "1",
    te: "trailers",
    cookie: ["a=1", "b=2"],
    "cf-connecting-ip": "8.8.8.8",
    "x-forwarded-for": "8.8.8.8",
  });
  expect([got.status, got.body, got.headers["content-length"]]).toEqual([200, "ok", "2"]);
  expect(got.headers["cf-ray"]).toMatch(/^[0-9a-f]{16}-TST$/);
  expect(got.headers["x-answer"]).toBeUndefined();
  expect(seen).toHaveLength(1);
  const request = seen[0] as StreamRequest;
  expect([request.kind, request.method, request.authority, request.path, request.bodyless]).toEqual([
    "http",
    "GET",
    HOST,
    "/a%2Fb?x=1",
    true,
  ]);
  const ray = got.headers["cf-ray"] as string;
  expect(pairs(request.headers)).toEqual([
    `Cf-Ray: ${ray}`,
    "Cf-Connecting-Ip: 127.0.0.1",
    "X-Own: 1",
    "Te: trailers",
    "Cookie: a=1; b=2",
    "X-Forwarded-For: 127.0.0.1",
    "X-Forwarded-Proto: http",
    'Cf-Visitor: {"scheme":"http"}',
    "Cdn-Loop: culvert",
  ]);
  expect(both.edge.access).toMatchObject([{ ray, method: "GET", host: HOST, status: 200, error: undefined }]);
  expect(both.edge.listener.counters).toMatchObject({ connections: 1, requests: 1, malformed: 0 });
});

test("a body and trailers go both ways", async () => {
  const bodies: [string, RawHeaders][] = [];
  await using both = await serving({
    serve: (stream) =>
      readBody(stream, (body, trailers) => {
        bodies.push([body, trailers]);
        answer(stream, { body: `got ${body.length}`, trailers: ["X-Sum", "7", "Content-Length", "1"] });
      }),
  });
  const stream = both.visitor.open({ ":method": "POST" }, { waitForTrailers: true } as object);
  stream.on("wantTrailers", () => stream.sendTrailers({ "x-check": "ok", "cf-connecting-ip": "8.8.8.8" }));
  stream.write("x".repeat(100_000));
  stream.end("end");
  const got = await readAnswer(stream);
  expect([got.status, got.body, got.headers["content-length"]]).toEqual([200, "got 100003", undefined]);
  expect(got.trailers).toMatchObject({ "x-sum": "7" });
  expect(got.trailers["content-length"]).toBeUndefined();
  expect(bodies[0]?.[0]).toHaveLength(100_003);
  expect(bodies[0]?.[1]).toEqual(["x-check", "ok"]);
});

test("both directions run side by side", async () => {
  await using both = await serving({
    serve: (stream) => {
      stream.respond({ status: 200, headers: [], source: "origin" });
      stream.listen({
        onData: (chunk) => void stream.write(chunk),
        onEnd: () => stream.end(),
        onDrain: () => {},
        onClose: () => {},
      });
    },
  });
  const stream = both.visitor.open({ ":method": "POST" });
  let got = "";
  stream.on("data", (chunk: Buffer) => {
    got += chunk.toString();
  });
  for (const word of ["one", "two", "three"]) {
    stream.write(word);
    await pollUntil(() => got.endsWith(word), { what: `the echo of ${word}` });
  }
  stream.end();
  await pollUntil(() => stream.closed, { what: "the stream ends" });
  expect([got, stream.rstCode]).toEqual(["onetwothree", 0]);
});

test("interim answers are passed on, and 100-continue is the edge's own", async () => {
  await using both = await serving({
    serve: (stream) => {
      stream.inform(103, ["Link", "</a.css>"]);
      readBody(stream, (body) => answer(stream, { body }));
    },
  });
  const stream = both.visitor.open({ ":method": "POST", expect: "100-continue" });
  const going = Promise.withResolvers<void>();
  stream.once("continue", () => going.resolve());
  const whole = readAnswer(stream);
  await going.promise;
  stream.end("body");
  const got = await whole;
  expect([got.status, got.body, got.informational]).toEqual([200, "body", [100, 103]]);
});

test.each([
  { name: "HEAD", method: "HEAD", status: 200, headers: ["Content-Length", "5"] },
  { name: "204", method: "GET", status: 204, headers: [] },
  { name: "304", method: "GET", status: 304, headers: ["Content-Length", "5"] },
  { name: "Trailers-Only of gRPC", method: "POST", status: 200, headers: ["Grpc-Status", "5"] },
])("an answer without body is one frame: $name", async ({ method, status, headers }) => {
  await using both = await serving({ serve: (stream) => answer(stream, { status, headers }) });
  const stream = both.visitor.open({ ":method": method }, { endStream: true });
  const flags = Promise.withResolvers<number>();
  stream.once("response", (_headers, got: number) => flags.resolve(got));
  const got = await readAnswer(stream);
  expect(got.status).toBe(status);
  expect((await flags.promise) & 1).toBe(1);
});

test.each([
  { name: "an unknown hostname", headers: { ":authority": "other.example.com" }, status: 404 },
  { name: "a loop", headers: { "cdn-loop": Array(8).fill("culvert").join(", ") }, status: 508 },
  { name: "an authority that is no host", headers: { ":authority": "a b" }, status: 400 },
  { name: "a Host that is not the authority", headers: { host: "other.example.com" }, status: 400 },
  { name: "an expectation nobody knows", headers: { expect: "rain" }, status: 417 },
  { name: "too many fields", headers: { cookie: "a=1", "x-many": Array(220).fill("1") }, status: 431 },
  { name: "a path over the limit", headers: { ":path": `/${"a".repeat(17_000)}` }, status: 414 },
])("$name is answered by the edge itself, and the connection goes on", async ({ headers, status }) => {
  await using both = await serving();
  const got = await both.visitor.ask({ accept: "application/json", ...(headers as object) });
  expect(got.status).toBe(status);
  expect(got.body).toContain(got.headers["cf-ray"] as string);
  expect((await both.visitor.ask()).status).toBe(200);
});

test("no connector, and one that is lost before it answered, show as in HTTP/1.1", async () => {
  await using both = await serving({ serve: () => {} });
  const asked = both.visitor.ask();
  await pollUntil(() => both.edge.listener.counters.requests === 1, { what: "the request" });
  both.edge.cut(0);
  // It is expected back for a moment.
  await both.edge.clock.advance(EXPECT_MS);
  expect((await asked).status).toBe(502);
  const later = await both.visitor.ask();
  expect([later.status, later.body]).toEqual([530, expect.stringContaining("error 1033")]);
});

test.each([
  { name: "a shorter body", sent: "abc" },
  { name: "a longer body", sent: "abcdefgh" },
])("$name than Content-Length is refused and aborts the request at the connector", async ({ sent }) => {
  const ends: string[] = [];
  await using both = await serving({
    serve: (stream) =>
      stream.listen({
        onData: () => {},
        onEnd: () => void ends.push("complete"),
        onDrain: () => {},
        onClose: (error) => void ends.push(error === undefined ? "closed" : "aborted"),
      }),
  });
  const got = await both.visitor.ask({ ":method": "POST", "content-length": "5" }, sent).catch((error: Error) => error);
  if (!(got instanceof Error)) expect(got.status).toBe(400);
  await pollUntil(() => ends.length > 0, { what: "the end of the request at the connector" });
  expect(ends).toEqual(["aborted"]);
});

test("an answer that is cut, or is not as long as it said, resets its stream alone", async () => {
  await using both = await serving({
    serve: (stream) => {
      const { path } = stream.request;
      if (path === "/") {
        answer(stream, { body: "whole" });
        return;
      }
      stream.respond({ status: 200, headers: ["Content-Length", "10"], source: "origin" });
      stream.write(bytes(path === "/long" ? "0123456789a" : "01234"));
      stream.end(NO_TRAILERS);
    },
  });
  for (const path of ["/long", "/short"]) {
    await expect(both.visitor.ask({ ":path": path })).rejects.toThrow();
  }
  expect((await both.visitor.ask()).body).toBe("whole");
  expect(both.edge.access.map((entry) => entry.error)).toEqual([
    "The answer is longer than its Content-Length",
    "The answer is shorter than its Content-Length",
    undefined,
  ]);
});

test("a request taken back is aborted at the connector", async () => {
  let aborted: string | undefined;
  await using both = await serving({
    serve: (stream) =>
      stream.listen({
        onData: () => {},
        onEnd: () => {},
        onDrain: () => {},
        onClose: (error) => {
          aborted = error?.code;
        },
      }),
  });
  const stream = both.visitor.open({ ":method": "POST" });
  stream.on("error", () => {});
  await pollUntil(() => both.edge.listener.counters.requests === 1, { what: "the request" });
  stream.close(8);
  await pollUntil(() => aborted !== undefined, { what: "the abort" });
  expect(both.edge.access).toMatchObject([{ status: undefined, error: "The visitor took the request back" }]);
});

test("an answer before the whole request tells the visitor to stop", async () => {
  await using both = await serving({ serve: (stream) => answer(stream, { status: 403, body: "no" }) });
  const stream = both.visitor.open({ ":method": "POST" });
  stream.write("the start");
  const got = await readAnswer(stream);
  expect([got.status, got.body, stream.rstCode]).toEqual([403, "no", 0]);
  expect((await both.visitor.ask()).status).toBe(403);
});

test("a WebSocket over HTTP/2 carries bytes both ways (RFC 8441)", async () => {
  const seen: StreamRequest[] = [];
  await using both = await serving({
    serve: (stream) => {
      seen.push(stream.request);
      if (stream.request.path === "/no") {
        answer(stream, { status: 403, body: "no" });
        return;
      }
      const headers = ["Upgrade", "websocket", "Sec-WebSocket-Accept", "x", "Sec-WebSocket-Protocol", "chat"];
      stream.respond({ status: 101, headers, source: "origin" });
      stream.listen({
        onData: (chunk) => void stream.write(chunk),
        onEnd: () => stream.end(),
        onDrain: () => {},
        onClose: () => {},
      });
    },
  });
  const { session } = both.visitor;
  await new Promise<void>((resolve) => session.once("remoteSettings", () => resolve()));
  const connect = { ":method": "CONNECT", ":protocol": "websocket", ":scheme": "http", "sec-websocket-version": "13" };
  const stream = both.visitor.open({ ...connect, "sec-websocket-protocol": "chat" });
  const whole = readAnswer(stream);
  stream.write("ping");
  stream.end("pong");
  const got = await whole;
  expect([got.status, got.body]).toEqual([200, "pingpong"]);
  expect(got.headers).toMatchObject({ "sec-websocket-protocol": "chat" });
  expect(got.headers["sec-websocket-accept"]).toBeUndefined();
  expect(seen[0]).toMatchObject({ kind: "websocket", method: "GET", bodyless: false });
  expect(pairs(seen[0]?.headers ?? []).join("\n")).toMatch(/^Sec-Websocket-Key: [A-Za-z0-9+/]{22}==$/im);
  const refused = await readAnswer(both.visitor.open({ ...connect, ":path": "/no" }));
  expect([refused.status, refused.body]).toEqual([403, "no"]);
});

test("HTTP/1.1 and HTTP/2 share a port, however the first bytes are cut", async () => {
  await using edge = await startSmallEdge();
  using first = await edge.visit();
  for (const char of "POST / HTTP/1.1\r\nHost: app.example.com\r\nContent-Length: 2\r\n\r\nab") first.send(char);
  expect(await first.until(" ab")).toContain("HTTP/1.1 200");
  using second = await edge.visit();
  for (const char of CLIENT_PREFACE) {
    second.send(char);
    await new Promise((resolve) => setImmediate(resolve));
  }
  second.send(`\0\0\0${String.fromCharCode(FRAME.settings)}\0\0\0\0\0`);
  await pollUntil(() => second.received.length >= 9, { what: "SETTINGS of the edge" });
  expect(second.received.charCodeAt(3)).toBe(FRAME.settings);
});

function pairs(headers: RawHeaders): string[] {
  return Array.from({ length: headers.length / 2 }, (_, i) => `${headers[2 * i]}: ${headers[2 * i + 1]}`);
}
