import { afterAll, beforeAll } from "bun:test";
import { TunnelError } from "../../src/core/errors.ts";
import { dial } from "../../src/net/dial.ts";
import { listen } from "../../src/net/listen.ts";
import type { Connection, Listener } from "../../src/net/sockets.ts";
import { connectHttp2 } from "../../src/transport/http2/connector.ts";
import { acceptHttp2 } from "../../src/transport/http2/edge.ts";
import { createMemorySessionPair } from "../../src/transport/memory.ts";
import { makeTestCertificate, type TestCertificate } from "../support/certificate.ts";
import { type SessionPair, transportContract } from "./transport-suite.ts";

const GIB = 1024 * 1024 * 1024;

transportContract({
  name: "memory",
  bulkBytes: GIB,
  open: () => {
    const pair = createMemorySessionPair();
    return Promise.resolve({ ...pair, dispose: () => Promise.resolve(pair.edge.close()) });
  },
});

let certificate: TestCertificate;
let listener: Listener;
let accepted: (connection: Connection) => void = () => {};

beforeAll(async () => {
  certificate = await makeTestCertificate(["h2.cftunnel.com"]);
  listener = await listen({
    host: "127.0.0.1",
    port: 0,
    tls: certificate,
    maxConnections: 1000,
    onConnection: (connection) => accepted(connection),
  });
});

afterAll(async () => {
  await listener.close();
});

transportContract({ name: "http2 over TLS", bulkBytes: GIB, open: openHttp2 });

async function openHttp2(): Promise<SessionPair> {
  const incoming = new Promise<Connection>((resolve) => {
    accepted = resolve;
  });
  const outgoing = await dial(
    { host: "127.0.0.1", port: listener.port },
    { tls: { serverName: "h2.cftunnel.com", ca: certificate.cert } },
  );
  const edgeConnection = await incoming;
  const edge = acceptHttp2(edgeConnection);
  const connector = connectHttp2(outgoing);
  await edge.control;
  return {
    edge,
    connector,
    cut: () => edgeConnection.channel.abort(new TunnelError("channel.lost", "cut by the test")),
    dispose: async () => {
      edge.close();
      connector.close();
      await Promise.all([edge.closed, connector.closed]);
    },
  };
}
