import { cpSync } from "node:fs";
import { join } from "node:path";
import { culvertCommand } from "../binary.ts";
import { addTunnel, cleanEnvironment } from "../lab.ts";
import { pollUntil } from "../poll-until.ts";
import { type OwnedProcess, startProcess } from "../processes.ts";
import { makeTempDir } from "../temp-dir.ts";
import { EDGE_ADDRESS, type Netlab, SITES, type Site } from "./netlab.ts";
import type { LoadPlan } from "./visit-record.ts";

export type Protocol = "http2" | "quic" | "auto";

export const HOSTNAME = "app.lab.example";
export const TUNNEL_PORT = 7844;
const PUBLIC_PORT = 8080;
const ORIGIN_PORT = 8000;
const METRICS_PORT = 9000;
/** Connections of one connector: two to each edge. */
export const CONNECTIONS = 4;
const CONNECT_DEADLINE_MS = 60_000;

/** A number of ready connections and since when, in ms since the epoch. */
export interface ReadyChange {
  readonly atMs: number;
  readonly count: number;
}

/** Two edges, two connectors with an origin each, in a lab. Every part is a process and can be ended and started. */
export class Cluster implements AsyncDisposable {
  readonly #lab: Netlab;
  readonly #protocol: Protocol;
  readonly #dir = makeTempDir();
  readonly #stack = new AsyncDisposableStack();
  readonly #edges = new Map<Site, OwnedProcess>();
  readonly #connectors = new Map<Site, OwnedProcess>();
  readonly #origins = new Map<Site, OwnedProcess>();
  readonly #watchers = new Map<Site, OwnedProcess>();
  readonly #all: { readonly edges: OwnedProcess[]; readonly origins: OwnedProcess[] } = { edges: [], origins: [] };
  #token = "";

  private constructor(lab: Netlab, protocol: Protocol) {
    this.#lab = lab;
    this.#protocol = protocol;
    this.#stack.use(this.#dir);
  }

  /** Starts everything but the connectors. */
  static async start(lab: Netlab, protocol: Protocol): Promise<Cluster> {
    const cluster = new Cluster(lab, protocol);
    try {
      // One authority and one tunnel, known to two edges that share nothing while they run.
      cluster.#token = await addTunnel(cluster.#stateDir(1), "lab", [HOSTNAME]);
      cpSync(cluster.#stateDir(1), cluster.#stateDir(2), { recursive: true });
      await Promise.all(SITES.flatMap((site) => [cluster.startEdge(site), cluster.startOrigin(site)]));
      for (const site of SITES) cluster.#watch(site);
      return cluster;
    } catch (error) {
      await cluster[Symbol.asyncDispose]();
      throw error;
    }
  }

  edge(number: Site): OwnedProcess {
    return found(this.#edges, number);
  }

  connector(site: Site): OwnedProcess {
    return found(this.#connectors, site);
  }

  origin(site: Site): OwnedProcess {
    return found(this.#origins, site);
  }

  async startEdge(number: Site): Promise<void> {
    const host = EDGE_ADDRESS[number];
    const argv = [
      ...[...culvertCommand(), "edge", "run", "--state-dir", this.#stateDir(number), "--location", `EDGE${number}`],
      ...["--http-listen", `${host}:${PUBLIC_PORT}`, "--tunnel-listen", `${host}:${TUNNEL_PORT}`],
      ...["--loglevel", "debug"],
    ];
    const edge = this.#start(`edge${number}`, argv);
    this.#edges.set(number, edge);
    this.#all.edges.push(edge);
    await edge.errorLine(/Edge is ready/);
  }

  startConnector(site: Site): void {
    const edges = [EDGE_ADDRESS[1], EDGE_ADDRESS[2], EDGE_ADDRESS[1], EDGE_ADDRESS[2]];
    const argv = [
      ...[...culvertCommand(), "tunnel", ...edges.flatMap((host) => ["--edge", `${host}:${TUNNEL_PORT}`])],
      ...["--protocol", this.#protocol, "--metrics", `127.0.0.1:${METRICS_PORT}`],
      ...["run", "--token", this.#token, "--url", `http://127.0.0.1:${ORIGIN_PORT}`],
    ];
    this.#connectors.set(site, this.#start(`site${site}`, argv));
  }

  /** Starts an origin; when one runs already, they share its port. */
  async startOrigin(site: Site): Promise<void> {
    const origin = this.#script(`site${site}`, "origin.ts", String(ORIGIN_PORT));
    this.#origins.set(site, origin);
    this.#all.origins.push(origin);
    await origin.outputLine(/ready/);
  }

  startLoad(plan: Omit<LoadPlan, "edges" | "hostname">): OwnedProcess {
    const edges = SITES.map((site) => ({ host: EDGE_ADDRESS[site], port: PUBLIC_PORT }));
    return this.#script("visitor", "load.ts", JSON.stringify({ ...plan, edges, hostname: HOSTNAME }));
  }

  readyChanges(site: Site): readonly ReadyChange[] {
    return lines(found(this.#watchers, site)).map((line) => {
      const [atMs = 0, count = 0] = line.split(" ").map(Number);
      return { atMs, count };
    });
  }

  /** Resolves once every connector has all its connections. */
  async connected(): Promise<void> {
    const failed = (): string | undefined =>
      SITES.map((site) => this.connector(site)).find((connector) => connector.end !== undefined)?.stderr;
    await pollUntil(
      () => failed() !== undefined || SITES.every((site) => this.readyChanges(site).at(-1)?.count === CONNECTIONS),
      { what: "all connections of both connectors", deadlineMs: CONNECT_DEADLINE_MS, everyMs: 20 },
    );
    const said = failed();
    if (said !== undefined) throw new Error(`A connector ended: ${said.slice(-1_000)}`);
  }

  /** The protocol of each connection that a connector has now, by connection index, as its log tells. */
  protocols(site: Site): ReadonlyMap<string, string> {
    const found = new Map<string, string>();
    for (const line of this.connector(site).stderr.split("\n")) {
      const index = /connIndex=(\d+)/.exec(line)?.[1];
      if (index === undefined) continue;
      const protocol = /Registered tunnel connection .*protocol=(\w+)/.exec(line)?.[1];
      if (protocol !== undefined) found.set(index, protocol);
      else if (line.includes("Unregistered tunnel connection")) found.delete(index);
    }
    return found;
  }

  /** How often an origin got the request with each id, so far. */
  arrivals(): ReadonlyMap<number, number> {
    const counts = new Map<number, number>();
    for (const line of this.#all.origins.flatMap(lines)) {
      if (!line.startsWith("id ")) continue;
      const id = Number(line.slice(3));
      counts.set(id, (counts.get(id) ?? 0) + 1);
    }
    return counts;
  }

  /** How often the edges gave a request to another connection; undefined while their access log does not say. */
  edgeRetries(): number | undefined {
    const told = this.#all.edges.flatMap((edge) => [...edge.stderr.matchAll(/ retries=(\d+)/g)]);
    return told.length === 0 ? undefined : told.reduce((sum, match) => sum + Number(match[1]), 0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }

  #watch(site: Site): void {
    this.#watchers.set(site, this.#script(`site${site}`, "ready-watch.ts", String(METRICS_PORT)));
  }

  #script(host: string, name: string, ...args: readonly string[]): OwnedProcess {
    return this.#start(host, [process.execPath, join(import.meta.dirname, name), ...args]);
  }

  #start(host: string, argv: readonly string[]): OwnedProcess {
    return this.#stack.use(startProcess(this.#lab.inside(host, argv), { env: cleanEnvironment() }));
  }

  #stateDir(edge: Site): string {
    return join(this.#dir.path, `edge${edge}`);
  }
}

/** Whole lines of a process's standard output. */
export function lines(owned: OwnedProcess): readonly string[] {
  return owned.stdout.split("\n").slice(0, -1);
}

function found<K, V>(map: ReadonlyMap<K, V>, key: K): V {
  const value = map.get(key);
  if (value === undefined) throw new Error(`${String(key)} was not started`);
  return value;
}
