import { expect, test } from "bun:test";
import { VISITOR_H2_LIMITS } from "../../../src/edge/listener/h2-connection.ts";
import { NO_TRAILERS } from "../../../src/net/channel.ts";
import type { IncomingStream } from "../../../src/transport/port.ts";
import { FLAG, FRAME, H2_ERROR, SETTING } from "../../../src/wire/h2/constants.ts";
import { pollUntil } from "../../support/poll-until.ts";
import { FrameVisitor, H2Visitor, readAnswer, requestFields } from "./h2-visitor.ts";
import { answer, startSmallEdge } from "./small-edge.ts";

const CHUNK = new Uint8Array(64 * 1024).fill(7);

/** Sends bytes for as long as there is room; counts what it sent. */
function pour(stream: IncomingStream, sent: { bytes: number }, limit: number): void {
  const go = (): void => {
    while (sent.bytes < limit) {
      sent.bytes += CHUNK.length;
      if (!stream.write(CHUNK)) return;
    }
    stream.end();
  };
  stream.respond({ status: 200, headers: [], source: "origin" });
  stream.listen({ onData: () => {}, onEnd: () => {}, onDrain: go, onClose: () => {} });
  go();
}

test("a reader that takes nothing holds its own origin back, and nobody else", async () => {
  const slow = { bytes: 0 };
  await using edge = await startSmallEdge({
    serve: (stream) => {
      if (stream.request.path === "/slow") pour(stream, slow, 256 * 1024 * 1024);
      else pour(stream, { bytes: 0 }, 4 * 1024 * 1024);
    },
  });
  await using visitor = new H2Visitor(edge.listener.port);
  const stuck = visitor.open({ ":path": "/slow" });
  stuck.on("error", () => {});
  await new Promise((resolve) => stuck.once("response", resolve));
  // No "data" listener: the stream's window runs out.
  const got = await Promise.all([1, 2, 3].map(() => visitor.ask()));
  expect(got.map((each) => each.body.length)).toEqual(Array(3).fill(4 * 1024 * 1024));
  expect(slow.bytes).toBeLessThan(4 * 1024 * 1024);
  const before = slow.bytes;
  let read = 0;
  stuck.on("data", (chunk: Buffer) => {
    read += chunk.length;
  });
  await pollUntil(() => slow.bytes > before + 8 * 1024 * 1024 && read > before, { what: "the origin goes on" });
  stuck.close();
});

test("an upload that its origin does not read is held, and the next one passes", async () => {
  let first: IncomingStream | undefined;
  let firstBytes = 0;
  await using edge = await startSmallEdge({
    serve: (stream) => {
      if (stream.request.path === "/stuck") {
        first = stream;
        stream.pause();
        stream.listen({
          onData: (chunk) => {
            firstBytes += chunk.length;
          },
          onEnd: () => answer(stream, { body: "late" }),
          onDrain: () => {},
          onClose: () => {},
        });
        stream.pause();
        return;
      }
      let bytes = 0;
      stream.listen({
        onData: (chunk) => {
          bytes += chunk.length;
        },
        onEnd: () => answer(stream, { body: String(bytes) }),
        onDrain: () => {},
        onClose: () => {},
      });
    },
  });
  await using visitor = new H2Visitor(edge.listener.port);
  const size = 8 * 1024 * 1024;
  const stuck = visitor.open({ ":method": "POST", ":path": "/stuck" });
  const late = readAnswer(stuck);
  stuck.end(Buffer.alloc(size));
  await pollUntil(() => first !== undefined, { what: "the first upload" });
  const passed = await visitor.ask({ ":method": "POST" }, "x".repeat(size));
  expect(passed.body).toBe(String(size));
  first?.resume();
  expect((await late).body).toBe("late");
  expect(firstBytes).toBe(size);
});

test("a visitor that sends past its window loses the stream", async () => {
  await using edge = await startSmallEdge({ serve: (stream) => stream.pause() });
  using visitor = await FrameVisitor.connect(edge.listener.port);
  visitor.request(1, requestFields(), false);
  // The tunnel takes some of it before it holds the visitor back; the window grows with that at most.
  const frames = (2 * VISITOR_H2_LIMITS.maxStreamWindowBytes) / 16_384;
  for (let i = 0; i < frames; i += 1) visitor.send(FRAME.data, 0, 1, new Uint8Array(16_384));
  const reset = await pollUntil(() => visitor.of(FRAME.rstStream)[0], { what: "RST_STREAM" });
  expect(reset.payload.readUInt32BE(0)).toBe(H2_ERROR.flowControlError);
});

test("a thousand requests at once are all answered", async () => {
  await using edge = await startSmallEdge({
    serve: (stream) => answer(stream, { body: stream.request.path.slice(1).repeat(100) }),
  });
  await using visitor = new H2Visitor(edge.listener.port);
  await new Promise<void>((resolve) => visitor.session.once("remoteSettings", () => resolve()));
  const answers = await Promise.all(Array.from({ length: 1_000 }, (_, i) => visitor.ask({ ":path": `/${i}` })));
  for (const [i, got] of answers.entries()) {
    expect([got.status, got.body]).toEqual([200, String(i).repeat(100)]);
  }
  expect(edge.listener.counters).toMatchObject({ connections: 1, requests: 1_000 });
});

test("closing lets running requests finish, takes no more, and ends idle connections", async () => {
  const waiting: IncomingStream[] = [];
  await using edge = await startSmallEdge({ serve: (stream) => void waiting.push(stream) });
  await using idle = new H2Visitor(edge.listener.port);
  await new Promise<void>((resolve) => idle.session.once("remoteSettings", () => resolve()));
  await using busy = new H2Visitor(edge.listener.port);
  const running = busy.ask();
  await pollUntil(() => waiting.length === 1, { what: "the request" });
  const stream = waiting[0] as IncomingStream;
  stream.respond({ status: 200, headers: [], source: "origin" });
  stream.write(new TextEncoder().encode("be"));
  let closed = false;
  const closing = edge.listener.close().then(() => {
    closed = true;
  });
  await pollUntil(() => idle.session.closed, { what: "the idle connection ends" });
  await pollUntil(() => busy.goaway === 0, { what: "GOAWAY" });
  expect(() => busy.open()).toThrow();
  expect(closed).toBe(false);
  stream.write(new TextEncoder().encode("fore"));
  stream.end(NO_TRAILERS);
  expect((await running).body).toBe("before");
  await pollUntil(() => busy.session.closed, { what: "the busy connection ends" });
  await closing;
  expect(waiting).toHaveLength(1);
});

test("a request that crosses our GOAWAY is refused untouched", async () => {
  const waiting: IncomingStream[] = [];
  await using edge = await startSmallEdge({ serve: (stream) => void waiting.push(stream) });
  using visitor = await FrameVisitor.connect(edge.listener.port);
  visitor.request(1);
  await pollUntil(() => waiting.length === 1, { what: "the request" });
  const closing = edge.listener.close();
  await pollUntil(() => visitor.goaway === 0, { what: "GOAWAY" });
  visitor.request(3);
  const reset = await pollUntil(() => visitor.of(FRAME.rstStream)[0], { what: "RST_STREAM" });
  expect([reset.streamId, reset.payload.readUInt32BE(0)]).toEqual([3, 7]);
  answer(waiting[0] as IncomingStream, { body: "ok" });
  await visitor.raw.untilOver();
  expect(visitor.frames.findLast((seen) => seen.type === FRAME.data)?.flags).toBe(FLAG.endStream);
  visitor.raw.finish();
  await closing;
  expect(waiting).toHaveLength(1);
});

test("a visitor with no window gets its head, and the body when it opens one", async () => {
  await using edge = await startSmallEdge({ serve: (stream) => answer(stream, { body: "0123456789" }) });
  using visitor = await FrameVisitor.connect(edge.listener.port);
  visitor.send(FRAME.settings, 0, 0, [0, SETTING.initialWindowSize, 0, 0, 0, 0]);
  visitor.request(1);
  await pollUntil(() => visitor.of(FRAME.headers).length === 1, { what: "the head" });
  expect(visitor.of(FRAME.data)).toEqual([]);
  for (let i = 0; i < 10; i += 1) visitor.send(FRAME.windowUpdate, 0, 1, [0, 0, 0, 1]);
  await pollUntil(() => visitor.of(FRAME.data).at(-1)?.flags === FLAG.endStream, { what: "the end" });
  expect(Buffer.concat(visitor.of(FRAME.data).map((seen) => seen.payload)).toString()).toBe("0123456789");
});

test("the stream's window grows with an origin that reads", async () => {
  let received = 0;
  await using edge = await startSmallEdge({
    serve: (stream) =>
      stream.listen({
        onData: (chunk) => {
          received += chunk.length;
        },
        onEnd: () => answer(stream, {}),
        onDrain: () => {},
        onClose: () => {},
      }),
  });
  using visitor = await FrameVisitor.connect(edge.listener.port);
  visitor.request(1, requestFields(), false);
  const windows = (): number =>
    visitor
      .of(FRAME.windowUpdate)
      .filter((seen) => seen.streamId === 1)
      .reduce((bytes, seen) => bytes + seen.payload.readUInt32BE(0), VISITOR_H2_LIMITS.streamWindowBytes);
  let sent = 0;
  for (let i = 0; i < 200; i += 1) {
    await pollUntil(() => windows() - sent >= 16_384, { what: "a window" });
    visitor.send(FRAME.data, 0, 1, new Uint8Array(16_384));
    sent += 16_384;
  }
  await pollUntil(() => received === sent, { what: "the upload" });
  const open = await pollUntil(() => windows() - sent > 1024 * 1024 && windows() - sent, { what: "a larger window" });
  expect(open).toBeLessThanOrEqual(VISITOR_H2_LIMITS.maxStreamWindowBytes * 2);
});
