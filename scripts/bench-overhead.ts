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
  progress,
  startCommanded,
  startConnector,
  startEdge,
} from "./bench-processes.ts";
import type { Effort } from "./bench-throughput.ts";

const CONCURRENCY = 32;
/** How often metrics are read, in ms. */
const SCRAPE_MS = 1_000;
/** Rounds of each kind for one that was asked for: they are short, and what they compare is small. */
const ROUNDS = 5;
const WARM_UP_SECONDS = 3;
/** What being watched may cost. */
const REQUIRED_RATIO = 1.05;

interface Watched {
  readonly name: string;
  readonly host: string;
  readonly connector: Child;
  readonly scrape: () => Promise<void>;
  readonly micros: number[];
}

interface LoadResult {
  readonly requests: number;
  readonly failures: number;
}

/**
 * CPU of a request in a connector that nobody looks at and in one whose metrics are read and whose requests are logged,
 * in turns of a few seconds, with all of them running: what the machine does besides hits them alike.
 */
export async function measureOverhead(plan: Plan, effort: Effort): Promise<Record<string, unknown>> {
  const { processes, culvert } = plan;
  const originPort = Number(await firstLine(processes.start([process.execPath, "scripts/bench-origin.ts"])));
  const load = startCommanded<LoadResult>(processes, "scripts/bench-load.ts");
  const edge = await startEdge(processes, culvert, plan.tunnelIp);
  const earlier = plan.connectors.find(({ name }) => name === "foreign")?.program;
  const results: Record<string, unknown> = {};
  for (const protocol of plan.protocols) {
    const kinds = [
      ...(earlier === undefined ? [] : [{ name: "earlier build", program: earlier, watched: false }]),
      { name: "unwatched", program: culvert, watched: false },
      { name: "metrics read", program: culvert, watched: true, log: false },
      { name: "metrics read and requests logged", program: culvert, watched: true, log: true },
    ];
    const all: Watched[] = [];
    for (const [index, { name, program, watched, log }] of kinds.entries()) {
      const host = `${protocol}-${index}.bench.example.test`;
      const tunnel = addTunnel(processes, culvert, edge, `${protocol}-${index}`, host);
      const metricsPort = freePort();
      const logPath = join(processes.dir, `${protocol}-${index}.log`);
      const connector = await startConnector(processes, program, protocol, tunnel, originPort, {
        ...{ metricsPort, logPath, flags: log === true ? ["--log-requests"] : [] },
      });
      const scrape = async (): Promise<void> => {
        if (watched) await (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).arrayBuffer();
      };
      all.push({ name, host, connector, scrape, micros: [] });
      await load(`requests ${edge.publicPort} ${host} ${CONCURRENCY} ${WARM_UP_SECONDS}`);
      if (log === true && statSync(logPath).size < 10_000) throw new Error("Requests are not logged");
    }
    for (let round = 0; round < effort.rounds * ROUNDS; round += 1) {
      progress(`${protocol}, round ${round + 1} of ${effort.rounds * ROUNDS}`);
      // Another one goes first each time.
      for (const one of [...all.slice(round % all.length), ...all.slice(0, round % all.length)]) {
        one.micros.push(
          await measure(one, () => load(`requests ${edge.publicPort} ${one.host} ${CONCURRENCY} ${effort.seconds}`)),
        );
      }
    }
    results[protocol] = report(protocol, all);
    for (const { connector } of all) {
      connector.kill("SIGTERM");
      await connector.exited;
    }
  }
  return results;
}

async function measure(one: Watched, run: () => Promise<LoadResult>): Promise<number> {
  const timer = setInterval(() => void one.scrape().catch(() => {}), SCRAPE_MS);
  const before = cpuSeconds(one.connector.pid);
  const { requests, failures } = await run();
  clearInterval(timer);
  if (failures !== 0) throw new Error(`${failures} requests failed`);
  return ((cpuSeconds(one.connector.pid) - before) * 1e6) / requests;
}

function report(protocol: string, all: readonly Watched[]): Record<string, unknown> {
  const base = all.find(({ name }) => name === "unwatched");
  console.log(
    `\nCPU of the connector for a request over ${protocol}, median of ${base?.micros.length} rounds in turn:`,
  );
  const rows = all.map(({ name, micros }) => {
    // Rounds that stand beside each other are compared, so that a busy minute counts for both.
    const ratio = median(micros.map((value, round) => value / (base?.micros[round] ?? value))) ?? 1;
    const cpuMicros = median(micros) ?? 0;
    const verdict = name.includes("logged") ? (ratio <= REQUIRED_RATIO ? "  ok" : "  MORE THAN 5 %") : "";
    console.log(
      `  ${name.padEnd(34)} ${cpuMicros.toFixed(1).padStart(7)} µs  ${((ratio - 1) * 100).toFixed(1).padStart(5)} %${verdict}`,
    );
    return [name, { cpuMicros, ratio }] as const;
  });
  return Object.fromEntries(rows);
}
