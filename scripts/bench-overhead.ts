import { readFileSync } from "node:fs";
import { join } from "node:path";
import {
  type Child,
  cpuSeconds,
  firstLine,
  freePort,
  HOST,
  type Plan,
  type Protocol,
  progress,
  startCommanded,
  startConnector,
  startEdge,
  stop,
  until,
} from "./bench-processes.ts";
import { BEGIN_SIGNAL, END_SIGNAL, MODES, type Mode, REPORT_PREFIX, type Report, type Turn } from "./bench-slices.ts";
import { buildSwitchable } from "./bench-switchable.ts";
import type { Effort } from "./bench-throughput.ts";

const CONCURRENCY = 32;
/** A browser's request for a page of 8 KiB, and the smallest request there can be: what is added is the same, the base is not. */
export const REQUESTS = ["page", "smallest"] as const;
type Request = (typeof REQUESTS)[number];
/** Of load in each process, for each second that was asked for. */
const LOAD_FACTOR = 10;
/** Until everything hot is compiled, in seconds. */
const WARM_UP_SECONDS = 8;
/** How often Prometheus reads, unless it is told otherwise, is once a minute; many read four times as often, in seconds. */
const READ_INTERVAL_SECONDS = 15;
/** Reads of which the CPU is measured. */
const READS = 200;
/** What being watched may cost a visitor's request for a page. The smallest request shows the most that it can cost. */
const REQUIRED_RATIO = 1.05;

interface LoadResult {
  readonly requests: number;
  readonly failures: number;
  readonly seconds: number;
}

interface OneProcess {
  readonly turns: readonly Turn[];
  /** CPU of one read of the metrics, in µs. */
  readonly readMicros: number;
  readonly requestsPerSecond: number;
}

/**
 * CPU of a request in a connector that counts and logs requests in some slices of a second and not in others: what the machine
 * does besides hits all kinds alike, and so does what a process happens to be like. New processes make further sets.
 */
export async function measureOverhead(
  plan: Plan,
  effort: Effort,
  requests: readonly Request[],
): Promise<Record<string, unknown>> {
  const { processes, culvert } = plan;
  progress("building a connector that can be switched");
  const program = buildSwitchable(processes.dir);
  const originPort = Number(await firstLine(processes.start([process.execPath, "scripts/bench-origin.ts"])));
  const load = startCommanded<LoadResult>(processes, "scripts/bench-load.ts");
  const edge = await startEdge(processes, culvert, plan.tunnelIp);

  const measureProcess = async (protocol: Protocol, request: Request): Promise<OneProcess> => {
    const metricsPort = freePort();
    const logPath = join(processes.dir, `${protocol}.log`);
    const options = { metricsPort, logPath, flags: ["--log-requests"] };
    const connector = await startConnector(processes, program, protocol, edge, originPort, options);
    const measure = async (seconds: number): Promise<{ readonly report: Report; readonly rate: number }> => {
      connector.kill(BEGIN_SIGNAL);
      const result = await load(`requests ${edge.publicPort} ${HOST} ${CONCURRENCY} ${seconds} 1 ${request}`);
      if (result.failures !== 0) throw new Error(`${result.failures} requests failed`);
      return { report: await reportedBy(connector, logPath), rate: result.requests / result.seconds };
    };
    await measure(WARM_UP_SECONDS);
    const { report, rate } = await measure(effort.seconds * LOAD_FACTOR);
    const begin = cpuSeconds(connector.pid);
    for (let read = 0; read < READS; read += 1) await readMetrics(metricsPort);
    const readMicros = ((cpuSeconds(connector.pid) - begin) / READS) * 1e6;
    const total = Number(/^cloudflared_tunnel_total_requests (\d+)$/m.exec(await readMetrics(metricsPort))?.[1]);
    await stop(connector);
    const lines = readFileSync(logPath, "latin1").split(" INF request ").length - 1;
    const { turns, counted, logged } = report;
    if (total !== counted) throw new Error(`${total} requests are in the metrics instead of ${counted}`);
    if (lines !== logged) throw new Error(`${lines} requests are in the log instead of ${logged}`);
    return { turns, readMicros, requestsPerSecond: rate };
  };

  const results: Record<string, unknown> = {};
  for (const protocol of plan.protocols) {
    for (const request of requests) {
      const sets: OneProcess[] = [];
      for (let set = 1; set <= effort.rounds; set += 1) {
        progress(`${protocol}, ${request}, process ${set} of ${effort.rounds}`);
        sets.push(await measureProcess(protocol, request));
      }
      results[`${protocol}.${request}`] = report(protocol, request, sets);
    }
  }
  return results;
}

/** Ends its slices. The turn that runs is not among them: there is no load any more. */
async function reportedBy(connector: Child, logPath: string): Promise<Report> {
  const said = (): readonly string[] =>
    readFileSync(logPath, "latin1")
      .split("\n")
      .filter((line) => line.startsWith(REPORT_PREFIX));
  const before = said().length;
  connector.kill(END_SIGNAL);
  await until("a report of the slices", () => Promise.resolve(said().length > before));
  return JSON.parse(said().at(-1)?.slice(REPORT_PREFIX.length) ?? "") as Report;
}

async function readMetrics(port: number): Promise<string> {
  return (await fetch(`http://127.0.0.1:${port}/metrics`, { keepalive: false })).text();
}

function report(protocol: Protocol, request: Request, sets: readonly OneProcess[]): Record<string, unknown> {
  const turns = sets.flatMap((set) => set.turns);
  const requestsARead = mean(sets.map((set) => set.requestsPerSecond)) * READ_INTERVAL_SECONDS;
  const readMicros = mean(sets.map((set) => set.readMicros)) / requestsARead;
  const base = perRequest(turns, "nothing");
  const what = request === "page" ? "a browser's request for a page of 8 KiB" : "the smallest request";
  console.log(
    `\nCPU of the connector for ${what} over ${protocol}, ${turns.length} turns in ${sets.length} processes:`,
  );
  const rows = MODES.map((mode) => {
    const watched = mode === "watched";
    const cpuMicros = perRequest(turns, mode) + (watched ? readMicros : 0);
    const ratio = cpuMicros / base;
    const error = standardError(turns.map((turn) => microsOf(turn, mode) / microsOf(turn, "nothing")));
    const name = watched
      ? `a line for each, metrics read each ${READ_INTERVAL_SECONDS} s`
      : "nothing for whoever watches";
    const more = watched ? ` ${percent(ratio - 1)} ± ${percent(2 * error).trim()}` : "";
    const verdict = !watched ? "" : request === "page" ? verdictOf(ratio, 2 * error) : "(the most there can be)";
    console.log(`  ${name.padEnd(40)}${cpuMicros.toFixed(2).padStart(7)} µs${more}  ${verdict}`.trimEnd());
    return [mode, { cpuMicros, ratio, standardError: error }] as const;
  });
  return Object.fromEntries(rows);
}

function verdictOf(ratio: number, uncertainty: number): string {
  const verdict = ratio < REQUIRED_RATIO ? "ok: under 5 %" : "NOT under 5 %";
  const sure = Math.abs(ratio - REQUIRED_RATIO) > uncertainty;
  return sure ? verdict : `${verdict}, but not surely: more seconds tell more`;
}

/** All slices of a mode together. */
function perRequest(turns: readonly Turn[], mode: Mode): number {
  const slices = turns.map((turn) => turn[MODES.indexOf(mode)]);
  const sum = (key: "micros" | "requests"): number => slices.reduce((total, slice) => total + (slice?.[key] ?? 0), 0);
  return sum("micros") / sum("requests");
}

function microsOf(turn: Turn, mode: Mode): number {
  const slice = turn[MODES.indexOf(mode)];
  return slice === undefined ? Number.NaN : slice.micros / slice.requests;
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function standardError(values: readonly number[]): number {
  const middle = mean(values);
  const variance = values.reduce((sum, value) => sum + (value - middle) ** 2, 0) / (values.length - 1);
  return Math.sqrt(variance / values.length);
}

function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`.padStart(7);
}
