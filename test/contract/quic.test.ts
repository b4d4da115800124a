import { beforeAll } from "bun:test";
import { FEATURE_QUIC_FRAMES } from "../../src/transport/port.ts";
import { createQuicTransport } from "../../src/transport/quic/connector.ts";
import { listenQuicEdge, type QuicEdgeSession } from "../../src/transport/quic/edge.ts";
import { chooseEngine } from "../../src/transport/quic/engines/choose.ts";
import { TLS_SERVER_NAME } from "../../src/transport/quic/session.ts";
import { makeTestCertificate, type TestCertificate } from "../support/certificate.ts";
import { type SessionPair, transportContract } from "./transport-suite.ts";

const GIB = 1024 * 1024 * 1024;
/** Short, so that the test of a cut need not wait for the usual 5 s. */
const IDLE_TIMEOUT_MS = 1_500;

let certificate: TestCertificate;

beforeAll(async () => {
  certificate = await makeTestCertificate([TLS_SERVER_NAME]);
});

transportContract({ name: "quic", bulkBytes: GIB, open: openQuic });

async function openQuic(): Promise<SessionPair> {
  const engine = await chooseEngine();
  const accepted = Promise.withResolvers<QuicEdgeSession>();
  const listener = await listenQuicEdge(engine, {
    host: "127.0.0.1",
    port: 0,
    tls: certificate,
    maxConnections: 10,
    onSession: accepted.resolve,
    idleTimeoutMs: IDLE_TIMEOUT_MS,
  });
  const transport = createQuicTransport({ engine, idleTimeoutMs: IDLE_TIMEOUT_MS });
  const target = { host: "127.0.0.1", port: listener.port, ca: certificate.cert };
  const connector = await transport.dial(target, { signal: new AbortController().signal });
  const edge = await accepted.promise;
  edge.usePeerFeatures([FEATURE_QUIC_FRAMES]);
  return {
    edge,
    connector,
    cut: () => listener.destroy(),
    dispose: async () => {
      edge.close();
      connector.close();
      await Promise.all([edge.closed, connector.closed]);
      listener.destroy();
    },
  };
}
