import {
  type Child,
  cpuSeconds,
  firstLine,
  HOST,
  median,
  type Plan,
  type Protocol,
  progress,
  rssMb,
  startCommanded,
  startConnector,
  startEdge,
  stop,
} from "./bench-processes.ts";

const CONCURRENCY = [1, 16, 128] as const;
/** Rest before the memory that stays is read. */
const SETTLE_MS = 5_000;
/** What the connector must reach beside cloudflared in the same run. */
const REQUIRED = {
  http2: { cpuRatio: 0.7, requestRatio: 1.3, bulkRatio: 1 },
  quic: { cpuRatio: 0.5, requestRatio: 1, bulkRatio: 1.5 },
} as const;

export interface Effort {
  readonly seconds: number;
  readonly rounds: number;
  readonly bulkBytes: number;
}

interface Point {
  readonly requestsPerSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** CPU of the connector process; absent where there is none. */
  readonly cpuMicrosPerRequest: number | undefined;
}

interface Bulk {
  readonly mbPerSecond: number;
  readonly cpuSecondsPerGb: number | undefined;
}

interface Round {
  readonly points: Readonly<Record<number, Point>>;
  readonly down: Bulk;
  readonly up: Bulk;
  readonly rssMb: { readonly idle: number; readonly busy: number; readonly after: number } | undefined;
}

type LoadResult = { requests: number; failures: number; seconds: number; p50Ms: number; p99Ms: number; bytes: number };
type Load = (command: string) => Promise<LoadResult>;

/** One row of columns: the origin alone, then each connector over one protocol. */
interface Column {
  readonly label: string;
  readonly protocol: Protocol | undefined;
  readonly name: "direct" | "culvert" | "foreign";
  readonly run: () => Promise<Round>;
  readonly rounds: Round[];
}

/** Requests a second, latency, bulk, CPU and memory; prints a table for each protocol. */
export async function measureThroughput(plan: Plan, effort: Effort): Promise<Record<string, unknown>> {
  const { processes, culvert } = plan;
  const originPort = Number(await firstLine(processes.start([process.execPath, "scripts/bench-origin.ts"])));
  const load = startCommanded<LoadResult>(processes, "scripts/bench-load.ts");
  const edge = await startEdge(processes, culvert, plan.tunnelIp);
  const columns: Column[] = [
    {
      label: "direct",
      protocol: undefined,
      name: "direct",
      run: () => measure(load, originPort, undefined, effort),
      rounds: [],
    },
  ];
  for (const protocol of plan.protocols) {
    for (const { name, program } of plan.connectors) {
      const run = async (): Promise<Round> => {
        const connector = await startConnector(processes, program, protocol, edge, originPort);
        try {
          return await measure(load, edge.publicPort, connector, effort);
        } finally {
          await stop(connector);
        }
      };
      columns.push({ label: `${name} ${protocol}`, protocol, name, run, rounds: [] });
    }
  }
  for (let round = 0; round < effort.rounds; round++) {
    for (const column of columns) {
      progress(`round ${round + 1} of ${effort.rounds}: ${column.label}`);
      column.rounds.push(await column.run());
    }
  }
  return report(plan, columns);
}

async function measure(load: Load, port: number, connector: Child | undefined, effort: Effort): Promise<Round> {
  const pid = connector?.pid;
  const idle = pid === undefined ? 0 : rssMb(pid);
  let busy = 0;
  await load(`requests ${port} ${HOST} 16 1`);
  const points: Record<number, Point> = {};
  for (const connections of CONCURRENCY) {
    const before = pid === undefined ? 0 : cpuSeconds(pid);
    const result = await load(`requests ${port} ${HOST} ${connections} ${effort.seconds}`);
    if (result.failures !== 0) throw new Error(`${result.failures} requests failed`);
    const cpu = pid === undefined ? undefined : cpuSeconds(pid) - before;
    points[connections] = {
      requestsPerSecond: result.requests / result.seconds,
      p50Ms: result.p50Ms,
      p99Ms: result.p99Ms,
      cpuMicrosPerRequest: cpu === undefined ? undefined : (cpu * 1e6) / result.requests,
    };
    if (pid !== undefined) busy = Math.max(busy, rssMb(pid));
  }
  const bulk = async (direction: "down" | "up"): Promise<Bulk> => {
    const before = pid === undefined ? 0 : cpuSeconds(pid);
    const result = await load(`${direction} ${port} ${HOST} ${effort.bulkBytes}`);
    const cpu = pid === undefined ? undefined : cpuSeconds(pid) - before;
    if (pid !== undefined) busy = Math.max(busy, rssMb(pid));
    return {
      mbPerSecond: result.bytes / 1e6 / result.seconds,
      cpuSecondsPerGb: cpu === undefined ? undefined : cpu / (result.bytes / 1e9),
    };
  };
  const down = await bulk("down");
  const up = await bulk("up");
  // "After" is what stays: the runtime gives memory back within seconds.
  if (pid !== undefined) await Bun.sleep(SETTLE_MS);
  return { points, down, up, rssMb: pid === undefined ? undefined : { idle, busy, after: rssMb(pid) } };
}

// ---- figures ----

function medianRound(results: readonly Round[]): Round {
  const pick = (get: (round: Round) => number | undefined): number | undefined => median(results.map(get));
  const points = CONCURRENCY.map((connections): [number, Point] => [
    connections,
    {
      requestsPerSecond: pick((round) => round.points[connections]?.requestsPerSecond) ?? 0,
      p50Ms: pick((round) => round.points[connections]?.p50Ms) ?? 0,
      p99Ms: pick((round) => round.points[connections]?.p99Ms) ?? 0,
      cpuMicrosPerRequest: pick((round) => round.points[connections]?.cpuMicrosPerRequest),
    },
  ]);
  const bulk = (direction: "down" | "up"): Bulk => ({
    mbPerSecond: pick((round) => round[direction].mbPerSecond) ?? 0,
    cpuSecondsPerGb: pick((round) => round[direction].cpuSecondsPerGb),
  });
  const rss = (which: "idle" | "busy" | "after"): number => pick((round) => round.rssMb?.[which]) ?? 0;
  const hasProcess = results[0]?.rssMb !== undefined;
  return {
    points: Object.fromEntries(points),
    down: bulk("down"),
    up: bulk("up"),
    rssMb: hasProcess ? { idle: rss("idle"), busy: rss("busy"), after: rss("after") } : undefined,
  };
}

type Ratios = Record<string, { ratio: number; good: boolean }>;

function report(plan: Plan, columns: readonly Column[]): Record<string, unknown> {
  const medians = new Map(columns.map((column) => [column, medianRound(column.rounds)]));
  const ratios: Record<string, Ratios> = {};
  for (const protocol of plan.protocols) {
    const shown = columns.filter((column) => (column.protocol ?? protocol) === protocol);
    const named = (name: string): Round | undefined => {
      const column = shown.find((candidate) => candidate.name === name);
      return column && medians.get(column);
    };
    console.log(`\n${protocol}\n`);
    printTable(shown.map((column) => ({ name: column.name, round: medians.get(column) as Round })));
    const compared = compare(protocol, named("culvert"), named("foreign"));
    if (compared === undefined) continue;
    ratios[protocol] = compared;
    console.log("\nculvert / foreign:");
    for (const [what, { ratio, good }] of Object.entries(compared))
      console.log(`  ${what}: ${ratio.toFixed(2)}${good ? "" : "  (not reached)"}`);
  }
  return { medians: Object.fromEntries([...medians].map(([column, round]) => [column.label, round])), ratios };
}

function printTable(columns: readonly { readonly name: string; readonly round: Round }[]): void {
  const row = (label: string, get: (round: Round) => string): void =>
    console.log(`| ${label} | ${columns.map(({ round }) => get(round)).join(" | ")} |`);
  const number = (value: number | undefined, digits = 0): string => (value === undefined ? "" : value.toFixed(digits));
  console.log(`| | ${columns.map(({ name }) => name).join(" | ")} |\n|---|${columns.map(() => "---:|").join("")}`);
  for (const connections of CONCURRENCY) {
    const point = (round: Round): Point | undefined => round.points[connections];
    row(`requests/s at ${connections}`, (round) => number(point(round)?.requestsPerSecond));
    row(
      `p50 / p99 ms at ${connections}`,
      (round) => `${number(point(round)?.p50Ms, 2)} / ${number(point(round)?.p99Ms, 2)}`,
    );
    row(`connector CPU µs/request at ${connections}`, (round) => number(point(round)?.cpuMicrosPerRequest));
  }
  for (const direction of ["down", "up"] as const) {
    row(`bulk ${direction} MB/s`, (round) => number(round[direction].mbPerSecond));
    row(`bulk ${direction} connector CPU s/GB`, (round) => number(round[direction].cpuSecondsPerGb, 2));
  }
  row("connector RSS MB idle / busy / after", ({ rssMb: rss }) =>
    rss === undefined ? "" : `${number(rss.idle)} / ${number(rss.busy)} / ${number(rss.after)}`,
  );
}

function compare(protocol: Protocol, ours: Round | undefined, theirs: Round | undefined): Ratios | undefined {
  if (ours === undefined || theirs === undefined) return undefined;
  const required = REQUIRED[protocol];
  const ratios: Ratios = {};
  for (const connections of CONCURRENCY) {
    const [a, b] = [ours.points[connections], theirs.points[connections]];
    const cpu = (a?.cpuMicrosPerRequest ?? 0) / (b?.cpuMicrosPerRequest ?? 1);
    const requests = (a?.requestsPerSecond ?? 0) / (b?.requestsPerSecond ?? 1);
    ratios[`CPU per request at ${connections}`] = { ratio: cpu, good: cpu <= required.cpuRatio };
    ratios[`requests/s at ${connections}`] = { ratio: requests, good: requests >= required.requestRatio };
  }
  for (const direction of ["down", "up"] as const) {
    const ratio = ours[direction].mbPerSecond / theirs[direction].mbPerSecond;
    ratios[`bulk ${direction}`] = { ratio, good: ratio >= required.bulkRatio };
  }
  return ratios;
}
