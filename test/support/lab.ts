import { existsSync } from "node:fs";
import { join } from "node:path";
import { culvertCommand } from "./binary.ts";
import { field } from "./lab-message.ts";
import { type LabOrigin, startOrigin } from "./origins.ts";
import { pollUntil } from "./poll-until.ts";
import { type OwnedProcess, type ProcessOptions, runProcess, startProcess } from "./processes.ts";
import { makeTempDir } from "./temp-dir.ts";
import { visit } from "./visitors.ts";

export interface EdgeProcess {
  readonly process: OwnedProcess;
  readonly publicPort: number;
  readonly tunnelPort: number;
  readonly caPath: string;
  /** Where it serves HTTPS and metrics; 0 = it does not. */
  readonly httpsPort: number;
  readonly metricsPort: number;
}

/** `culvert edge run` on free ports, or on the ports of an earlier one. */
export async function startEdgeProcess(
  stateDir: string,
  ports: { readonly publicPort?: number; readonly tunnelPort?: number } = {},
  options?: ProcessOptions & { readonly command?: readonly string[]; readonly flags?: readonly string[] },
): Promise<EdgeProcess> {
  const child = startProcess(
    [
      ...(options?.command ?? culvertCommand()),
      ...["edge", "run", "--state-dir", stateDir, "--location", "LAB"],
      ...[
        "--http-listen",
        `127.0.0.1:${ports.publicPort ?? 0}`,
        "--tunnel-listen",
        `127.0.0.1:${ports.tunnelPort ?? 0}`,
      ],
      ...(options?.flags ?? []),
    ],
    options,
  );
  try {
    const [line] = await child.errorLine(/Edge is ready.*/);
    const field = (pattern: RegExp): string => {
      const found = pattern.exec(line)?.[1];
      if (found === undefined) throw new Error(`The edge says nothing like ${pattern} in: ${line}`);
      return found;
    };
    const publicPort = field(/ public=http:\/\/127\.0\.0\.1:(\d+)/);
    const tunnelPort = field(/ tunnel=127\.0\.0\.1:(\d+)/);
    const caPath = field(/ ca=(\S+)/);
    return {
      ...{ process: child, publicPort: Number(publicPort), tunnelPort: Number(tunnelPort), caPath },
      httpsPort: Number(/ https=https:\/\/127\.0\.0\.1:(\d+)/.exec(line)?.[1] ?? 0),
      metricsPort: Number(/ metrics=127\.0\.0\.1:(\d+)/.exec(line)?.[1] ?? 0),
    };
  } catch (error) {
    await child[Symbol.asyncDispose]();
    throw error;
  }
}

/** Adds a tunnel to an edge's state; gives its token. */
export async function addTunnel(
  stateDir: string,
  name: string,
  hostnames: readonly string[],
  options?: ProcessOptions & { readonly command?: readonly string[] },
): Promise<string> {
  const command = options?.command ?? culvertCommand();
  const { code, stdout, stderr } = await runProcess(
    [...command, "edge", "tunnel", "add", name, ...hostnames, "--state-dir", stateDir],
    options,
  );
  if (code !== 0) throw new Error(`edge tunnel add ended with ${code}: ${stderr}`);
  return stdout.trim();
}

/** A connector program that the edge must serve. */
export interface ConnectorKind {
  /** Program and protocol. */
  readonly name: string;
  readonly protocol: Protocol | "auto";
  /** Culvert keeps more than cloudflared can: field case, trailers, informational answers. */
  readonly ours: boolean;
  /** False = cloudflared over QUIC, which has no place for trailers. */
  readonly trailers: boolean;
  /** Why it cannot be tested here. */
  readonly missing?: string;
  argv(run: ConnectorRun): readonly string[];
}

export interface ConnectorRun {
  readonly token: string;
  readonly tunnelPort: number;
  readonly caPath: string;
  /** Its origin, where no configuration names one. */
  readonly url?: string;
  readonly gracePeriod?: string;
  /** Edges as HOST:PORT, instead of the one at `tunnelPort`. */
  readonly edges?: readonly string[];
  /** More flags of `tunnel`. */
  readonly flags?: readonly string[];
  /** More environment variables. */
  readonly env?: Readonly<Record<string, string>>;
}

export type Protocol = "quic" | "http2";

export const PROTOCOLS: readonly Protocol[] = ["quic", "http2"];

export function culvertConnector(protocol: Protocol | "auto"): ConnectorKind {
  return {
    name: `culvert over ${protocol}`,
    protocol,
    ours: true,
    trailers: true,
    // Its token says where the edge is and whom to trust.
    argv: ({ token, url, gracePeriod = "20s", edges = [], flags = [] }) => [
      ...culvertCommand(),
      ...["tunnel", "--protocol", protocol, "--metrics", "127.0.0.1:0", "--grace-period", gracePeriod],
      ...[...edges.flatMap((edge) => ["--edge", edge]), ...flags],
      ...["run", "--token", token, ...urlFlag(url)],
    ],
  };
}

export const CULVERT: ConnectorKind = culvertConnector("quic");

function cloudflared(variable: string, protocol: Protocol | "auto"): ConnectorKind {
  const path = process.env[variable] ?? "";
  const missing = path === "" ? `${variable} is not set` : existsSync(path) ? undefined : `${variable} names no file`;
  return {
    name: `cloudflared of ${variable} over ${protocol}`,
    protocol,
    ours: false,
    trailers: protocol === "http2",
    ...(missing === undefined ? {} : { missing }),
    argv: (run) => cloudflaredArgv(path, run, protocol),
  };
}

/** cloudflared's own flags. The connectivity check of newer releases, unknown to older ones, is off by environment variable. */
export function cloudflaredArgv(path: string, run: ConnectorRun, protocol: Protocol | "auto"): readonly string[] {
  const edges = run.edges ?? [`127.0.0.1:${run.tunnelPort}`];
  return [
    ...[path, "tunnel", "--no-autoupdate", ...edges.flatMap((edge) => ["--edge", edge]), "--cacert", run.caPath],
    ...(run.flags ?? []),
    ...["--protocol", protocol, "--metrics", "127.0.0.1:0", "--grace-period", run.gracePeriod ?? "20s"],
    ...["run", ...urlFlag(run.url), "--token", run.token],
  ];
}

function urlFlag(url: string | undefined): readonly string[] {
  return url === undefined ? [] : ["--url", url];
}

/** Ours, and cloudflared as `CLOUDFLARED_BIN` and `CLOUDFLARED_BIN_OLD` name it, over one protocol. */
export function connectorsOver(protocol: Protocol | "auto"): readonly ConnectorKind[] {
  return [
    culvertConnector(protocol),
    cloudflared("CLOUDFLARED_BIN", protocol),
    ...(process.env["CLOUDFLARED_BIN_OLD"] === undefined ? [] : [cloudflared("CLOUDFLARED_BIN_OLD", protocol)]),
  ];
}

/** All of them, over each protocol. */
export const CONNECTORS: readonly ConnectorKind[] = PROTOCOLS.flatMap(connectorsOver);

export const HOST = "app.lab.example";

export interface Lab extends AsyncDisposable {
  readonly stateDir: string;
  readonly edge: EdgeProcess;
  readonly origin: LabOrigin;
  readonly connector: OwnedProcess;
  readonly port: number;
  readonly run: ConnectorRun;
  readonly token: string;
  /** Waits until the edge serves the lab's hostname. */
  served(deadlineMs?: number): Promise<void>;
}

/** Edge, connector and origin: the whole way of a request, each in a process of its own (the origin in this one). */
export async function startLab(
  kind: ConnectorKind,
  options: {
    readonly gracePeriod?: string;
    readonly originPort?: number;
    /** More flags of `edge run`. */
    readonly edgeFlags?: readonly string[];
    readonly hostnames?: readonly string[];
    /** More flags of the connector. */
    readonly connectorFlags?: readonly string[];
  } = {},
): Promise<Lab> {
  await using stack = new AsyncDisposableStack();
  const dir = stack.use(makeTempDir());
  const stateDir = join(dir.path, "state");
  const origin = stack.use(await startOrigin());
  const edge = await startEdgeProcess(stateDir, {}, { flags: options.edgeFlags ?? [] });
  stack.use(edge.process);
  const token = await addTunnel(stateDir, "lab", options.hostnames ?? [HOST]);
  const url = `http://127.0.0.1:${options.originPort ?? origin.port}`;
  const { tunnelPort, caPath } = edge;
  const { gracePeriod, connectorFlags: flags = [] } = options;
  const run = { token, tunnelPort, caPath, url, flags, ...(gracePeriod === undefined ? {} : { gracePeriod }) };
  const connector = stack.use(startConnector(kind, run));
  await connector.errorLine(/Registered tunnel connection/);
  const port = edge.publicPort;
  const owned = stack.move();
  return {
    ...{ stateDir, edge, origin, connector, port, run, token },
    served: (deadlineMs) => served(port, deadlineMs),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

export function startConnector(kind: ConnectorKind, run: ConnectorRun): OwnedProcess {
  return startProcess(kind.argv(run), { env: { ...cleanEnvironment(), TUNNEL_NO_PRECHECKS: "true", ...run.env } });
}

/** Our environment without what would steer a connector, and without its look at the network when it starts. */
export function cleanEnvironment(): Record<string, string> {
  const kept = Object.entries(process.env).filter(([name]) => !/^(TUNNEL_|CULVERT_|NO_|.*_proxy$)/i.test(name));
  const ours = Object.fromEntries(kept.filter((entry): entry is [string, string] => entry[1] !== undefined));
  // Tests count connections.
  return { ...ours, TUNNEL_NO_PRECHECKS: "true" };
}

/** Resolves once a request to the lab's hostname reaches the origin. */
export async function served(port: number, deadlineMs = 5_000): Promise<void> {
  await pollUntil(async () => (await visit(port, { host: HOST, target: "/hello" })).status === 200, {
    what: "the hostname is served",
    deadlineMs,
    everyMs: 20,
  });
}

/** Address of the metrics server that a connector says it started. */
export async function metricsPort(connector: OwnedProcess): Promise<number> {
  const [, port] = await connector.errorLine(/Starting metrics server on 127\.0\.0\.1:(\d+)/);
  return Number(port);
}

/** How many connections a connector says it has. */
export async function readyConnections(port: number): Promise<number> {
  const answer = await visit(port, { host: "127.0.0.1", target: "/ready" });
  if (field(answer, "content-type") === undefined && answer.body.length === 0) return 0;
  return (JSON.parse(answer.body.toString()) as { readyConnections: number }).readyConnections;
}
