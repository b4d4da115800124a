import { describe, expect, test } from "bun:test";
import { createHash, randomBytes } from "node:crypto";
import { renameSync, writeFileSync } from "node:fs";
import type { Socket } from "node:net";
import { join } from "node:path";
import { TunnelError } from "../../src/core/errors.ts";
import type { EdgeSession } from "../../src/transport/port.ts";
import { openFlow } from "../support/flows.ts";
import {
  CONNECTORS,
  type ConnectorKind,
  culvertConnector,
  metricsPort,
  PROTOCOLS,
  startConnector,
} from "../support/lab.ts";
import { pollUntil } from "../support/poll-until.ts";
import type { OwnedProcess } from "../support/processes.ts";
import { type PushingEdge, startPushingEdge } from "../support/pushing-edge.ts";
import { startTcpOrigin } from "../support/tcp-origin.ts";
import { makeTempDir } from "../support/temp-dir.ts";
import { visit } from "../support/visitors.ts";

const MIB = 1024 * 1024;
const LONG_MS = 60_000;
/** Flows at once. */
const MANY = 50;

interface Network extends AsyncDisposable {
  readonly edge: PushingEdge;
  readonly connector: OwnedProcess;
  readonly session: EdgeSession;
  /** Puts another `warp-routing` into the config file. */
  change(warpRouting: unknown): void;
}

/** An edge that opens flows, and a connector in a process of its own with this `warp-routing`. */
async function startNetwork(
  kind: ConnectorKind,
  warpRouting: unknown,
  more: {
    readonly flags?: readonly string[];
    readonly remotelyManaged?: boolean;
    readonly env?: Record<string, string>;
  } = {},
): Promise<Network> {
  await using stack = new AsyncDisposableStack();
  const dir = stack.use(makeTempDir());
  const file = join(dir.path, "config.yml");
  const change = (value: unknown): void => {
    const config = { ingress: [{ service: "http_status:404" }], "warp-routing": value };
    writeFileSync(`${file}.new`, JSON.stringify(config));
    renameSync(`${file}.new`, file);
  };
  change(warpRouting);
  const edge = stack.use(await startPushingEdge({ remotelyManaged: more.remotelyManaged ?? false }));
  const { token, tunnelPort, caPath } = edge;
  const flags = ["--config", file, ...(kind.ours ? ["--ha-connections", "1"] : []), ...(more.flags ?? [])];
  const connector = stack.use(
    startConnector(kind, { token, tunnelPort, caPath, flags, gracePeriod: "1s", env: more.env ?? {} }),
  );
  await edge.registered(1);
  const [session] = edge.sessions;
  if (session === undefined) throw new Error("no session");
  const owned = stack.move();
  return { edge, connector, session, change, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** Lets the edge reach this machine, which it may not without a rule. */
const THIS_MACHINE = { enabled: true, ipRules: [{ prefix: "127.0.0.0/8", allow: true }] };

function echo(socket: Socket): void {
  socket.pipe(socket);
}

async function exchange(session: EdgeSession, destination: string, sent: Buffer): Promise<Buffer> {
  const { response, stream } = await openFlow(session, destination);
  expect(response).toMatchObject({ status: 200, source: "origin" });
  for (let at = 0; at < sent.length; at += 60_000) await stream.write(sent.subarray(at, at + 60_000));
  await pollUntil(() => stream.bytes >= sent.length || stream.closed, { what: "the echo", deadlineMs: 20_000 });
  stream.channel.end();
  return stream.received;
}

for (const kind of CONNECTORS) {
  describe.skipIf(kind.missing !== undefined)(`native TCP streams to ${kind.name}`, () => {
    test(
      "carry bytes both ways, many at once",
      async () => {
        await using origin = await startTcpOrigin(echo);
        await using network = await startNetwork(kind, THIS_MACHINE);
        const to = `127.0.0.1:${origin.port}`;
        const sent = randomBytes(8 * MIB);
        expect((await exchange(network.session, to, sent)).equals(sent)).toBe(true);
        await Promise.all(
          Array.from({ length: MANY }, async () => {
            const own = randomBytes(100_000);
            expect((await exchange(network.session, to, own)).equals(own)).toBe(true);
          }),
        );
        await pollUntil(() => origin.sockets.size === 0, { what: "no connection is left" });
        await pollUntil(() => network.session.streamCount === 0, { what: "no stream is left" });
      },
      LONG_MS,
    );

    test(
      "end within a second when a side is cut",
      async () => {
        await using origin = await startTcpOrigin((socket) => void socket.write("hello"));
        await using network = await startNetwork(kind, THIS_MACHINE);
        const begin = async () => {
          const { stream } = await openFlow(network.session, `127.0.0.1:${origin.port}`);
          await pollUntil(() => stream.bytes === 5, { what: "the greeting" });
          return stream;
        };
        // cloudflared hears of the edge's cut only when the service says something.
        if (kind.ours) {
          const first = await begin();
          first.channel.abort(new TunnelError("aborted", "The client left"));
          await pollUntil(() => origin.sockets.size === 0, { what: "the service is cut", deadlineMs: 1_000 });
        }
        const second = await begin();
        for (const socket of origin.sockets) socket.resetAndDestroy();
        await pollUntil(() => second.closed ?? second.ended, { what: "the edge hears of it", deadlineMs: 1_000 });
      },
      LONG_MS,
    );

    test(
      "to an address where nobody listens are refused",
      async () => {
        const gone = await startTcpOrigin(() => {});
        await gone[Symbol.asyncDispose]();
        await using network = await startNetwork(kind, THIS_MACHINE);
        const { response } = await openFlow(network.session, `127.0.0.1:${gone.port}`);
        expect(response).toMatchObject({ status: 502, source: "cloudflared", headers: [] });
      },
      LONG_MS,
    );
  });
}

describe.each(PROTOCOLS.map((protocol) => ({ protocol })))("our private network over $protocol", ({ protocol }) => {
  const kind = culvertConnector(protocol);
  const answer = async (network: Network, destination: string) => {
    const { response, stream } = await openFlow(network.session, destination);
    stream.channel.abort(new TunnelError("aborted", "Only the answer is wanted"));
    return response;
  };

  test(
    "half-close is kept in both directions",
    async () => {
      let heard = "";
      await using hashing = await startTcpOrigin((socket) => {
        const hash = createHash("sha256");
        socket.on("data", (chunk) => hash.update(chunk));
        socket.on("end", () => void socket.end(hash.digest("hex")));
      });
      await using parting = await startTcpOrigin((socket) => {
        socket.end("bye");
        socket.on("data", (chunk) => {
          heard += chunk.toString();
        });
      });
      await using network = await startNetwork(kind, THIS_MACHINE);
      const { stream } = await openFlow(network.session, `127.0.0.1:${hashing.port}`);
      const sent = randomBytes(3 * MIB);
      for (let at = 0; at < sent.length; at += 50_000) await stream.write(sent.subarray(at, at + 50_000));
      stream.channel.end();
      await pollUntil(() => stream.closed, { what: "the service's end" });
      expect(stream.received.toString()).toBe(createHash("sha256").update(sent).digest("hex"));
      expect(stream.closed).toEqual({ error: undefined });
      const { stream: other } = await openFlow(network.session, `127.0.0.1:${parting.port}`);
      await pollUntil(() => other.ended, { what: "the service's end" });
      await other.write("but wait");
      other.channel.end();
      await pollUntil(() => heard === "but wait", { what: "the rest reaches the service" });
      await pollUntil(() => other.closed, { what: "the close" });
      expect(other.closed).toEqual({ error: undefined });
    },
    LONG_MS,
  );

  test(
    "what comes with the request waits for the connection; a side that does not read holds the other back",
    async () => {
      const total = 48 * MIB;
      let sent = 0;
      let heard = "";
      const service = Promise.withResolvers<Socket>();
      await using origin = await startTcpOrigin((socket) => {
        socket.on("data", (chunk) => {
          heard += chunk.toString();
        });
        service.resolve(socket);
      });
      await using network = await startNetwork(kind, THIS_MACHINE);
      const opening = openFlow(network.session, `127.0.0.1:${origin.port}`);
      const { stream } = await opening;
      await stream.write("early");
      stream.channel.pause();
      const socket = await service.promise;
      await pollUntil(() => heard === "early", { what: "the first bytes" });
      const block = Buffer.alloc(256 * 1024, "block");
      const push = (): void => {
        while (sent < total) {
          sent += block.length;
          if (!socket.write(block)) return;
        }
        socket.end();
      };
      socket.on("drain", push);
      push();
      let before = -1;
      const standsStill = (): boolean => {
        const still = sent === before;
        before = sent;
        return still;
      };
      await pollUntil(standsStill, { what: "the service stands still", everyMs: 300 });
      expect(sent).toBeLessThan(total);
      expect(network.connector.peakResidentBytes()).toBeLessThan(300 * MIB);
      stream.channel.resume();
      await pollUntil(() => stream.ended, { what: "everything", deadlineMs: 20_000 });
      expect(stream.bytes).toBe(total);
    },
    LONG_MS,
  );

  test(
    "is closed without `enabled: true`, and the log says how to open it",
    async () => {
      await using origin = await startTcpOrigin(echo);
      await using network = await startNetwork(kind, { connectTimeout: "5s" });
      const to = `127.0.0.1:${origin.port}`;
      expect(await answer(network, to)).toMatchObject({ status: 502, source: "cloudflared" });
      await network.connector.errorLine(/Refused a private network stream.*enabled: true/);
      network.change(THIS_MACHINE);
      await network.connector.errorLine(/may reach what the ipRules of warp-routing allow/);
      const sent = Buffer.from("open now");
      expect(await exchange(network.session, to, sent)).toEqual(sent);
      network.change({ enabled: false });
      await network.connector.errorLine(/private network is closed to the edge again/);
      expect(await answer(network, to)).toMatchObject({ status: 502 });
      expect(origin.sockets.size).toBe(0);
    },
    LONG_MS,
  );

  test(
    "without ipRules this machine and cloud metadata are out of reach; with them only what they allow",
    async () => {
      await using origin = await startTcpOrigin(echo);
      const { port } = origin;
      await using open = await startNetwork(kind, { enabled: true });
      await open.connector.errorLine(/WRN warp-routing has no ipRules/);
      for (const host of [
        "127.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "169.254.169.254",
        "0.0.0.0",
        "[64:ff9b::7f00:1]",
      ]) {
        expect(await answer(open, `${host}:${port}`)).toMatchObject({ status: 502 });
      }
      for (const wrong of [
        `localhost:${port}`,
        "127.0.0.1",
        `127.1:${port}`,
        "127.0.0.1:0",
        "127.0.0.1:65536",
        `[127.0.0.1]:${port}`,
      ]) {
        expect(await answer(open, wrong)).toMatchObject({ status: 502 });
      }
      expect(open.connector.stderr).toContain("does not let visitors reach 127.0.0.1");
      expect(open.connector.stderr).toContain("not an IP address and a port");
      const rules = [
        { prefix: "127.0.0.1/32", ports: [port], allow: true },
        { prefix: "0.0.0.0/0", allow: false },
      ];
      await using chosen = await startNetwork(kind, { enabled: true, ipRules: rules });
      const sent = Buffer.from("by rule");
      expect(await exchange(chosen.session, `127.0.0.1:${port}`, sent)).toEqual(sent);
      expect(await answer(chosen, `127.0.0.2:${port}`)).toMatchObject({ status: 502 });
      expect(await answer(chosen, `127.0.0.1:${port === 1 ? 2 : 1}`)).toMatchObject({ status: 502 });
    },
    LONG_MS,
  );

  test(
    "maxActiveFlows, and --max-active-flows before it; metrics count",
    async () => {
      await using origin = await startTcpOrigin(echo);
      const to = `127.0.0.1:${origin.port}`;
      for (const [warpRouting, env] of [
        [{ ...THIS_MACHINE, maxActiveFlows: 2 }, {}],
        [{ ...THIS_MACHINE, maxActiveFlows: 1 }, { TUNNEL_MAX_ACTIVE_FLOWS: "2" }],
      ] as const) {
        await using network = await startNetwork(kind, warpRouting, { env });
        const [first] = await Promise.all([openFlow(network.session, to), openFlow(network.session, to)]);
        expect(await answer(network, to)).toMatchObject({ status: 502, source: "cloudflared", flowRateLimited: true });
        const port = await metricsPort(network.connector);
        const metrics = async () => (await visit(port, { host: "127.0.0.1", target: "/metrics" })).body.toString();
        expect(await metrics()).toMatch(/^cloudflared_tcp_active_sessions 2$/m);
        first.stream.channel.end();
        await pollUntil(async () => (await metrics()).includes("cloudflared_tcp_active_sessions 1\n"), {
          what: "one is over",
        });
        expect((await openFlow(network.session, to)).response.status).toBe(200);
        expect(await metrics()).toMatch(/^cloudflared_tcp_total_sessions 3$/m);
      }
    },
    LONG_MS,
  );

  test(
    "an edge may open it with the configuration that it pushes, and is told of a local one",
    async () => {
      await using origin = await startTcpOrigin(echo);
      await using remote = await startNetwork(kind, undefined, { remotelyManaged: true });
      const push = (version: number, warpRouting: unknown) =>
        remote.session.pushConfiguration({
          version,
          config: JSON.stringify({ ingress: [], "warp-routing": warpRouting }),
        });
      const to = `127.0.0.1:${origin.port}`;
      expect(await push(0, { connectTimeout: 5 })).toEqual({ latestAppliedVersion: 0, error: "" });
      expect(await answer(remote, to)).toMatchObject({ status: 502 });
      expect(await push(1, { ...THIS_MACHINE, connectTimeout: 5, tcpKeepAlive: 30 })).toMatchObject({ error: "" });
      expect(await exchange(remote.session, to, Buffer.from("remote"))).toEqual(Buffer.from("remote"));
      expect((await push(2, { enabled: true, connectTimeout: "5s" })).error).toContain("warp-routing.connectTimeout");
      await using local = await startNetwork(kind, { enabled: true, connectTimeout: "7s" });
      await pollUntil(() => local.edge.reported.length > 0, { what: "the local configuration is reported" });
      expect(local.edge.reported[0]).toMatchObject({
        "warp-routing": { enabled: true, connectTimeout: 7 },
      });
    },
    LONG_MS,
  );
});
