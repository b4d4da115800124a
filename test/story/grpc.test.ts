import { beforeAll, describe, expect, test } from "bun:test";
import http2 from "node:http2";
import { systemClock } from "../../src/core/clock.ts";
import { TunnelError } from "../../src/core/errors.ts";
import { createLogger } from "../../src/core/log.ts";
import { DEFAULT_ORIGIN_SETTINGS } from "../../src/ingress/origin-request.ts";
import { singleRule } from "../../src/ingress/rules.ts";
import { dial } from "../../src/net/dial.ts";
import { listen } from "../../src/net/listen.ts";
import type { Connection } from "../../src/net/sockets.ts";
import { createOriginService } from "../../src/origin/index.ts";
import { createProxy } from "../../src/proxy/proxy.ts";
import { connectHttp2 } from "../../src/transport/http2/connector.ts";
import { acceptHttp2 } from "../../src/transport/http2/edge.ts";
import {
  type ConnectorSession,
  type EdgeSession,
  FEATURE_QUIC_FRAMES,
  type StreamRequest,
  type StreamResponse,
} from "../../src/transport/port.ts";
import { createQuicTransport } from "../../src/transport/quic/connector.ts";
import { listenQuicEdge, type QuicEdgeSession } from "../../src/transport/quic/edge.ts";
import { chooseEngine } from "../../src/transport/quic/engines/choose.ts";
import { TLS_SERVER_NAME } from "../../src/transport/quic/session.ts";
import type { RawHeaders } from "../../src/wire/headers.ts";
import { makeTestCertificate, type TestCertificate } from "../support/certificate.ts";
import { type GrpcOrigin, startGrpcOrigin } from "../support/grpc-origin.ts";
import { pollUntil } from "../support/poll-until.ts";
import { HOSTNAME, startWholePath } from "../support/whole-path.ts";

const text = (chunk: Uint8Array): string => Buffer.from(chunk).toString();
const bytes = (message: string): Uint8Array => new TextEncoder().encode(message);

let certificate: TestCertificate;

beforeAll(async () => {
  certificate = await makeTestCertificate([TLS_SERVER_NAME, "h2.cftunnel.com"]);
});

interface Tunnel extends AsyncDisposable {
  readonly edge: EdgeSession;
  readonly origin: GrpcOrigin;
}

type Sessions = readonly [edge: EdgeSession, connector: ConnectorSession, done: () => unknown];

/** One session between an edge and a proxy in front of a gRPC origin. */
async function tunnel(open: () => Promise<Sessions>): Promise<Tunnel> {
  const origin = await startGrpcOrigin();
  const { host, port } = origin.address;
  const service = createOriginService({ kind: "h2c", host, port }, DEFAULT_ORIGIN_SETTINGS, {
    clock: systemClock,
    readFile: () => "",
  });
  if (service === undefined) throw new Error("no service");
  const [edge, connector, done] = await open();
  connector.serve(
    createProxy({
      route: () => ({ ruleIndex: 0, service, headers: { hostHeader: undefined, tags: [] } }),
      flow: () => {},
      clock: systemClock,
      log: createLogger({ level: "error", format: "default", wallMs: () => 0, write: () => {} }),
      observer: {
        requestStarted: () => {},
        requestEnded: () => {},
        requestFailed: () => {},
        streamOverBudget: () => {},
        tallyOf: () => ({ toOrigin: 0, toVisitor: 0 }),
      },
    }),
  );
  return {
    edge,
    origin,
    [Symbol.asyncDispose]: async () => {
      edge.close();
      connector.close();
      await Promise.all([edge.closed, connector.closed]);
      await done();
      await service.close();
      await origin[Symbol.asyncDispose]();
    },
  };
}

async function overHttp2(): Promise<Sessions> {
  const accepted = Promise.withResolvers<Connection>();
  const listener = await listen({
    host: "127.0.0.1",
    port: 0,
    tls: certificate,
    maxConnections: 1,
    onConnection: accepted.resolve,
  });
  const tls = { serverName: "h2.cftunnel.com", ca: certificate.cert };
  const connector = connectHttp2(await dial({ host: "127.0.0.1", port: listener.port }, { tls }));
  const edge = acceptHttp2(await accepted.promise);
  await edge.control;
  return [edge, connector, () => listener.close()];
}

async function overQuic(): Promise<Sessions> {
  const engine = await chooseEngine();
  const accepted = Promise.withResolvers<QuicEdgeSession>();
  const listener = await listenQuicEdge(engine, {
    host: "127.0.0.1",
    port: 0,
    tls: certificate,
    maxConnections: 1,
    onSession: accepted.resolve,
  });
  const connector = await createQuicTransport({ engine }).dial(
    { host: "127.0.0.1", port: listener.port, ca: certificate.cert },
    { signal: new AbortController().signal },
  );
  const edge = await accepted.promise;
  edge.usePeerFeatures([FEATURE_QUIC_FRAMES]);
  return [edge, connector, () => listener.destroy()];
}

/** A call as the edge makes it, and what it was answered. */
function call(edge: EdgeSession, path: string) {
  const request: StreamRequest = {
    kind: "http",
    method: "POST",
    authority: "grpc.test",
    path,
    headers: ["Content-Type", "application/grpc", "Te", "trailers"],
    bodyless: false,
  };
  const seen: { response?: StreamResponse; body: string; trailers?: RawHeaders; closed?: { error: unknown } } = {
    body: "",
  };
  const closed = Promise.withResolvers<void>();
  const channel = edge.open(request, {
    onInformational: () => {},
    onResponse: (response) => {
      seen.response = response;
    },
    onData: (chunk) => {
      seen.body += text(chunk);
    },
    onEnd: (trailers) => {
      seen.trailers = trailers;
    },
    onDrain: () => {},
    onClose: (error) => {
      seen.closed = { error };
      closed.resolve();
    },
  });
  return { channel, seen, closed: closed.promise };
}

describe.each([
  { transport: "http2", open: overHttp2 },
  { transport: "quic", open: overQuic },
])("a gRPC origin behind the proxy, over $transport", ({ open }) => {
  test("gets te: trailers and the request's trailers; its own come back", async () => {
    await using path = await tunnel(open);
    const { channel, seen, closed } = call(path.edge, "/unary");
    channel.write(bytes("message"));
    channel.end(["x-sum", "42"]);
    await closed;
    expect(seen.closed).toEqual({ error: undefined });
    expect(seen.response).toMatchObject({ status: 200, source: "origin" });
    expect(seen.body).toBe("message");
    expect([...(seen.trailers ?? [])]).toEqual(["grpc-status", "0", "x-tail", "t"]);
    const stream = path.origin.sessions[0]?.streams[0];
    expect(stream?.fields).toMatchObject({ ":authority": "grpc.test", te: "trailers" });
    expect(stream?.trailers[0]).toMatchObject({ "x-sum": "42" });
  });

  test("answers each message before the next is sent", async () => {
    await using path = await tunnel(open);
    const { channel, seen, closed } = call(path.edge, "/bidi");
    let expected = "";
    for (let i = 0; i < 10; i++) {
      channel.write(bytes(`m${i};`));
      expected += `m${i};`;
      await pollUntil(() => seen.body === expected, { what: `echo ${i}` });
    }
    channel.end();
    await closed;
    expect([...(seen.trailers ?? [])]).toEqual(["grpc-status", "0", "x-tail", "t"]);
  });

  test("answers with trailers only", async () => {
    await using path = await tunnel(open);
    const { channel, seen, closed } = call(path.edge, "/trailers-only");
    channel.end();
    await closed;
    expect(seen.closed).toEqual({ error: undefined });
    expect([...(seen.response?.headers ?? [])]).toContain("grpc-status");
    expect([...(seen.trailers ?? ["none"])]).toEqual([]);
  });

  test("resets a call: 502 before the head of its answer, a reset after it", async () => {
    await using path = await tunnel(open);
    const early = call(path.edge, "/reset");
    early.channel.end();
    await early.closed;
    expect(early.seen.response).toMatchObject({ status: 502, source: "cloudflared" });
    const late = call(path.edge, "/reset-after");
    await pollUntil(() => late.seen.body === "begun", { what: "the first bytes" });
    late.channel.write(bytes("x"));
    await late.closed;
    expect(late.seen.closed?.error).toMatchObject({ code: "stream.reset" });
    expect(late.seen.trailers).toBeUndefined();
  });

  test("hears that the visitor went away", async () => {
    await using path = await tunnel(open);
    const { channel, seen } = call(path.edge, "/bidi");
    channel.write(bytes("x"));
    await pollUntil(() => seen.body === "x", { what: "the echo" });
    channel.abort(new TunnelError("aborted", "gone"));
    const stream = path.origin.sessions[0]?.streams[0];
    await pollUntil(() => stream?.closedWith !== undefined, { what: "the reset" });
    expect(stream?.closedWith).toBe(http2.constants.NGHTTP2_CANCEL);
  });
});

test("a gRPC client calls a gRPC server through edge and connector", async () => {
  await using origin = await startGrpcOrigin();
  await using path = await startWholePath();
  await path.connect({ rules: singleRule({ kind: "h2c", ...origin.address }) });
  await pollUntil(() => path.edge.registry.size === 4, { what: "four connections" });
  const client = http2.connect(`http://127.0.0.1:${path.publicPort}`);
  const ask = async (target: string, ...messages: string[]) => {
    const stream = client.request({
      ":method": "POST",
      ":path": target,
      ":authority": HOSTNAME,
      te: "trailers",
      "content-type": "application/grpc",
    });
    const seen = {
      status: 0,
      body: "",
      trailers: {} as http2.IncomingHttpHeaders,
      head: {} as http2.IncomingHttpHeaders,
    };
    stream.on("response", (head) => {
      seen.status = head[":status"] ?? 0;
      seen.head = head;
    });
    stream.on("trailers", (trailers: http2.IncomingHttpHeaders) => {
      seen.trailers = trailers;
    });
    stream.on("data", (chunk: Uint8Array) => {
      seen.body += text(chunk);
    });
    const closed = new Promise<void>((resolve) => void stream.once("close", resolve));
    let expected = "";
    for (const message of messages) {
      stream.write(message);
      expected += message;
      if (target === "/bidi") await pollUntil(() => seen.body === expected, { what: `echo of ${message}` });
    }
    stream.end();
    await closed;
    return seen;
  };
  expect(await ask("/unary", "one", "two")).toMatchObject({
    status: 200,
    body: "onetwo",
    trailers: { "grpc-status": "0" },
  });
  expect(await ask("/bidi", "a", "b", "c")).toMatchObject({ body: "abc", trailers: { "grpc-status": "0" } });
  expect(await ask("/trailers-only")).toMatchObject({ status: 200, body: "", head: { "grpc-status": "12" } });
  const many = await Promise.all(Array.from({ length: 100 }, (_, i) => ask("/unary", `m${i}`)));
  for (const [i, seen] of many.entries()) {
    expect(seen).toMatchObject({ body: `m${i}`, trailers: { "grpc-status": "0" } });
  }
  client.destroy();
});
