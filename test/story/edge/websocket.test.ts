import { expect, test } from "bun:test";
import type { IncomingStream } from "../../../src/transport/port.ts";
import { headerValue } from "../../../src/wire/headers.ts";
import { pollUntil } from "../../support/poll-until.ts";
import { parseAnswer } from "./raw-visitor.ts";
import { answer, HOST, helloOrigin, readBody, type Serve, startSmallEdge } from "./small-edge.ts";

const handshake = (fields = ""): string =>
  `GET /chat HTTP/1.1\r\nHost: ${HOST}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n` +
  `Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n${fields}\r\n`;

const ACCEPTED = [
  "Upgrade",
  "websocket",
  "Connection",
  "Upgrade",
  "Sec-WebSocket-Accept",
  "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
];

/** Completes the handshake and sends everything back. */
const echo: Serve = (stream) => {
  stream.respond({ status: 101, headers: ACCEPTED, source: "origin" });
  stream.listen({
    onData: (chunk) => void stream.write(chunk),
    onEnd: () => stream.end(),
    onDrain: () => {},
    onClose: () => {},
  });
};

test("a WebSocket passes bytes both ways as they are", async () => {
  const streams: IncomingStream[] = [];
  await using edge = await startSmallEdge({
    serve: (stream, connection) => {
      streams.push(stream);
      echo(stream, connection);
    },
  });
  using visitor = await edge.visit();
  // Frames may follow the handshake at once.
  visitor.send(`${handshake()}\x81\x85early`);
  const text = await visitor.until("early");
  const request = streams[0]?.request;
  expect(request).toMatchObject({ kind: "websocket", bodyless: false, path: "/chat" });
  expect(headerValue(request?.headers ?? [], "sec-websocket-key")).toBe("dGhlIHNhbXBsZSBub25jZQ==");
  expect(headerValue(request?.headers ?? [], "upgrade")).toBeUndefined();
  expect(parseAnswer(text)).toMatchObject({
    status: 101,
    headers: { upgrade: "websocket", connection: "Upgrade", "sec-websocket-accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" },
  });
  // Hours without a byte are nothing unusual here.
  for (let hour = 0; hour < 3; hour += 1) {
    await edge.clock.advance(3_600_000);
    visitor.send(`\0\xff hour ${hour}`);
    await visitor.until(`\0\xff hour ${hour}`);
  }
  visitor.finish();
  await visitor.untilOver();
  expect(visitor.end).toBe("ended");
  await pollUntil(() => edge.connections[0]?.session.streamCount === 0, { what: "the stream is gone" });
});

test("a visitor that ends its direction before the handshake is answered is not kept for ever", async () => {
  const streams: IncomingStream[] = [];
  await using edge = await startSmallEdge({ serve: (stream) => void streams.push(stream) });
  using visitor = await edge.visit();
  visitor.send(handshake());
  visitor.finish();
  await pollUntil(() => streams.length === 1, { what: "the handshake arrives" });
  echo(streams[0] as IncomingStream, 0);
  await visitor.untilOver();
  await pollUntil(() => edge.connections[0]?.session.streamCount === 0, { what: "the stream is gone" });
});

test("a refused handshake is the answer it is; its stream ends and the connection goes on", async () => {
  let refused = 0;
  const serve: Serve = (stream, connection) => {
    if (stream.request.kind === "http") helloOrigin(stream, connection);
    else {
      refused += 1;
      readBody(stream, () => {});
      answer(stream, { status: 403, headers: ["Content-Length", "2"], body: "no" });
    }
  };
  await using edge = await startSmallEdge({ serve });
  using visitor = await edge.visit();
  visitor.send(handshake());
  const got = parseAnswer(await visitor.until("\r\n\r\nno"));
  expect(got).toMatchObject({ status: 403, body: "no" });
  await pollUntil(() => edge.connections[0]?.session.streamCount === 0, { what: "the stream is gone" });
  visitor.send(`GET /next HTTP/1.1\r\nHost: ${HOST}\r\n\r\n`);
  await visitor.until(" /next ");
  expect(refused).toBe(1);
});

test.each([
  { name: "without Connection: Upgrade", head: "GET / HTTP/1.1\r\nUpgrade: websocket\r\n", body: "" },
  { name: "of another protocol", head: "GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n", body: "" },
  { name: "with POST", head: "POST / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n", body: "" },
  {
    name: "with a body",
    head: "GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n",
    body: "abc",
  },
])("an upgrade $name goes on as a plain request", async ({ head, body }) => {
  const kinds: string[] = [];
  await using edge = await startSmallEdge({
    serve: (stream, connection) => {
      kinds.push(stream.request.kind, headerValue(stream.request.headers, "upgrade") ?? "no upgrade");
      helloOrigin(stream, connection);
    },
  });
  using visitor = await edge.visit();
  visitor.send(`${head}Host: ${HOST}\r\n\r\n${body}`);
  await visitor.until(` / ${body}`);
  expect(kinds).toEqual(["http", "no upgrade"]);
});

test("a tunnel connection that dies takes its WebSockets with it, as a reset", async () => {
  await using edge = await startSmallEdge({ serve: echo });
  using visitor = await edge.visit();
  visitor.send(`${handshake()}hi`);
  await visitor.until("hi");
  edge.cut(0);
  await visitor.untilOver();
  expect(visitor.end).toBe("reset");
});
