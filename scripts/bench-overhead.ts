import { statSync } from "node:fs";
import { join } from "node:path";
import {
  addTunnel,
  type Child,
  cpuSeconds,
  firstLine,
  freePort,
  median,
  type Plan,
  type Protocol,
  progress,
  startCommanded,
  startConnector,
  startEdge,
  stop,
} from "./bench-processes.ts";
import type { Effort } from "./bench-throughput.ts";
import { buildUncounted } from "./bench-uncounted.ts";

const CONCURRENCY = 32;
/** How often metrics are read, in ms: fifteen times as often as Prometheus does by default. */
const SCRAPE_MS = 1_000;
/** Turns of a set for each second that was asked for; a turn takes a second. */
const TURNS = 5;
const WARM_UP_SECONDS = 4;
/** Least bytes of log for a request, which shows that each had its line. */
const LEAST_LINE_BYTES = 100;
/** What being watched may cost. */
const REQUIRED_RATIO = 1.05;

interface Kind {
  readonly name: string;
  /** Without what counts requests. */
  readonly uncounted?: boolean;
  readonly read?: boolean;
  readonly log?: boolean;
}

const BASE: Kind = { name: "nothing counted", uncounted: true };
/** Another process of the same: how far apart equals are in this run. */
const CONTROL: Kind = { name: "nothing counted, once more", uncounted: true };
const WATCHED: Kind = { name: "metrics read, a line a request", read: true, log: true };
const KINDS: readonly Kind[] = [
  BASE,
  CONTROL,
  { name: "counted, metrics not read" },
  { name: "metrics read each second", read: true },
  WATCHED,
];

interface Contender {
  readonly kind: Kind;
  readonly host: string;
  readonly connector: Child;
  readonly metricsPort: number;
  requests: number;
  cpuSeconds: number;
}

interface LoadResult {
  readonly requests: number;
  readonly failures: number;
}

type Load = (command: string) => Promise<LoadResult>;

/**
 * CPU of a request in connectors that differ in who watches them, in turns of a second with all of them running, so that what
 * the machine does besides hits them alike; in sets of new processes, since two of the same differ as well.
 */
export async function measureOverhead(plan: Plan, effort: Effort): Promise<Record<string, unknown>> {
  const { processes, culvert } = plan;
  progress("building a connector that counts nothing");
  const uncounted = buildUncounted(processes.dir);
  const originPort = Number(await firstLine(processes.start([process.execPath, "scripts/bench-origin.ts"])));
  const load: Load = startCommanded<LoadResult>(processes, "scripts/bench-load.ts");
  const edge = await startEdge(processes, culvert, plan.tunnelIp);
  const tunnels = KINDS.map((kind, index) => {
    const host = `${index}.bench.example.test`;
    return { kind, host, tunnel: addTunnel(processes, culvert, edge, `kind-${index}`, host) };
  });

  const measureSet = async (protocol: Protocol, set: number): Promise<readonly number[]> => {
    const all: Contender[] = [];
    for (const { kind, host, tunnel } of tunnels) {
      const metricsPort = freePort();
      const logPath = join(processes.dir, `${host}.log`);
      const program = kind.uncounted === true ? uncounted : culvert;
      const connector = await startConnector(processes, program, protocol, tunnel, originPort, {
        ...{ metricsPort, logPath, flags: kind.log === true ? ["--log-requests"] : [] },
      });
      all.push({ kind, host, connector, metricsPort, requests: 0, cpuSeconds: 0 });
      const { requests } = await load(`requests ${edge.publicPort} ${host} ${CONCURRENCY} ${WARM_UP_SECONDS}`);
      const logged = statSync(logPath).size > requests * LEAST_LINE_BYTES;
      if (logged !== (kind.log === true)) throw new Error(`${kind.name}: requests are ${logged ? "" : "not "}logged`);
    }
    for (let turn = 0; turn < effort.seconds * TURNS; turn += 1) {
      progress(`${protocol}, set ${set + 1} of ${effort.rounds}, turn ${turn + 1} of ${effort.seconds * TURNS}`);
      // Another one goes first each time.
      const first = turn % all.length;
      for (const one of [...all.slice(first), ...all.slice(0, first)]) {
        await take(one, () => load(`requests ${edge.publicPort} ${one.host} ${CONCURRENCY} 1`));
      }
    }
    for (const { connector } of all) await stop(connector);
    return all.map((one) => (one.cpuSeconds * 1e6) / one.requests);
  };

  const results: Record<string, unknown> = {};
  for (const protocol of plan.protocols) {
    const sets: (readonly number[])[] = [];
    for (let set = 0; set < effort.rounds; set += 1) sets.push(await measureSet(protocol, set));
    results[protocol] = report(protocol, sets, effort.seconds * TURNS);
  }
  return results;
}

/** One turn. Metrics are read in the middle of it, by somebody who keeps no connection. */
async function take(one: Contender, run: () => Promise<LoadResult>): Promise<void> {
  const read = async (): Promise<void> => {
    await Bun.sleep(SCRAPE_MS / 2);
    const answer = await fetch(`http://127.0.0.1:${one.metricsPort}/metrics`, { keepalive: false });
    if (!(await answer.text()).includes("culvert_requests_total")) throw new Error("There are no metrics");
  };
  const before = cpuSeconds(one.connector.pid);
  const [{ requests, failures }] = await Promise.all([run(), one.kind.read === true ? read() : undefined]);
  one.cpuSeconds += cpuSeconds(one.connector.pid) - before;
  one.requests += requests;
  if (failures !== 0) throw new Error(`${failures} requests failed`);
}

/** `sets`: µs of a request for each kind. */
function report(protocol: Protocol, sets: readonly (readonly number[])[], turns: number): Record<string, unknown> {
  const percent = (ratio: number): string => `${((ratio - 1) * 100).toFixed(1)} %`.padStart(7);
  console.log(
    `\nCPU of the connector for a request over ${protocol}, and how much more that is than with nothing counted:\n` +
      `medians of ${sets.length} sets of new processes, lowest and highest; ${turns} turns of a second for each in a set`,
  );
  const base = KINDS.indexOf(BASE);
  const control = KINDS.indexOf(CONTROL);
  const rows = KINDS.map((kind, index) => {
    // Both that count nothing are the base of what is beside them, and the first one that of the second.
    const ratios = sets.map((set) => {
      const zero = set[base] ?? Number.NaN;
      const other = index === base || index === control ? zero : (zero + (set[control] ?? Number.NaN)) / 2;
      return (set[index] ?? Number.NaN) / other;
    });
    const ratio = median(ratios) ?? Number.NaN;
    const cpuMicros = median(sets.map((set) => set[index])) ?? Number.NaN;
    const [lowest, highest] = [Math.min(...ratios), Math.max(...ratios)];
    const verdict = kind !== WATCHED ? "" : ratio < REQUIRED_RATIO ? "  ok: under 5 %" : "  NOT under 5 %";
    const figures = `${cpuMicros.toFixed(1).padStart(6)} µs ${percent(ratio)} (${percent(lowest)} to ${percent(highest)})`;
    console.log(`  ${kind.name.padEnd(32)}${figures}${verdict}`);
    return [kind.name, { cpuMicros, ratio, lowest, highest }] as const;
  });
  return Object.fromEntries(rows);
}
