import { expect, test } from "bun:test";
import { H2_RESET_BURST, MAX_H2_STREAMS } from "../../../src/edge/listener/limits.ts";
import { LIMIT_RULES } from "../../../src/edge/policy/limits.ts";
import { CLIENT_PREFACE, FLAG, FRAME, H2_ERROR, SETTING } from "../../../src/wire/h2/constants.ts";
import { HpackDecoder } from "../../../src/wire/h2/hpack-decoder.ts";
import type { RawHeaders } from "../../../src/wire/headers.ts";
import { pollUntil } from "../../support/poll-until.ts";
import { FrameVisitor, frame, requestFields, requestFrame, type SeenFrame } from "./h2-visitor.ts";
import { answer, HOST, helloOrigin, type Serve, type SmallEdge, startSmallEdge } from "./small-edge.ts";

/** An edge and one visitor that sends frames; `reached` counts requests that got to the connector. */
async function hostile(
  serve: Serve = helloOrigin,
): Promise<{ edge: SmallEdge; visitor: FrameVisitor; reached: () => number } & AsyncDisposable> {
  let reached = 0;
  const edge = await startSmallEdge({
    serve: (stream, connection) => {
      reached += 1;
      serve(stream, connection);
    },
  });
  const visitor = await FrameVisitor.connect(edge.listener.port);
  return {
    edge,
    visitor,
    reached: () => reached,
    [Symbol.asyncDispose]: async () => {
      visitor[Symbol.dispose]();
      await edge[Symbol.asyncDispose]();
    },
  };
}

const NEVER: Serve = (stream) =>
  stream.listen({ onData: () => {}, onEnd: () => {}, onDrain: () => {}, onClose: () => {} });

test("the edge says what it takes", async () => {
  await using both = await hostile();
  const settings = await pollUntil(() => both.visitor.of(FRAME.settings)[0], { what: "SETTINGS" });
  const told = new Map<number, number>();
  for (let i = 0; i < settings.payload.length; i += 6) {
    told.set(settings.payload.readUInt16BE(i), settings.payload.readUInt32BE(i + 2));
  }
  expect(told.get(SETTING.maxConcurrentStreams)).toBe(MAX_H2_STREAMS);
  expect(told.get(SETTING.maxHeaderListSize)).toBeLessThan(100_000);
  expect(told.get(SETTING.enableConnectProtocol)).toBe(1);
});

test.each<{ name: string; bytes: string; code: number }>([
  { name: "a first frame that is not SETTINGS", bytes: frame(FRAME.ping, 0, 0, Array(8).fill(0)), code: 1 },
  { name: "a frame over the limit", bytes: `${frame(FRAME.settings, 0, 0)}\xff\xff\xff\0\0\0\0\0\x01`, code: 6 },
  { name: "PUSH_PROMISE", bytes: frame(FRAME.settings, 0, 0) + frame(FRAME.pushPromise, 4, 1, [0]), code: 1 },
  { name: "DATA on an idle stream", bytes: frame(FRAME.settings, 0, 0) + frame(FRAME.data, 1, 1, [0]), code: 1 },
  { name: "an even stream", bytes: frame(FRAME.settings, 0, 0) + requestFrame(2, requestFields(), true), code: 1 },
  { name: "a broken header block", bytes: frame(FRAME.settings, 0, 0) + frame(FRAME.headers, 5, 1, [0xff]), code: 9 },
  { name: "CONTINUATION alone", bytes: frame(FRAME.settings, 0, 0) + frame(FRAME.continuation, 4, 1, [0]), code: 1 },
  {
    name: "an interrupted block",
    bytes: frame(FRAME.settings, 0, 0) + frame(FRAME.headers, 1, 1, [0]) + frame(6, 0, 0),
    code: 1,
  },
  { name: "too many settings", bytes: frame(FRAME.settings, 0, 0, Array(6 * 33).fill(0)), code: 11 },
])("$name ends the connection with its code", async ({ bytes, code }) => {
  await using edge = await startSmallEdge();
  using visitor = await edge.visit();
  visitor.send(CLIENT_PREFACE + bytes);
  const got = Buffer.from(await visitor.untilOver(), "latin1");
  expect(got[got.length - 14]).toBe(FRAME.goaway);
  expect(got.readUInt32BE(got.length - 4)).toBe(code);
  expect(edge.listener.counters.malformed).toBe(1);
});

test.each<{ name: string; fields: RawHeaders }>([
  { name: "no :path", fields: [":method", "GET", ":scheme", "http", ":authority", HOST] },
  { name: "two :method", fields: [":method", "GET", ...requestFields()] },
  { name: "an unknown pseudo-field", fields: [":x", "1", ...requestFields()] },
  { name: "a :status", fields: [...requestFields(), ":status", "200"] },
  { name: "a pseudo-field after a field", fields: requestFields(["x-a", "1", ":path", "/"]) },
  { name: "an upper-case name", fields: requestFields(["X-A", "1"]) },
  { name: "a name with a colon", fields: requestFields(["a:b", "1"]) },
  { name: "a line end in a value", fields: requestFields(["x-a", "1\r\nx-b: 2"]) },
  { name: "connection", fields: requestFields(["connection", "close"]) },
  { name: "keep-alive", fields: requestFields(["keep-alive", "1"]) },
  { name: "proxy-connection", fields: requestFields(["proxy-connection", "close"]) },
  { name: "transfer-encoding", fields: requestFields(["transfer-encoding", "chunked"]) },
  { name: "upgrade", fields: requestFields(["upgrade", "websocket"]) },
  { name: "te other than trailers", fields: requestFields(["te", "gzip"]) },
  { name: ":protocol without CONNECT", fields: [":protocol", "websocket", ...requestFields()] },
  { name: "CONNECT with a path", fields: [":method", "CONNECT", ":authority", HOST, ":path", "/"] },
])("a request with $name resets its stream alone, and reaches nobody", async ({ fields }) => {
  await using both = await hostile();
  both.visitor.request(1, fields);
  const reset = await pollUntil(() => both.visitor.of(FRAME.rstStream)[0], { what: "RST_STREAM" });
  expect([reset.streamId, reset.payload.readUInt32BE(0)]).toEqual([1, H2_ERROR.protocolError]);
  expect(both.reached()).toBe(0);
  both.visitor.request(3);
  expect(await status(both.visitor, 3)).toBe(200);
});

test.each<{ name: string; fields: RawHeaders; code: number; end?: boolean }>([
  { name: "CONNECT", fields: [":method", "CONNECT", ":authority", "a:443"], code: 501 },
  {
    name: "CONNECT for another protocol",
    fields: [":method", "CONNECT", ":protocol", "connect-udp", ...requestFields().slice(2)],
    code: 501,
  },
  { name: "a method that is none", fields: [":method", "G T", ...requestFields().slice(2)], code: 400 },
  { name: "no host at all", fields: [":method", "GET", ":scheme", "http", ":path", "/"], code: 400 },
  {
    name: "user info",
    fields: [":method", "GET", ":scheme", "http", ":authority", `a@${HOST}`, ":path", "/"],
    code: 400,
  },
  { name: "a path without slash", fields: requestFields([], "x"), code: 400 },
  { name: "an absolute path", fields: requestFields([], "http://a/"), code: 400 },
  { name: "a space in the path", fields: requestFields([], "/a b"), code: 400 },
  { name: "* for GET", fields: requestFields([], "*"), code: 400 },
  { name: "a control byte", fields: requestFields(["x-a", "a\x01"]), code: 400 },
  { name: "a value that ends in a blank", fields: requestFields(["x-a", "a "]), code: 400 },
  { name: "two lengths", fields: requestFields(["content-length", "0", "content-length", "0"]), code: 400 },
  { name: "a signed length", fields: requestFields(["content-length", "+0"]), code: 400 },
  { name: "an endless length", fields: requestFields(["content-length", "9".repeat(20)]), code: 413 },
  { name: "a length and no body", fields: requestFields(["content-length", "7"]), code: 400 },
  {
    name: "fields over the limit",
    fields: requestFields(["x-a", "a".repeat(60_000), "x-b", "b".repeat(35_000)]),
    code: 431,
  },
])("a request with $name is answered with its status, and reaches nobody", async ({ fields, code }) => {
  await using both = await hostile();
  sendLong(both.visitor, 1, fields);
  expect(await status(both.visitor, 1)).toBe(code);
  expect(both.reached()).toBe(0);
  expect(both.edge.listener.counters).toMatchObject({ requests: 0, malformed: 1 });
  both.visitor.request(3);
  expect(await status(both.visitor, 3)).toBe(200);
});

test("streams over the limit are refused; the others are served", async () => {
  const waiting: (() => void)[] = [];
  await using both = await hostile((stream) => void waiting.push(() => answer(stream, { body: "ok" })));
  for (let i = 0; i < MAX_H2_STREAMS + 5; i += 1) both.visitor.request(1 + 2 * i);
  await pollUntil(() => both.visitor.of(FRAME.rstStream).length === 5, { what: "five refusals" });
  expect(both.visitor.of(FRAME.rstStream).map(code)).toEqual(Array(5).fill(H2_ERROR.refusedStream));
  for (const go of waiting) go();
  await pollUntil(() => both.visitor.of(FRAME.headers).length === MAX_H2_STREAMS, { what: "the answers" });
});

test("requests taken back at once end the connection, and every one of them at the connector", async () => {
  let running = 0;
  await using both = await hostile((stream) => {
    running += 1;
    const onClose = (): void => {
      running -= 1;
    };
    stream.listen({ onData: () => {}, onEnd: () => {}, onDrain: () => {}, onClose });
  });
  let text = "";
  for (let i = 0; i < H2_RESET_BURST + 100; i += 1) {
    text += requestFrame(1 + 2 * i, requestFields(), true) + frame(FRAME.rstStream, 0, 1 + 2 * i, [0, 0, 0, 8]);
  }
  both.visitor.raw.send(text);
  await both.visitor.raw.untilOver();
  expect(both.visitor.goaway).toBe(H2_ERROR.enhanceYourCalm);
  await pollUntil(() => running === 0, { what: "nothing runs at the connector" });
  expect(both.reached()).toBeLessThanOrEqual(H2_RESET_BURST + 1);
});

test("requests that the visitor makes the edge reset count the same", async () => {
  await using both = await hostile(NEVER);
  let text = "";
  for (let i = 0; i < H2_RESET_BURST + 100; i += 1) {
    text += requestFrame(1 + 2 * i, requestFields(), true) + frame(FRAME.windowUpdate, 0, 1 + 2 * i, [0, 0, 0, 0]);
  }
  both.visitor.raw.send(text);
  await both.visitor.raw.untilOver();
  expect(both.visitor.goaway).toBe(H2_ERROR.enhanceYourCalm);
});

test.each([
  { name: "PING", bytes: frame(FRAME.ping, 0, 0, Array(8).fill(1)) },
  { name: "SETTINGS", bytes: frame(FRAME.settings, 0, 0) },
  { name: "PRIORITY", bytes: frame(FRAME.priority, 0, 1, [0, 0, 0, 0, 1]) },
  { name: "unknown frames", bytes: frame(0x99, 0, 0) },
])("a flood of $name ends the connection", async ({ bytes }) => {
  await using both = await hostile();
  both.visitor.raw.send(bytes.repeat(2_500));
  await both.visitor.raw.untilOver();
  expect(both.visitor.goaway).toBe(H2_ERROR.enhanceYourCalm);
});

test("a flood of CONTINUATION ends the connection", async () => {
  await using both = await hostile();
  both.visitor.send(FRAME.headers, FLAG.endStream, 1);
  both.visitor.raw.send(frame(FRAME.continuation, 0, 1, Array(100).fill(0)).repeat(2_000));
  await both.visitor.raw.untilOver();
  expect(both.visitor.goaway).toBe(H2_ERROR.enhanceYourCalm);
});

test("a connection without requests is closed when its time is over", async () => {
  await using both = await hostile();
  both.visitor.request(1);
  expect(await status(both.visitor, 1)).toBe(200);
  await both.edge.clock.advance(LIMIT_RULES["idle-timeout"].default - 2_000);
  expect(both.visitor.goaway).toBeUndefined();
  await both.edge.clock.advance(4_000);
  await both.visitor.raw.untilOver();
  expect([both.visitor.goaway, both.visitor.raw.end]).toEqual([H2_ERROR.noError, "ended"]);
});

test("a preface, or a head, that does not come to its end is not waited for", async () => {
  await using edge = await startSmallEdge();
  using started = await edge.visit();
  started.send(CLIENT_PREFACE.slice(0, 10));
  using half = await FrameVisitor.connect(edge.listener.port);
  half.send(FRAME.headers, FLAG.endStream, 1);
  await pollUntil(() => edge.listener.counters.connections === 2 && half.of(FRAME.settings).length > 0, {
    what: "both connections",
  });
  await edge.clock.advance(LIMIT_RULES["header-timeout"].default + 2_000);
  expect(await started.untilOver()).toStartWith("HTTP/1.1 408 ");
  await half.raw.untilOver();
  expect(half.goaway).toBe(H2_ERROR.enhanceYourCalm);
});

test("a body that stands still is answered with 408, but a call's is not", async () => {
  await using both = await hostile(NEVER);
  both.visitor.request(1, requestFields(), false);
  both.visitor.request(3, requestFields(["content-type", "application/grpc+proto"]), false);
  await pollUntil(() => both.reached() === 2, { what: "the requests" });
  await both.edge.clock.advance(125_000);
  expect(await status(both.visitor, 1)).toBe(408);
  expect(both.visitor.frames.filter((seen) => seen.streamId === 3)).toEqual([]);
});

test("a visitor that is silent behind running requests is asked, then given up", async () => {
  await using both = await hostile(NEVER);
  both.visitor.request(1);
  await pollUntil(() => both.reached() === 1, { what: "the request" });
  await both.edge.clock.advance(70_000);
  const ping = await pollUntil(() => both.visitor.of(FRAME.ping)[0], { what: "PING" });
  both.visitor.send(FRAME.ping, FLAG.ack, 0, ping.payload);
  both.visitor.send(FRAME.ping, 0, 0, ping.payload);
  await pollUntil(() => both.visitor.of(FRAME.ping).length === 2, { what: "the answer to our PING" });
  await both.edge.clock.advance(290_000);
  expect(both.visitor.raw.end).toBe("open");
  await both.edge.clock.advance(15_000);
  await both.visitor.raw.untilOver();
});

function code(seen: SeenFrame): number {
  return seen.payload.readUInt32BE(0);
}

/** Waits for the head of this stream's answer and gives its status. */
async function status(visitor: FrameVisitor, streamId: number): Promise<number> {
  const head = await pollUntil(() => visitor.of(FRAME.headers).find((seen) => seen.streamId === streamId), {
    what: `an answer on stream ${streamId}`,
  });
  const decoded = new HpackDecoder(100_000).decode(head.payload, 0, head.payload.length);
  return decoded.kind === "headers" ? Number(decoded.fields[1]) : 0;
}

/** A request whose block is cut into frames as long as the edge takes them. */
function sendLong(visitor: FrameVisitor, streamId: number, fields: RawHeaders): void {
  const block = Buffer.from(requestFrame(streamId, fields, true), "latin1").subarray(9);
  for (let at = 0; at < block.length; at += 16_384) {
    const last = at + 16_384 >= block.length ? FLAG.endHeaders : 0;
    const part = block.subarray(at, at + 16_384);
    if (at === 0) visitor.send(FRAME.headers, FLAG.endStream | last, streamId, part);
    else visitor.send(FRAME.continuation, last, streamId, part);
  }
}
