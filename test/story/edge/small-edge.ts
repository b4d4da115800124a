import { newConnectionId, newConnectorId, type TunnelId } from "../../../src/core/ids.ts";
import { silentLogger } from "../../../src/core/log.ts";
import { Dispatcher } from "../../../src/edge/dispatcher/dispatcher.ts";
import { type PublicListener, startPublicListener } from "../../../src/edge/listener/listener.ts";
import type { AccessEntry } from "../../../src/edge/listener/visitor-deps.ts";
import { type LiveConnection, Registry } from "../../../src/edge/registry.ts";
import type { Store } from "../../../src/edge/store/port.ts";
import { openSqliteStore } from "../../../src/edge/store/sqlite/index.ts";
import { NO_TRAILERS } from "../../../src/net/channel.ts";
import { createMemorySessionPair } from "../../../src/transport/memory.ts";
import type { IncomingStream } from "../../../src/transport/port.ts";
import { parseCidr } from "../../../src/wire/cidr.ts";
import type { RawHeaders } from "../../../src/wire/headers.ts";
import { storeTunnel } from "../../support/stored.ts";
import { VirtualClock } from "../../support/virtual-clock.ts";
import { RawVisitor } from "./raw-visitor.ts";

export const HOST = "app.example.com";

/** What a connector does with a request; `connection` counts from 0. */
export type Serve = (stream: IncomingStream, connection: number) => void;

export interface SmallEdge extends AsyncDisposable {
  readonly clock: VirtualClock;
  readonly store: Store;
  readonly registry: Registry;
  readonly tunnelId: TunnelId;
  readonly listener: PublicListener;
  readonly access: readonly AccessEntry[];
  readonly connections: readonly LiveConnection[];
  /** Cuts a tunnel connection as a dead network would. */
  cut(connection: number): void;
  /** Adds a connection of another connector. */
  connect(connection: number): void;
  visit(): Promise<RawVisitor>;
}

/**
 * The public half of an edge on a real socket, its tunnel connections in memory, its clock in the test's hand. One
 * tunnel serves `app.example.com` and `*.wild.example.com`.
 */
export async function startSmallEdge(
  options: { serve?: Serve; connections?: number; trustedProxies?: readonly string[]; store?: Store } = {},
): Promise<SmallEdge> {
  const clock = new VirtualClock();
  const store = options.store ?? openSqliteStore(":memory:", new Uint8Array(32));
  const { id: tunnelId } = storeTunnel(store, "t", { hostnames: [HOST, "*.wild.example.com"] });
  const registry = new Registry();
  const cuts: (() => void)[] = [];
  const connect = (index: number): LiveConnection => {
    const pair = createMemorySessionPair(clock);
    const live: LiveConnection = {
      connectionId: newConnectionId(),
      tunnelId,
      connectorId: newConnectorId(),
      connIndex: index,
      session: pair.edge,
      remoteIp: "192.0.2.1",
      version: "1",
      arch: "linux_amd64",
      features: [],
      registeredAtMs: 0,
      draining: false,
      suspectedAtMs: undefined,
      failures: 0,
      rttMs: undefined,
    };
    registry.admit(live);
    void pair.edge.closed.then(() => registry.remove(live));
    const serve = options.serve ?? helloOrigin;
    pair.connector.serve((stream) => serve(stream, index));
    cuts[index] = pair.cut;
    return live;
  };
  const connections = Array.from({ length: options.connections ?? 1 }, (_, index) => connect(index));
  const access: AccessEntry[] = [];
  const listener = await startPublicListener({
    host: "127.0.0.1",
    port: 0,
    dispatcher: new Dispatcher({ store, registry, clock, log: silentLogger }),
    clock,
    policy: { trustedProxies: (options.trustedProxies ?? []).flatMap((text) => parseCidr(text) ?? []) },
    location: "tst01",
    onAccess: (entry) => access.push(entry),
  });
  return {
    ...{ clock, store, registry, tunnelId, listener, access, connections },
    cut: (connection) => cuts[connection]?.(),
    connect: (index) => void connections.push(connect(index)),
    visit: () => RawVisitor.connect(listener.port),
    [Symbol.asyncDispose]: async () => {
      listener.abort();
      await listener.close();
      for (const live of connections) live.session.close();
      store.close();
    },
  };
}

/** Answers a request that has been read to its end. */
export function answer(
  stream: IncomingStream,
  response: { status?: number; headers?: RawHeaders; body?: string; trailers?: RawHeaders },
): void {
  stream.respond({ status: response.status ?? 200, headers: response.headers ?? [], source: "origin" });
  if (response.body !== undefined && response.body !== "") stream.write(bytes(response.body));
  stream.end(response.trailers ?? NO_TRAILERS);
}

/** Reads the request's body and then calls back with it. */
export function readBody(stream: IncomingStream, done: (body: string, trailers: RawHeaders) => void): void {
  let body = "";
  stream.listen({
    onData: (chunk) => {
      body += Buffer.from(chunk).toString("latin1");
    },
    onEnd: (trailers) => done(body, trailers),
    onDrain: () => {},
    onClose: () => {},
  });
}

/** Answers each request with its method, host and path, so that a test sees what arrived. */
export const helloOrigin: Serve = (stream) => {
  readBody(stream, (body) => {
    const { method, authority, path } = stream.request;
    const text = `${method} ${authority} ${path} ${body}`;
    answer(stream, { headers: ["Content-Length", String(text.length)], body: text });
  });
};

export function bytes(text: string): Uint8Array {
  return Uint8Array.from(text, (char) => char.charCodeAt(0));
}
