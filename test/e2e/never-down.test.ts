import { describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { EdgePair } from "../support/edge-pair.ts";
import {
  addTunnel,
  CONNECTORS,
  type ConnectorKind,
  type ConnectorRun,
  cleanEnvironment,
  connectorsOver,
  culvertConnector,
  HOST,
  PROTOCOLS,
  served,
  startConnector,
  startEdgeProcess,
} from "../support/lab.ts";
import { LabLoad } from "../support/lab-load.ts";
import { type LabOrigin, startOrigin } from "../support/origins.ts";
import { canHaveOwnHosts, hostsFile, withHosts } from "../support/own-hosts.ts";
import { pollUntil } from "../support/poll-until.ts";
import { startProcess } from "../support/processes.ts";
import { makeTempDir } from "../support/temp-dir.ts";
import { openVisit, visit } from "../support/visitors.ts";

/** How long after an edge's return its share of the connections must be back, in ms: ours, and cloudflared's backoff. */
const BACK_MS = 5_000;
const CLOUDFLARED_BACK_MS = 40_000;
/** From a connector's death until requests go on as if nothing had happened, in ms. */
const NOTICED_MS = 1_000;
/** A request that takes longer was held up, in ms; an echo takes a few. */
const HELD_UP_MS = 500;
const START_MS = 15_000;

function describeEach(what: string, kinds: readonly ConnectorKind[], suite: (kind: ConnectorKind) => void): void {
  for (const kind of kinds) {
    if (kind.missing === undefined) describe(`${what}, ${kind.name}`, () => suite(kind));
    else describe.skip(`${what}, ${kind.name} (${kind.missing})`, () => suite(kind));
  }
}

/** A running answer of which the first half is here. `whole` reads the rest, and hangs up as visitors do. */
async function beginAnswer(port: number, gate: string): Promise<{ whole(): Promise<string> } & AsyncDisposable> {
  const { socket, chunks } = await openVisit(port, { host: HOST, target: `/sse?gate=${gate}` });
  let text = (await chunks.next()).value?.toString() ?? "";
  return {
    whole: async () => {
      for await (const chunk of chunks) text += chunk.toString();
      await socket[Symbol.asyncDispose]();
      return text;
    },
    [Symbol.asyncDispose]: () => socket[Symbol.asyncDispose](),
  };
}

const WHOLE = "data: first\n\ndata: second\n\n";

describeEach("two edges", [...CONNECTORS, ...connectorsOver("auto")], (kind) => {
  test("each of them, and then the connector, may be stopped without a failed request", async () => {
    await using edges = await EdgePair.start();
    await using origin = await startOrigin();
    await using connector = startConnector(kind, {
      ...{ token: edges.token, caPath: edges.caPath, edges: edges.addresses },
      ...{ tunnelPort: edges.edge(0).tunnelPort, url: originUrl(origin) },
    });
    await edges.registered(2, START_MS);
    await Promise.all([served(edges.edge(0).publicPort), served(edges.edge(1).publicPort)]);

    const stopping = edges.edge(0);
    await using onStopping = await beginAnswer(stopping.publicPort, "edge");
    await using load = new LabLoad(edges.edge(1).publicPort, ["GET", "POST"]);
    await load.more(50);
    stopping.process.signal("SIGTERM");
    await stopping.process.errorLine(/Initiating graceful shutdown/);
    await load.more(100);
    expect(stopping.process.end).toBeUndefined();
    origin.open("edge");
    expect(await onStopping.whole()).toBe(WHOLE);
    expect(await stopping.process.exitCode()).toBe(0);
    await edges.restart(0);
    await edges.registered(2, kind.ours ? BACK_MS : CLOUDFLARED_BACK_MS);
    await served(edges.edge(0).publicPort);
    await load.stop();
    expect(load.failed).toEqual([]);

    await using onConnector = await beginAnswer(edges.edge(0).publicPort, "connector");
    connector.signal("SIGTERM");
    await connector.errorLine(/Initiating graceful shutdown/);
    origin.open("connector");
    expect(await onConnector.whole()).toBe(WHOLE);
    expect(await connector.exitCode(25_000)).toBe(0);
  }, 90_000);
});

for (const protocol of PROTOCOLS) {
  test(`a new configuration takes over from the old one without a failed request, over ${protocol}`, async () => {
    await using world = await startWorld();
    await using before = await startOrigin();
    await using after = await startOrigin();
    const kind = culvertConnector(protocol);
    const configured = (name: string, port: number): ConnectorRun => {
      const path = join(world.dir, `${name}.yml`);
      writeFileSync(
        path,
        `ingress:\n  - hostname: ${HOST}\n    service: http://127.0.0.1:${port}\n  - service: http_status:404\n`,
      );
      return { ...world.run, flags: ["--config", path] };
    };
    await using first = startConnector(kind, configured("before", before.port));
    await first.errorLine(/Registered tunnel connection/);
    await served(world.port);
    await using load = new LabLoad(world.port, ["GET", "POST"]);
    const held = ["GET", "POST"].map((method) => {
      const body = method === "POST" ? { body: "held back" } : {};
      return visit(world.port, { host: HOST, method, target: "/slow?gate=held", ...body });
    });
    await pollUntil(() => before.seen.filter(({ target }) => target === "/slow?gate=held").length === held.length, {
      what: "requests of the first connector run",
    });
    await using _second = startConnector(kind, configured("after", after.port));
    await pollUntil(() => after.seen.length > 50, { what: "the second connector serves too", deadlineMs: START_MS });

    first.signal("SIGTERM");
    await world.edge.process.errorLine(/Tunnel connection unregistered/);
    await load.more(50);
    const lastOfFirst = before.seen.length;
    await load.more(100);
    expect(before.seen.length).toBe(lastOfFirst);
    expect(first.end).toBeUndefined();
    before.open("held");
    expect((await Promise.all(held)).map(({ body }) => body.toString())).toEqual(["firstafter", "firstafter"]);
    expect(await first.exitCode()).toBe(0);
    await load.more(50);
    await load.stop();
    expect(load.failed).toEqual([]);
  });
}

describeEach("kill -9 of one connector of two", CONNECTORS, (kind) => {
  test("only its requests in flight may fail, and new ones are fine within 1 s", async () => {
    await using world = await startWorld();
    await using killedOrigin = await startOrigin();
    await using otherOrigin = await startOrigin();
    await using killed = startConnector(kind, { ...world.run, url: originUrl(killedOrigin) });
    await using _other = startConnector(kind, { ...world.run, url: originUrl(otherOrigin) });
    await using load = new LabLoad(world.port, ["GET"]);
    await pollUntil(() => killedOrigin.seen.length > 50 && otherOrigin.seen.length > 50, {
      what: "both connectors serve",
      deadlineMs: START_MS,
    });
    const early = load.requests.length;

    const killMs = performance.now();
    killed.signal("SIGKILL");
    await pollUntil(() => performance.now() - killMs > NOTICED_MS, { what: "time to notice" });
    await load.more(100);
    await load.stop();
    const measured = load.requests.slice(early);
    const notInFlight = measured.filter(
      ({ failure, startMs, target }) =>
        failure !== undefined && (startMs >= killMs || killedOrigin.seenAt(target) === undefined),
    );
    expect(notInFlight).toEqual([]);
    const heldUp = measured.filter(({ tookMs }) => tookMs > HELD_UP_MS);
    expect(heldUp.filter(({ startMs }) => startMs > killMs + NOTICED_MS)).toEqual([]);
    expect(heldUp.filter(({ startMs, tookMs }) => startMs + tookMs > killMs + NOTICED_MS + HELD_UP_MS)).toEqual([]);
  });
});

const hasOwnHosts = await canHaveOwnHosts();

for (const protocol of PROTOCOLS) {
  test(`an edge by name, over ${protocol}`, async () => {
    await using world = await startWorld();
    await using origin = await startOrigin();
    const edges = [`localhost:${world.run.tunnelPort}`];
    await using _connector = startConnector(culvertConnector(protocol), {
      ...world.run,
      edges,
      url: originUrl(origin),
    });
    await world.edge.process.errorLine(new RegExp(`Tunnel connection registered .*protocol=${protocol}`));
    await served(world.port);
  });

  test.skipIf(!hasOwnHosts)(`a name of which only one address is an edge, over ${protocol}`, async () => {
    await using world = await startWorld();
    await using origin = await startOrigin();
    const hosts = hostsFile(world.dir, "edge.lab.example", ["::1", "127.0.0.9", "127.0.0.1"]);
    const edges = [`edge.lab.example:${world.run.tunnelPort}`];
    const argv = culvertConnector(protocol).argv({ ...world.run, edges, url: originUrl(origin) });
    await using _connector = startProcess(withHosts(hosts, argv), { env: cleanEnvironment() });
    await world.edge.process.errorLine(new RegExp(`Tunnel connection registered .*protocol=${protocol}`), START_MS);
    await served(world.port);
  });
}

describeEach("the address to dial from", CONNECTORS, (kind) => {
  test("is what the edge sees", async () => {
    await using world = await startWorld();
    await using origin = await startOrigin();
    const flags = ["--edge-bind-address", "127.0.0.5"];
    await using _connector = startConnector(kind, { ...world.run, flags, url: originUrl(origin) });
    const [line] = await world.edge.process.errorLine(/Tunnel connection registered .*/);
    expect(line).toContain(" ip=127.0.0.5 ");
    expect(line).toContain(` protocol=${kind.protocol} `);
    await served(world.port);
  });
});

function originUrl({ port }: LabOrigin): string {
  return `http://127.0.0.1:${port}`;
}

/** An edge with a tunnel, and how to connect to it. */
async function startWorld() {
  await using stack = new AsyncDisposableStack();
  const dir = stack.use(makeTempDir()).path;
  const stateDir = join(dir, "state");
  const edge = await startEdgeProcess(stateDir);
  stack.use(edge.process);
  const token = await addTunnel(stateDir, "lab", [HOST]);
  const { tunnelPort, caPath, publicPort: port } = edge;
  const run: ConnectorRun = { token, tunnelPort, caPath };
  const owned = stack.move();
  return { dir, edge, port, run, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}
