import { expect, test } from "bun:test";
import { TunnelError } from "../../../src/core/errors.ts";
import { EXPECT_MS, WAKE_AFTER_MS } from "../../../src/edge/dispatcher/absences.ts";
import type { IncomingStream } from "../../../src/transport/port.ts";
import { pollUntil } from "../../support/poll-until.ts";
import type { RawVisitor } from "./raw-visitor.ts";
import { answer, HOST, helloOrigin, readBody, type SmallEdge, startSmallEdge } from "./small-edge.ts";

/** Sends one request, waits for its answer of known length, and gives what came for it. */
async function exchange(visitor: RawVisitor, path: string, method = "GET", body = ""): Promise<string> {
  const before = visitor.received.length;
  const length = body === "" ? "" : `Content-Length: ${body.length}\r\n`;
  visitor.send(`${method} ${path} HTTP/1.1\r\nHost: ${HOST}\r\n${length}\r\n${body}`);
  return await pollUntil(
    () => {
      const text = visitor.received.slice(before);
      const head = /^HTTP\/1\.1 \d+[\s\S]*?\r\nContent-Length: (\d+)\r\n[\s\S]*?\r\n\r\n/.exec(text);
      return head !== null && text.length >= head[0].length + Number(head[1]) ? text : undefined;
    },
    { what: `an answer to ${method} ${path}` },
  );
}

/** How many requests each connection served. */
function tally(connections: number): { counts: number[]; serve: (stream: IncomingStream, connection: number) => void } {
  const counts = Array<number>(connections).fill(0);
  return {
    counts,
    serve: (stream, connection) => {
      counts[connection] = (counts[connection] ?? 0) + 1;
      helloOrigin(stream, connection);
    },
  };
}

test.each([2, 3, 4])("%i idle connections share requests that come one by one", async (connections) => {
  const { counts, serve } = tally(connections);
  await using edge = await startSmallEdge({ connections, serve });
  using visitor = await edge.visit();
  for (let i = 0; i < connections * 4; i += 1) await exchange(visitor, `/${i}`);
  expect(counts).toEqual(Array<number>(connections).fill(4));
});

test("a connection with running requests is spared", async () => {
  const held: IncomingStream[] = [];
  const seen: number[] = [];
  await using edge = await startSmallEdge({
    connections: 2,
    serve: (stream, connection) => {
      seen.push(connection);
      if (stream.request.path === "/slow") held.push(stream);
      else helloOrigin(stream, connection);
    },
  });
  using slow = await edge.visit();
  slow.send(`GET /slow HTTP/1.1\r\nHost: ${HOST}\r\n\r\n`);
  await pollUntil(() => held.length === 1, { what: "the slow request runs" });
  using quick = await edge.visit();
  for (let i = 0; i < 4; i += 1) await exchange(quick, `/${i}`);
  const [busy, ...others] = seen;
  expect(others).toEqual(Array<number>(4).fill(busy === 0 ? 1 : 0));
});

test("a draining connection gets nothing new, and without another the visitor is told", async () => {
  const { counts, serve } = tally(2);
  await using edge = await startSmallEdge({ connections: 2, serve });
  using visitor = await edge.visit();
  drain(edge, 0);
  for (let i = 0; i < 4; i += 1) await exchange(visitor, `/${i}`);
  expect(counts).toEqual([0, 4]);
  drain(edge, 1);
  expect(await exchange(visitor, "/none")).toStartWith("HTTP/1.1 530 ");
});

function drain(edge: SmallEdge, connection: number): void {
  const live = edge.connections[connection];
  if (live !== undefined) live.draining = true;
}

test("a request that its connection does not take goes to another, with its body", async () => {
  const { counts, serve } = tally(2);
  await using edge = await startSmallEdge({ connections: 2, serve });
  // Refuses streams although the registry does not know yet.
  edge.connections[0]?.session.drain();
  using visitor = await edge.visit();
  for (let i = 0; i < 4; i += 1) expect(await exchange(visitor, `/${i}`, "POST", "body")).toEndWith(` /${i} body`);
  expect(counts).toEqual([0, 4]);
});

test.each([
  { method: "GET", body: "", repeated: true },
  { method: "PUT", body: "small", repeated: true },
  { method: "POST", body: "small", repeated: false },
])("$method whose connection dies before the answer is repeated: $repeated", async ({ method, body, repeated }) => {
  const seen: string[] = [];
  await using edge = await startSmallEdge({
    connections: 2,
    serve: (stream, connection) =>
      readBody(stream, (text) => {
        seen.push(text);
        if (seen.length === 1) edge.cut(connection);
        else answer(stream, { headers: ["Content-Length", "2"], body: "ok" });
      }),
  });
  using visitor = await edge.visit();
  const text = await exchange(visitor, "/", method, body);
  expect(text).toStartWith(repeated ? "HTTP/1.1 200 " : "HTTP/1.1 502 ");
  expect(seen).toEqual(repeated ? [body, body] : [body]);
  expect(edge.listener.counters.retries).toBe(repeated ? 1 : 0);
});

test("a body too long to be kept is not repeated", async () => {
  let calls = 0;
  await using edge = await startSmallEdge({
    connections: 2,
    serve: (stream, connection) =>
      readBody(stream, () => {
        calls += 1;
        edge.cut(connection);
      }),
  });
  using visitor = await edge.visit();
  expect(await exchange(visitor, "/", "PUT", "x".repeat(100_000))).toStartWith("HTTP/1.1 502 ");
  expect(calls).toBe(1);
});

test("nothing is repeated once the answer has begun", async () => {
  let calls = 0;
  await using edge = await startSmallEdge({
    connections: 2,
    serve: (stream, connection) => {
      calls += 1;
      stream.respond({ status: 200, headers: [], source: "origin" });
      setImmediate(() => edge.cut(connection));
    },
  });
  using visitor = await edge.visit();
  visitor.send(`GET / HTTP/1.1\r\nHost: ${HOST}\r\n\r\n`);
  await visitor.untilOver();
  expect(visitor.end).toBe("reset");
  expect(calls).toBe(1);
});

test("a request is offered to a few connections, not to all that die under it", async () => {
  let calls = 0;
  await using edge = await startSmallEdge({
    connections: 10,
    serve: (_stream, connection) => {
      calls += 1;
      edge.cut(connection);
    },
  });
  using visitor = await edge.visit();
  expect(await exchange(visitor, "/")).toStartWith("HTTP/1.1 502 ");
  expect(calls).toBe(4);
});

test("a visitor that leaves is not carried to another connection", async () => {
  let calls = 0;
  const errors: unknown[] = [];
  await using edge = await startSmallEdge({
    connections: 2,
    serve: (stream) => {
      calls += 1;
      stream.listen({
        onData: () => {},
        onEnd: () => {},
        onDrain: () => {},
        onClose: (error) => void errors.push(error),
      });
    },
  });
  using visitor = await edge.visit();
  visitor.send(`GET / HTTP/1.1\r\nHost: ${HOST}\r\n\r\n`);
  await pollUntil(() => calls === 1, { what: "the request arrives" });
  visitor.reset();
  await pollUntil(() => errors.length === 1, { what: "the request is aborted" });
  expect(errors[0]).toBeInstanceOf(TunnelError);
  expect(calls).toBe(1);
});

test("a request waits for a tunnel that was here a moment ago, with its body, and goes to whoever comes", async () => {
  const bodies: string[] = [];
  await using edge = await startSmallEdge({
    serve: (stream) =>
      readBody(stream, (body) => {
        bodies.push(body);
        answer(stream, { headers: ["Content-Length", "2"], body: "ok" });
      }),
  });
  using visitor = await edge.visit();
  edge.cut(0);
  await pollUntil(() => edge.registry.size === 0, { what: "the connection is gone" });
  const got = exchange(visitor, "/wait", "POST", "hello");
  await pollUntil(() => edge.listener.counters.requests === 1, { what: "the request" });
  edge.connect(1);
  await edge.clock.advance(WAKE_AFTER_MS);
  expect(await got).toStartWith("HTTP/1.1 200 ");
  expect(bodies).toEqual(["hello"]);
});

test("a request waits no longer than the tunnel is expected, and a later one not at all", async () => {
  await using edge = await startSmallEdge();
  using visitor = await edge.visit();
  edge.cut(0);
  await pollUntil(() => edge.registry.size === 0, { what: "the connection is gone" });
  const got = exchange(visitor, "/wait");
  await pollUntil(() => edge.listener.counters.requests === 1, { what: "the request" });
  await edge.clock.advance(EXPECT_MS);
  expect(await got).toStartWith("HTTP/1.1 530 ");
  expect(await exchange(visitor, "/later")).toStartWith("HTTP/1.1 530 ");
});

test("a visitor who leaves while its request waits is forgotten", async () => {
  const served: string[] = [];
  await using edge = await startSmallEdge({
    serve: (stream, connection) => {
      served.push(stream.request.path);
      helloOrigin(stream, connection);
    },
  });
  edge.cut(0);
  await pollUntil(() => edge.registry.size === 0, { what: "the connection is gone" });
  {
    using visitor = await edge.visit();
    visitor.send(`GET /gone HTTP/1.1\r\nHost: ${HOST}\r\n\r\n`);
    await pollUntil(() => edge.listener.counters.requests === 1, { what: "the request" });
    visitor.reset();
  }
  await pollUntil(() => edge.access.length === 1, { what: "its end" });
  edge.connect(1);
  using other = await edge.visit();
  await exchange(other, "/here");
  expect(served).toEqual(["/here"]);
});
