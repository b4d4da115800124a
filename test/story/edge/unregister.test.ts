import { expect, test } from "bun:test";
import { RegistrationClient } from "../../../src/control/registration-client.ts";
import { systemClock } from "../../../src/core/clock.ts";
import { newConnectorId } from "../../../src/core/ids.ts";
import { createLogger } from "../../../src/core/log.ts";
import { Registry } from "../../../src/edge/registry.ts";
import { openSqliteStore } from "../../../src/edge/store/sqlite/index.ts";
import { TunnelFront } from "../../../src/edge/tunnel-front.ts";
import { FEATURE_EDGE_LEAVING, type IncomingStream, type RequestEvents } from "../../../src/transport/port.ts";
import { createQuicTransport } from "../../../src/transport/quic/connector.ts";
import { listenQuicEdge } from "../../../src/transport/quic/edge.ts";
import { chooseEngine } from "../../../src/transport/quic/engines/choose.ts";
import { TLS_SERVER_NAME } from "../../../src/transport/quic/session.ts";
import { makeTestCertificate } from "../../support/certificate.ts";
import { pollUntil } from "../../support/poll-until.ts";
import { storeTunnel } from "../../support/stored.ts";

const SECRET = Uint8Array.from({ length: 32 }, (_, i) => i);

/** A connector over QUIC with one running request that has asked to leave. */
async function leave(features: readonly string[]) {
  await using stack = new AsyncDisposableStack();
  const registry = new Registry();
  const store = openSqliteStore(":memory:", new Uint8Array(32), systemClock);
  stack.defer(() => store.close());
  const { id: tunnelId, accountTag } = storeTunnel(store, "t", { secret: SECRET });
  const log = createLogger({ level: "error", format: "json", wallMs: systemClock.wallMs, write: () => {} });
  const front = new TunnelFront({ store, registry, clock: systemClock, log, location: "tst01", drainMs: 60_000 });
  const engine = await chooseEngine();
  const tls = await makeTestCertificate([TLS_SERVER_NAME]);
  const listener = await listenQuicEdge(engine, {
    ...{ host: "127.0.0.1", port: 0, tls, maxConnections: 10 },
    onSession: (session) => front.accept(session, "127.0.0.1"),
  });
  stack.defer(() => listener.destroy());
  const signal = new AbortController().signal;
  const target = { host: "127.0.0.1", port: listener.port, ca: tls.cert };
  const session = await createQuicTransport({ engine }).dial(target, { signal });
  stack.defer(() => session.close());
  const client = new RegistrationClient(await session.control, { clock: systemClock });
  const identity = { accountTag, tunnelSecret: SECRET, tunnelId, connectorId: newConnectorId() };
  const about = { version: "2023.7.3", arch: "linux_amd64", localIp: undefined, numPreviousAttempts: 0 };
  await client.register({ ...identity, ...about, connIndex: 0, features }, { signal });
  const streams: IncomingStream[] = [];
  session.serve((stream) => streams.push(stream));
  const visitor: string[] = [];
  const events: RequestEvents = {
    onInformational: () => {},
    onResponse: ({ status }) => visitor.push(`${status}`),
    onData: () => {},
    onEnd: () => visitor.push("end"),
    onDrain: () => {},
    onClose: (error) => visitor.push(error?.code ?? "closed"),
  };
  const request = { kind: "http", method: "GET", authority: "a", path: "/", headers: [], bodyless: true } as const;
  registry.connections(tunnelId)[0]?.session.open(request, events);
  const stream = await pollUntil(() => streams[0], { what: "the request is at the connector" });
  const answer = { came: false };
  const unregistered = client.unregister({ signal }).then(() => {
    answer.came = true;
  });
  await pollUntil(() => !registry.serves(tunnelId), { what: "the edge knows" });
  const owned = stack.move();
  return { session, stream, visitor, answer, unregistered, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

test("a connector that hangs up with the answer to unregister gets it after its last request", async () => {
  await using left = await leave(["serialized_headers"]);
  for (let trip = 0; trip < 3; trip += 1) await left.session.ping();
  expect(left.answer.came).toBe(false);
  left.stream.respond({ status: 204, headers: [], source: "origin" }, { bodyless: true });
  await left.unregistered;
  left.session.close();
  expect(left.visitor.slice(0, 2)).toEqual(["204", "end"]);
});

test("one of ours is answered at once, and its request goes on", async () => {
  await using left = await leave([FEATURE_EDGE_LEAVING]);
  await left.unregistered;
  expect(left.visitor).toEqual([]);
  left.stream.respond({ status: 204, headers: [], source: "origin" }, { bodyless: true });
  await pollUntil(() => left.visitor.length >= 2, { what: "the answer" });
  expect(left.visitor.slice(0, 2)).toEqual(["204", "end"]);
});
