import { afterEach, beforeAll, describe, expect, test } from "bun:test";
import { createSocket } from "node:dgram";
import { TunnelError } from "../../src/core/errors.ts";
import { FEATURE_QUIC_FRAMES } from "../../src/transport/port.ts";
import { createQuicTransport } from "../../src/transport/quic/connector.ts";
import { listenQuicEdge, type QuicEdgeSession } from "../../src/transport/quic/edge.ts";
import type {
  QuicClose,
  QuicConnection,
  QuicEngine,
  QuicListener,
  QuicStream,
  QuicStreamEvents,
} from "../../src/transport/quic/engine.ts";
import { createNodeQuicEngine } from "../../src/transport/quic/engines/node-quic.ts";
import { createQuicheEngine } from "../../src/transport/quic/engines/quiche.ts";
import { TLS_SERVER_NAME } from "../../src/transport/quic/session.ts";
import { makeTestCertificate, type TestCertificate } from "../support/certificate.ts";
import { pollUntil } from "../support/poll-until.ts";
import { startUdpFaultProxy, type UdpFaultProxy } from "../support/udp-fault-proxy.ts";

const ALPN = "argotunnel";
const MIB = 1024 * 1024;
const RESET_KEY = new Uint8Array(32).fill(1);
const LIMITS = { idleTimeoutMs: 2_000, keepAliveMs: 400, maxPeerStreams: 100 };

const quiche = createQuicheEngine();
const nodeQuic = await createNodeQuicEngine();
/** The engines a connector may run on; an edge runs on quiche. */
const CLIENTS = [quiche, nodeQuic].filter((engine) => engine !== undefined);

let certificate: TestCertificate;
let stranger: TestCertificate;
const cleanUp: (() => void)[] = [];

beforeAll(async () => {
  certificate = await makeTestCertificate([TLS_SERVER_NAME]);
  stranger = await makeTestCertificate([TLS_SERVER_NAME]);
});

afterEach(() => {
  for (const work of cleanUp.splice(0)) work();
});

interface Ends {
  readonly client: QuicConnection;
  readonly server: QuicConnection;
  readonly listener: QuicListener;
  readonly clientClosed: Promise<QuicClose>;
  readonly serverClosed: Promise<QuicClose>;
  /** Streams each end opened, as the other sees them. */
  readonly atClient: QuicStream[];
  readonly atServer: QuicStream[];
  readonly datagramsAtServer: Uint8Array[];
}

async function connect(
  engine: QuicEngine,
  options: { maxPeerStreams?: number; via?: (port: number) => Promise<number> } = {},
): Promise<Ends> {
  const accepted = Promise.withResolvers<QuicConnection>();
  const atServer: QuicStream[] = [];
  const datagramsAtServer: Uint8Array[] = [];
  const serverClosed = Promise.withResolvers<QuicClose>();
  const listener = await listen((connection) => {
    connection.listen({
      onStream: (stream) => void atServer.push(stream),
      onDatagram: (bytes) => void datagramsAtServer.push(bytes),
      onClosed: serverClosed.resolve,
    });
    accepted.resolve(connection);
  });
  const port = options.via === undefined ? listener.port : await options.via(listener.port);
  const client = await dial(engine, port, { maxPeerStreams: options.maxPeerStreams ?? LIMITS.maxPeerStreams });
  const atClient: QuicStream[] = [];
  const clientClosed = Promise.withResolvers<QuicClose>();
  client.listen({
    onStream: (stream) => void atClient.push(stream),
    onDatagram: () => {},
    onClosed: clientClosed.resolve,
  });
  cleanUp.push(() => client.close(0, ""));
  const server = await accepted.promise;
  return {
    client,
    server,
    listener,
    clientClosed: clientClosed.promise,
    serverClosed: serverClosed.promise,
    atClient,
    atServer,
    datagramsAtServer,
  };
}

async function listen(onConnection: (connection: QuicConnection) => void, port = 0): Promise<QuicListener> {
  const listener = await quiche?.listen?.({
    host: "127.0.0.1",
    port,
    tls: certificate,
    alpn: ALPN,
    resetKey: RESET_KEY,
    maxConnections: 200,
    ...LIMITS,
    keepAliveMs: undefined,
    onConnection,
  });
  if (listener === undefined) throw new Error("no engine listens here");
  cleanUp.push(() => listener.destroy());
  return listener;
}

function dial(
  engine: QuicEngine,
  port: number,
  overrides: Partial<Parameters<QuicEngine["connect"]>[0]> = {},
): Promise<QuicConnection> {
  return engine.connect({
    host: "127.0.0.1",
    port,
    localPort: undefined,
    serverName: TLS_SERVER_NAME,
    ca: certificate.cert,
    alpn: ALPN,
    signal: new AbortController().signal,
    ...LIMITS,
    ...overrides,
  });
}

/** Gathers what a stream says. */
class Seen implements QuicStreamEvents {
  readonly said: string[] = [];
  bytes = 0;
  error: TunnelError | undefined;
  drained: () => void = () => {};

  constructor(stream?: QuicStream) {
    stream?.listen(this);
  }

  onData(chunk: Uint8Array): void {
    this.bytes += chunk.length;
  }
  onEnd(): void {
    this.said.push("end");
  }
  onDrain(): void {
    this.drained();
  }
  onReset(code: number): void {
    this.said.push(`reset ${code}`);
  }
  onStopped(code: number): void {
    this.said.push(`stopped ${code}`);
  }
  onLost(error: TunnelError): void {
    this.said.push("lost");
    this.error = error;
  }
}

function opened(connection: QuicConnection): QuicStream {
  const stream = connection.openStream();
  if (stream === undefined) throw new Error("the peer allows no stream");
  return stream;
}

function fill(stream: QuicStream, events: Seen, total: number): void {
  const block = new Uint8Array(64 * 1024).fill(7);
  let left = total;
  const go = (): void => {
    while (left > 0) {
      left -= block.length;
      if (!stream.write(block)) return;
    }
    stream.end();
    events.drained = () => {};
  };
  events.drained = go;
  go();
}

describe.skipIf(quiche === undefined).each(CLIENTS)("QUIC engine $name as connector", (engine) => {
  test.each([
    { name: "another name", overrides: { serverName: "other.example" } },
    { name: "another authority", overrides: () => ({ ca: stranger.cert }) },
    { name: "the system's authorities", overrides: { ca: undefined } },
  ])("a certificate for $name is refused", async ({ overrides }) => {
    const listener = await listen(() => {});
    const options = typeof overrides === "function" ? overrides() : overrides;
    const error = await dial(engine, listener.port, options).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "edge.tls", retry: "elsewhere" });
  });

  test("an edge that does not answer fails the dial, and an abort ends it at once", async () => {
    const silent = createSocket("udp4");
    cleanUp.push(() => silent.close());
    await new Promise<void>((resolve) => silent.bind(0, "127.0.0.1", resolve));
    const { port } = silent.address();
    const dialled = dial(engine, port, { handshakeTimeoutMs: 200 }).catch((thrown: unknown) => thrown);
    expect(await dialled).toMatchObject({ code: "edge.dial", retry: "elsewhere" });
    const signal = AbortSignal.abort(new TunnelError("aborted", "enough"));
    expect(await dial(engine, port, { signal }).catch((thrown: unknown) => thrown)).toMatchObject({ code: "aborted" });
  });

  test("bytes and FIN of both directions arrive", async () => {
    const { client, atServer } = await connect(engine);
    const stream = opened(client);
    const seen = new Seen(stream);
    stream.write(new Uint8Array(10));
    stream.end(new Uint8Array(5));
    await pollUntil(() => atServer.length === 1, { what: "the stream arrives" });
    const peer = atServer[0] as QuicStream;
    const peerSeen = new Seen(peer);
    await pollUntil(() => peerSeen.said.includes("end"), { what: "FIN arrives" });
    expect(peerSeen.bytes).toBe(15);
    peer.end(new Uint8Array(3));
    await pollUntil(() => seen.said.includes("end"), { what: "FIN comes back" });
    expect([seen.bytes, ...seen.said]).toEqual([3, "end"]);
  });

  test("a datagram passes whole, one that is too long is dropped", async () => {
    const { client, datagramsAtServer } = await connect(engine);
    expect(client.maxDatagramBytes).toBeGreaterThanOrEqual(1_100);
    expect(client.sendDatagram(new Uint8Array(1_000).fill(9))).toBe(true);
    expect(client.sendDatagram(new Uint8Array(client.maxDatagramBytes + 1))).toBe(false);
    await pollUntil(() => datagramsAtServer.length === 1, { what: "the datagram arrives" });
    expect(datagramsAtServer[0]).toEqual(new Uint8Array(1_000).fill(9));
  });

  test("the edge's close code and its silence are told apart", async () => {
    const first = await connect(engine);
    first.server.close(0, "");
    expect(await first.clientClosed).toMatchObject({ kind: "peer", application: true, code: 0 });
    const second = await connect(engine);
    const running = new Seen(opened(second.client));
    second.listener.destroy();
    expect(await second.clientClosed).toEqual({ kind: "idle" });
    expect(running.said).toEqual(["lost"]);
  }, 10_000);

  test("an edge that was killed and started again says at once that it knows the connection no more", async () => {
    const first = await connect(engine);
    const running = new Seen(opened(first.client));
    const { port } = first.listener;
    first.listener.destroy();
    await listen(() => {}, port);
    const startMs = performance.now();
    expect((await first.clientClosed).kind).not.toBe("idle");
    expect(performance.now() - startMs).toBeLessThan(1_500);
    expect(running.said).toEqual(["lost"]);
  });

  test("a stream the peer resets says so, and its credit comes back", async () => {
    const { server, atClient } = await connect(engine, { maxPeerStreams: 50 });
    for (let round = 0; round < 15; round += 1) {
      const streams: QuicStream[] = [];
      await pollUntil(
        () => {
          for (let stream = server.openStream(); stream !== undefined; stream = server.openStream()) {
            streams.push(stream);
            if (streams.length === 10) return true;
          }
          return false;
        },
        { what: "the peer allows ten streams" },
      );
      for (const stream of streams) {
        stream.listen(new Seen());
        stream.write(new Uint8Array(100));
      }
      await pollUntil(() => atClient.length === 10, { what: "the streams arrive" });
      const peers = atClient.splice(0);
      const seen = peers.map((stream) => new Seen(stream));
      for (const stream of streams) stream.abandon(0);
      await pollUntil(() => seen.every((one) => one.said.length > 0), { what: "every stream is told" });
      for (const stream of peers) stream.abandon(0);
      expect(seen.every((one) => one.said[0] === "reset 0" || one.said[0] === "stopped 0")).toBe(true);
    }
  }, 20_000);

  test("a stream the peer opens and resets at once does no harm to the others", async () => {
    const { server, atClient } = await connect(engine);
    for (let i = 0; i < 20; i += 1) {
      const stream = opened(server);
      stream.write(new Uint8Array(100));
      stream.abandon(0);
    }
    const stream = opened(server);
    const seen = new Seen(stream);
    stream.end(new Uint8Array(100));
    await pollUntil(() => atClient.some(({ id }) => id === stream.id), { what: "a later stream arrives" });
    for (const one of atClient) one.listen(new Seen());
    atClient.find(({ id }) => id === stream.id)?.end(new Uint8Array(7));
    await pollUntil(() => seen.said.includes("end"), { what: "its answer arrives" });
    expect(seen.bytes).toBe(7);
  });

  test("streams that wait for their reader cost no time, whether bytes or FIN wait", async () => {
    const { client, atServer } = await connect(engine);
    for (let i = 0; i < 20; i += 1) {
      const stream = opened(client);
      const seen = new Seen(stream);
      if (i % 2 === 0) fill(stream, seen, 64 * MIB);
      else for (let chunk = 0; chunk < 64; chunk += 1) stream.write(new Uint8Array(64 * 1024));
      if (i % 2 === 1) stream.end();
    }
    await pollUntil(() => atServer.length === 20, { what: "the streams arrive" });
    for (const stream of atServer) {
      stream.listen(new Seen());
      stream.pause();
    }
    // What fits into the windows goes first.
    await new Promise((resolve) => setTimeout(resolve, 300));
    const before = process.cpuUsage();
    await new Promise((resolve) => setTimeout(resolve, 700));
    const { user, system } = process.cpuUsage(before);
    expect((user + system) / 1_000).toBeLessThan(200);
  }, 20_000);

  test("a stream nobody reads is held back or failed alone, within a bound", async () => {
    const { server, atClient } = await connect(engine);
    const stuck = opened(server);
    const stuckSeen = new Seen(stuck);
    const before = process.memoryUsage().rss;
    fill(stuck, stuckSeen, 512 * MIB);
    await pollUntil(() => atClient.length === 1, { what: "the stream arrives" });
    const unread = atClient[0] as QuicStream;
    const unreadSeen = new Seen();
    unread.listen(unreadSeen);
    unread.pause();
    const moving = opened(server);
    fill(moving, new Seen(moving), 4 * MIB);
    await pollUntil(() => atClient.length === 2, { what: "another stream arrives" });
    const seen = new Seen(atClient[1] as QuicStream);
    await pollUntil(() => seen.said.includes("end"), { what: "another stream passes" });
    expect(seen.bytes).toBe(4 * MIB);
    if (!engine.provesEnd) {
      await pollUntil(() => unreadSeen.said.includes("lost"), { what: "the stream is failed" });
      expect(unreadSeen.error?.code).toBe("stream.limit");
    }
    expect(process.memoryUsage().rss - before).toBeLessThan(200 * MIB);
    stuck.abandon(0);
  }, 20_000);
});

describe.skipIf(quiche === undefined)("QUIC engine quiche as edge", () => {
  const engine = quiche as QuicEngine;

  test("64 MiB on each of 64 streams pass with bounded memory", async () => {
    const { client, atServer } = await connect(engine);
    const before = process.memoryUsage().rss;
    const seen: Seen[] = [];
    for (let i = 0; i < 64; i += 1) {
      const stream = opened(client);
      fill(stream, new Seen(stream), 64 * MIB);
    }
    await pollUntil(() => atServer.length === 64, { what: "all streams arrive" });
    for (const stream of atServer) seen.push(new Seen(stream));
    await pollUntil(() => seen.every((one) => one.said.includes("end")), { what: "all are whole", deadlineMs: 60_000 });
    expect(seen.map((one) => one.bytes)).toEqual(seen.map(() => 64 * MIB));
    expect(process.memoryUsage().rss - before).toBeLessThan(300 * MIB);
  }, 60_000);

  test("100 connectors at once all get in, past the point where addresses are checked first", async () => {
    let accepted = 0;
    const listener = await listen((connection) => {
      accepted += 1;
      connection.listen({ onStream: () => {}, onDatagram: () => {}, onClosed: () => {} });
    });
    const clients = await Promise.all(Array.from({ length: 60 }, () => dial(engine, listener.port)));
    expect(clients.length).toBe(60);
    await pollUntil(() => accepted === 60, { what: "the edge knows all of them" });
    for (const client of clients) client.close(0, "");
  }, 20_000);

  test("packets of no connection and of other versions do no harm", async () => {
    const listener = await listen(() => {});
    const socket = createSocket("udp4");
    cleanUp.push(() => socket.close());
    const answers: Buffer[] = [];
    socket.on("message", (bytes) => void answers.push(bytes));
    const send = (bytes: Uint8Array): void => socket.send(bytes, listener.port, "127.0.0.1");
    for (let length = 0; length < 64; length += 1) send(new Uint8Array(length).fill(0xc3));
    for (let length = 0; length < 64; length += 1) send(new Uint8Array(length).fill(0x43));
    const unknown = new Uint8Array(1_200);
    unknown.set([0xc3, 0xff, 0, 0, 0x1d, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0]);
    send(unknown);
    const isLong = (bytes: Buffer): boolean => ((bytes[0] ?? 0) & 0x80) !== 0;
    const versions = await pollUntil(() => answers.find(isLong), { what: "version negotiation" });
    expect([...versions.subarray(-4)]).toEqual([0, 0, 0, 1]);
    // What looks like a packet of a lost connection is answered once each, with less than it brought.
    const resets = answers.filter((bytes) => !isLong(bytes));
    expect(resets.length).toBeLessThanOrEqual(64 - 22);
    expect(Math.max(...resets.map((bytes) => bytes.length))).toBeLessThan(63);
    const client = await dial(engine, listener.port);
    client.close(0, "");
  });

  test("a connection goes on when a NAT gives the connector another port", async () => {
    await using stack = new AsyncDisposableStack();
    const nat = Promise.withResolvers<UdpFaultProxy>();
    const via = async (port: number): Promise<number> => {
      nat.resolve(stack.use(await startUdpFaultProxy({ host: "127.0.0.1", port })));
      return (await nat.promise).port;
    };
    const { client, server } = await connect(engine, { via });
    const before = server.remotePort;
    await (await nat.promise).rebind();
    expect(await client.ping()).toBeGreaterThanOrEqual(0);
    expect(await server.ping()).toBeGreaterThanOrEqual(0);
    expect(server.remotePort).not.toBe(before);
  });

  test("a full socket of packets with wrong keys moves nobody", async () => {
    const { client, server, listener } = await connect(engine);
    const before = server.remotePort;
    const socket = createSocket("udp4");
    cleanUp.push(() => socket.close());
    for (let i = 0; i < 50; i += 1) socket.send(new Uint8Array(100).fill(0x41), listener.port, "127.0.0.1");
    await client.ping();
    expect(server.remotePort).toBe(before);
  });
});

describe.skipIf(quiche === undefined)("QUIC sessions", () => {
  async function sessions(engine: QuicEngine) {
    const accepted = Promise.withResolvers<QuicEdgeSession>();
    const listener = await listenQuicEdge(quiche as QuicEngine, {
      host: "127.0.0.1",
      port: 0,
      tls: certificate,
      maxConnections: 10,
      onSession: accepted.resolve,
    });
    cleanUp.push(() => listener.destroy());
    const transport = createQuicTransport({ engine });
    const target = { host: "127.0.0.1", port: listener.port, ca: certificate.cert, connIndex: 2 };
    const signal = new AbortController().signal;
    const connector = await transport.dial(target, { signal });
    cleanUp.push(() => connector.close());
    const edge = await accepted.promise;
    return { edge, connector, redial: () => transport.dial(target, { signal }) };
  }

  test("a connection index comes back from the port it had", async () => {
    const { edge, connector, redial } = await sessions(quiche as QuicEngine);
    const port = edge.remoteAddress;
    connector.close();
    await edge.closed;
    const again = await redial();
    cleanUp.push(() => again.close());
    expect(port).toMatch(/^127\.0\.0\.1:\d+$/);
  });

  test("an answer in full arrives before a drained session is closed", async () => {
    const { edge, connector } = await sessions(quiche as QuicEngine);
    edge.usePeerFeatures([FEATURE_QUIC_FRAMES]);
    connector.serve((stream) => {
      stream.listen({ onData: () => {}, onEnd: () => {}, onDrain: () => {}, onClose: () => {} });
      stream.respond({ status: 200, headers: [], source: "origin" });
      stream.write(new Uint8Array(4 * MIB));
      stream.end(["x-end", "1"]);
      connector.drain();
    });
    let bytes = 0;
    let trailers: readonly string[] = [];
    const error = await new Promise<TunnelError | undefined>((resolve) => {
      edge.open(
        { kind: "http", method: "GET", authority: "a", path: "/", headers: [], bodyless: true },
        {
          onInformational: () => {},
          onResponse: () => {},
          onData: (chunk) => {
            bytes += chunk.length;
          },
          onEnd: (given) => {
            trailers = given;
          },
          onDrain: () => {},
          onClose: resolve,
        },
      );
    });
    expect([error, bytes, ...trailers]).toEqual([undefined, 4 * MIB, "x-end", "1"]);
    expect(await connector.closed).toEqual({ kind: "drained" });
    expect(await edge.closed).toEqual({ kind: "closed", by: "peer" });
  });
});
