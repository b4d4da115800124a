import { randomBytes } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openStateDir } from "../src/edge/state-dir.ts";
import { newTunnel } from "../src/edge/store/new-tunnel.ts";
import type { Actor } from "../src/edge/store/port.ts";
import { openSqliteStore } from "../src/edge/store/sqlite/index.ts";
import { createTunnelToken } from "../src/edge/tunnel-token.ts";
import {
  type Child,
  cpuSeconds,
  type EdgeUnderTest,
  firstLine,
  HOST,
  median,
  type Plan,
  type Processes,
  progress,
  rssMb,
  startCommanded,
  startConnector,
  startEdge,
  startEdgeAgain,
  stop,
  untilListening,
} from "./bench-processes.ts";

const CONCURRENCY = [1, 16, 128] as const;
const HOSTNAMES = 50_000;
const CONNECTORS = 1_000;
const KEPT_ALIVE = 10_000;
/** Rest before memory is read, in ms: the runtime gives some of it back within seconds. */
const SETTLE_MS = 5_000;
const ACTOR: Actor = { kind: "system", id: "bench", from: "" };

interface LoadResult {
  readonly requests: number;
  readonly failures: number;
  readonly seconds: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly bytes: number;
}
type Load = (command: string) => Promise<LoadResult>;

interface Figures {
  readonly points: Readonly<
    Record<
      number,
      { readonly requestsPerSecond: number; readonly p99Ms: number; readonly cpuMicros: number | undefined }
    >
  >;
  readonly downMbPerSecond: number;
  readonly upMbPerSecond: number;
}

export interface EdgeEffort {
  readonly seconds: number;
  readonly rounds: number;
  readonly bulkBytes: number;
}

/** The whole path beside the origin alone and nginx in front of it; then what size costs the edge. */
export async function measureEdge(plan: Plan, effort: EdgeEffort): Promise<Record<string, unknown>> {
  const { processes, culvert } = plan;
  const originPort = Number(await firstLine(processes.start([process.execPath, "scripts/bench-origin.ts"])));
  const load = startCommanded<LoadResult>(processes, "scripts/bench-load.ts");
  const edge = await startEdge(processes, culvert, plan.tunnelIp);
  const nginx = await startNginx(processes, originPort);
  const wholePath = await compare(plan, effort, { originPort, load, edge, nginx });
  if (nginx !== undefined) await stop(nginx.process);
  const size = await measureSize(plan, effort, { originPort, load, edge });
  return { wholePath, size };
}

// ---- the whole path ----

interface Parts {
  readonly originPort: number;
  readonly load: Load;
  readonly edge: EdgeUnderTest;
}

async function compare(
  plan: Plan,
  effort: EdgeEffort,
  parts: Parts & { readonly nginx: Nginx | undefined },
): Promise<Record<string, Figures>> {
  const { load, originPort, edge, nginx } = parts;
  const columns: { name: string; rounds: Figures[]; run: () => Promise<Figures> }[] = [
    { name: "origin alone", rounds: [], run: () => measure(load, originPort, [], effort) },
  ];
  if (nginx === undefined) console.log("nginx is not installed: its column is left out (Debian package nginx-light)");
  else columns.push({ name: "nginx", rounds: [], run: () => measure(load, nginx.port, nginx.workers(), effort) });
  for (const protocol of plan.protocols) {
    const run = async (): Promise<Figures> => {
      const connector = await startConnector(plan.processes, plan.culvert, protocol, edge, originPort);
      try {
        return await measure(load, edge.publicPort, [edge.process.pid], effort);
      } finally {
        await stop(connector);
      }
    };
    columns.push({ name: `edge and connector, ${protocol}`, rounds: [], run });
  }
  for (let round = 0; round < effort.rounds; round += 1) {
    for (const column of columns) {
      progress(`round ${round + 1} of ${effort.rounds}: ${column.name}`);
      column.rounds.push(await column.run());
    }
  }
  const medians = columns.map(({ name, rounds }) => ({ name, figures: medianOf(rounds) }));
  printWholePath(medians);
  return Object.fromEntries(medians.map(({ name, figures }) => [name, figures]));
}

/** `pids`: whose CPU is counted. */
async function measure(load: Load, port: number, pids: readonly number[], effort: EdgeEffort): Promise<Figures> {
  const cpu = (): number => pids.reduce((sum, pid) => sum + cpuSeconds(pid), 0);
  await load(`requests ${port} ${HOST} 16 1`);
  const points: Record<number, Figures["points"][number]> = {};
  for (const connections of CONCURRENCY) {
    const before = cpu();
    const result = await load(`requests ${port} ${HOST} ${connections} ${effort.seconds}`);
    if (result.failures !== 0) throw new Error(`${result.failures} requests failed`);
    points[connections] = {
      requestsPerSecond: result.requests / result.seconds,
      p99Ms: result.p99Ms,
      cpuMicros: pids.length === 0 ? undefined : ((cpu() - before) * 1e6) / result.requests,
    };
  }
  const down = await load(`down ${port} ${HOST} ${effort.bulkBytes}`);
  const up = await load(`up ${port} ${HOST} ${effort.bulkBytes}`);
  return {
    points,
    downMbPerSecond: down.bytes / 1e6 / down.seconds,
    upMbPerSecond: up.bytes / 1e6 / up.seconds,
  };
}

function medianOf(rounds: readonly Figures[]): Figures {
  const pick = (get: (figures: Figures) => number | undefined): number | undefined => median(rounds.map(get));
  const points = CONCURRENCY.map((connections): [number, Figures["points"][number]] => [
    connections,
    {
      requestsPerSecond: pick(({ points: at }) => at[connections]?.requestsPerSecond) ?? 0,
      p99Ms: pick(({ points: at }) => at[connections]?.p99Ms) ?? 0,
      cpuMicros: pick(({ points: at }) => at[connections]?.cpuMicros),
    },
  ]);
  return {
    points: Object.fromEntries(points),
    downMbPerSecond: pick(({ downMbPerSecond }) => downMbPerSecond) ?? 0,
    upMbPerSecond: pick(({ upMbPerSecond }) => upMbPerSecond) ?? 0,
  };
}

function printWholePath(columns: readonly { readonly name: string; readonly figures: Figures }[]): void {
  const row = (label: string, get: (figures: Figures) => string): void =>
    console.log(`| ${label} | ${columns.map(({ figures }) => get(figures)).join(" | ")} |`);
  const each = (get: (point: Figures["points"][number]) => string): ((figures: Figures) => string) => {
    return ({ points }) => CONCURRENCY.map((n) => get(points[n] as Figures["points"][number])).join(" / ");
  };
  const at = CONCURRENCY.join(" / ");
  console.log(`\n| | ${columns.map(({ name }) => name).join(" | ")} |\n|---|${columns.map(() => "---:|").join("")}`);
  row(
    `requests/s at ${at}`,
    each(({ requestsPerSecond }) => requestsPerSecond.toFixed(0)),
  );
  row(
    `p99 ms at ${at}`,
    each(({ p99Ms }) => p99Ms.toFixed(2)),
  );
  row(
    `its own CPU µs/request at ${at}`,
    each(({ cpuMicros }) => cpuMicros?.toFixed(0) ?? ""),
  );
  row("bulk down, up MB/s", ({ downMbPerSecond: down, upMbPerSecond: up }) => `${down.toFixed(0)}, ${up.toFixed(0)}`);
}

// ---- nginx ----

interface Nginx {
  readonly process: Child;
  readonly port: number;
  workers(): readonly number[];
}

/** A plain reverse proxy with kept connections to the origin; undefined where there is none. */
async function startNginx(processes: Processes, originPort: number): Promise<Nginx | undefined> {
  const program = Bun.which("nginx") ?? Bun.which("nginx", { PATH: "/usr/sbin" });
  if (program === null) return undefined;
  const dir = join(processes.dir, "nginx");
  mkdirSync(dir);
  const probe = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = probe;
  probe.stop(true);
  writeFileSync(
    join(dir, "nginx.conf"),
    `daemon off; worker_processes auto; pid ${dir}/pid; error_log ${dir}/error.log;
events { worker_connections 4096; }
http {
  access_log off; client_max_body_size 0; proxy_temp_path ${dir}; client_body_temp_path ${dir};
  fastcgi_temp_path ${dir}; uwsgi_temp_path ${dir}; scgi_temp_path ${dir}; keepalive_requests 100000000;
  upstream origin { server 127.0.0.1:${originPort}; keepalive 256; keepalive_requests 100000000; }
  server {
    listen 127.0.0.1:${port};
    location / {
      proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
      proxy_request_buffering off; proxy_buffering off;
    }
  }
}
`,
  );
  const child = processes.start([program, "-e", join(dir, "error.log"), "-c", join(dir, "nginx.conf")]);
  await untilListening(port);
  const workers = (): readonly number[] =>
    readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, "utf8").trim().split(" ").map(Number);
  return { process: child, port, workers: () => [child.pid, ...workers()] };
}

// ---- size ----

/** Memory and speed with many hostnames and connectors, and with visitors that keep their connections. */
async function measureSize(plan: Plan, effort: EdgeEffort, parts: Parts): Promise<Record<string, unknown>> {
  const { processes, culvert } = plan;
  const { load, originPort } = parts;
  const state = join(processes.dir, "edge");
  const cpuPerRequest = async (edge: EdgeUnderTest, hosts: number): Promise<number> => {
    const connector = await startConnector(processes, culvert, "http2", edge, originPort);
    const host = hosts === 1 ? HOST : `h*.${HOST}`;
    await load(`requests ${edge.publicPort} ${host} 16 1 ${hosts}`);
    const before = cpuSeconds(edge.process.pid);
    const result = await load(`requests ${edge.publicPort} ${host} 16 ${effort.seconds} ${hosts}`);
    if (result.failures !== 0) throw new Error(`${result.failures} requests failed`);
    const cpu = cpuSeconds(edge.process.pid) - before;
    await stop(connector);
    return (cpu * 1e6) / result.requests;
  };
  progress("one hostname");
  const one = await cpuPerRequest(parts.edge, 1);
  await stop(parts.edge.process);

  progress(`${HOSTNAMES} hostnames, ${CONNECTORS} tunnels`);
  const tokens = fill(state, parts.edge.tunnelAddress);
  const edge = { ...parts.edge, process: await startEdgeAgain(processes, culvert, parts.edge) };
  const many = await cpuPerRequest(edge, HOSTNAMES);
  await Bun.sleep(SETTLE_MS);
  const before = rssMb(edge.process.pid);

  const planFile = join(processes.dir, "connectors.json");
  const [host = "", port = ""] = edge.tunnelAddress.split(":");
  writeFileSync(planFile, JSON.stringify({ host, port: Number(port), ca: readFileSync(edge.caFile, "utf8"), tokens }));
  const connectors = startCommanded<{ registered: number; seconds: number }>(processes, "scripts/bench-connectors.ts");
  const cpuBefore = cpuSeconds(edge.process.pid);
  const registered = await connectors(`register ${planFile}`);
  const cpuMs = ((cpuSeconds(edge.process.pid) - cpuBefore) * 1e3) / registered.registered;
  await Bun.sleep(SETTLE_MS);
  const connected = rssMb(edge.process.pid);

  progress(`${KEPT_ALIVE} visitors that keep their connections`);
  const connector = await startConnector(processes, culvert, "http2", edge, originPort);
  const visitors = startCommanded<{ open: number; failure?: string }>(processes, "scripts/bench-visitors.ts");
  const idleBefore = rssMb(edge.process.pid);
  const kept = await visitors(`open ${edge.publicPort} h1.${HOST} ${KEPT_ALIVE}`);
  if (kept.failure !== undefined) console.log(`only ${kept.open} of ${KEPT_ALIVE} visitors: ${kept.failure}`);
  await Bun.sleep(SETTLE_MS);
  const idleCpu = cpuSeconds(edge.process.pid);
  await Bun.sleep(SETTLE_MS);
  const idleShare = (cpuSeconds(edge.process.pid) - idleCpu) / (SETTLE_MS / 1_000);
  const idleKb = ((rssMb(edge.process.pid) - idleBefore) * 1024) / kept.open;
  await stop(connector);

  const figures = {
    lookUp: { oneHostnameCpuMicros: one, manyHostnamesCpuMicros: many, hostnames: HOSTNAMES },
    connectors: {
      count: registered.registered,
      perSecond: registered.registered / registered.seconds,
      edgeCpuMsEach: cpuMs,
      kbEach: ((connected - before) * 1024) / registered.registered,
    },
    edgeRssMb: { hostnames: before, connected },
    keptAlive: { count: kept.open, kbEach: idleKb, edgeCpuShare: idleShare },
  };
  printSize(figures);
  return figures;
}

/** Hostnames of the tunnel under test, and tunnels for connectors that only register. Gives their tokens. */
function fill(stateDir: string, address: string): readonly string[] {
  const state = openStateDir(stateDir, Date.now());
  const store = openSqliteStore(state.databasePath, state.sealingKey);
  try {
    const account = store.accounts.own();
    const [zone] = store.accounts.zones(account.tag);
    const bench = store.tunnels.byName(account.tag, "bench");
    if (zone === undefined || bench === undefined) throw new Error("the edge has no tunnel to fill");
    const common = { zoneId: zone.id, createdAtMs: Date.now() };
    for (let i = 0; i < HOSTNAMES; i += 1) {
      const target = { kind: "tunnel", tunnelId: bench.id } as const;
      store.hostnames.put({ hostname: `h${i}.${HOST}`, target, ...common }, false, ACTOR);
    }
    return Array.from({ length: CONNECTORS }, (_, i) => {
      const tunnel = newTunnel(`idle-${i}`, account.tag, Date.now());
      store.tunnels.add(tunnel, randomBytes(32), ACTOR);
      return createTunnelToken(store, tunnel, { addresses: [address], ca: state.authority.cert }) ?? "";
    });
  } finally {
    store.close();
  }
}

function printSize(figures: {
  readonly lookUp: { readonly oneHostnameCpuMicros: number; readonly manyHostnamesCpuMicros: number };
  readonly connectors: {
    readonly count: number;
    readonly perSecond: number;
    readonly edgeCpuMsEach: number;
    readonly kbEach: number;
  };
  readonly edgeRssMb: { readonly hostnames: number; readonly connected: number };
  readonly keptAlive: { readonly count: number; readonly kbEach: number; readonly edgeCpuShare: number };
}): void {
  const { lookUp, connectors, edgeRssMb: rss, keptAlive } = figures;
  console.log("\n| | |\n|---|---:|");
  const row = (label: string, value: string): void => console.log(`| ${label} | ${value} |`);
  row(
    `edge CPU µs/request, one hostname and one of ${HOSTNAMES}`,
    `${lookUp.oneHostnameCpuMicros.toFixed(0)}, ${lookUp.manyHostnamesCpuMicros.toFixed(0)}`,
  );
  row(`edge RSS MB with ${HOSTNAMES} hostnames`, rss.hostnames.toFixed(0));
  row(`the same with ${connectors.count} connectors`, rss.connected.toFixed(0));
  row("memory of one connection of a connector, KB", connectors.kbEach.toFixed(0));
  row(
    "registrations a second, and edge CPU ms each",
    `${connectors.perSecond.toFixed(0)}, ${connectors.edgeCpuMsEach.toFixed(1)}`,
  );
  row(
    `memory of one of ${keptAlive.count} idle visitors, KB; their CPU share`,
    `${keptAlive.kbEach.toFixed(1)}; ${(keptAlive.edgeCpuShare * 100).toFixed(1)} %`,
  );
}
