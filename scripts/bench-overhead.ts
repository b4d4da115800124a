import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import {
  firstLine,
  freePort,
  HOST,
  median,
  type Plan,
  type Protocol,
  progress,
  startCommanded,
  startConnector,
  startEdge,
  stop,
  until,
} from "./bench-processes.ts";
import { buildSwitchable, MODE_SIGNALS, MODES, type Mode } from "./bench-switchable.ts";
import type { Effort } from "./bench-throughput.ts";

const CONCURRENCY = 32;
/** Short, so that turns beside each other find the machine in the same state. */
const TURN_SECONDS = 0.4;
/** Turns of each kind in a set for each second that was asked for. */
const TURNS = 20;
/** Turns of which one reads metrics: every four seconds of load, when Prometheus reads every 15 to 60. */
const TURNS_A_READ = 10;
const WARM_UP_SECONDS = 3;
/** After a turn, and part of it: lines are written up to a tenth of a second later. */
const REST_MS = 150;
/** What being watched may cost. */
const REQUIRED_RATIO = 1.05;

interface Kind {
  readonly name: string;
  readonly mode: Mode;
  readonly read?: boolean;
}

const BASE: Kind = { name: "nothing counted", mode: "nothing" };
/** The same again: how far apart equals are in this run. */
const CONTROL: Kind = { name: "nothing counted, once more", mode: "nothing" };
const WATCHED: Kind = { name: "metrics read, a line a request", mode: "logged", read: true };
const KINDS: readonly Kind[] = [BASE, { name: "counted", mode: "counted" }, CONTROL, WATCHED];

interface LoadResult {
  readonly requests: number;
  readonly failures: number;
}

/** µs of CPU of a request, for each kind. */
type Turn = ReadonlyMap<Kind, number>;

/**
 * CPU of a request in one connector that counts and logs requests in some seconds and not in others: what the machine does
 * besides hits all kinds alike, and so does what a process happens to be like. New processes make further sets.
 */
export async function measureOverhead(plan: Plan, effort: Effort): Promise<Record<string, unknown>> {
  const { processes, culvert } = plan;
  progress("building a connector that can be switched");
  const program = buildSwitchable(processes.dir);
  const originPort = Number(await firstLine(processes.start([process.execPath, "scripts/bench-origin.ts"])));
  const load = startCommanded<LoadResult>(processes, "scripts/bench-load.ts");
  const edge = await startEdge(processes, culvert, plan.tunnelIp);

  const measureSet = async (protocol: Protocol, label: string): Promise<readonly Turn[]> => {
    const metricsPort = freePort();
    const logPath = join(processes.dir, `${protocol}.log`);
    const options = { metricsPort, logPath, flags: ["--log-requests"] };
    const connector = await startConnector(processes, program, protocol, edge, originPort, options);
    let mode: Mode = "nothing";
    let counted = 0;
    let logged = 0;
    const switchTo = async (next: Mode): Promise<void> => {
      if (next === mode) return;
      connector.kill(MODE_SIGNALS[MODES.indexOf(next)]);
      mode = next;
      await until(`the mode ${next}`, async () => {
        const log = Bun.file(logPath);
        return (await log.slice(Math.max(0, log.size - 100)).text()).endsWith(`mode ${next}\n`);
      });
    };
    const take = async ({ mode: wanted }: Kind, read: boolean, seconds: number): Promise<number> => {
      await switchTo(wanted);
      const before = threadNanos(connector.pid);
      const [{ requests, failures }] = await Promise.all([
        load(`requests ${edge.publicPort} ${HOST} ${CONCURRENCY} ${seconds}`),
        read ? Bun.sleep(TURN_SECONDS * 500).then(() => requestsCounted(metricsPort)) : undefined,
      ]);
      await Bun.sleep(REST_MS);
      const nanos = nanosSince(before, threadNanos(connector.pid));
      if (failures !== 0) throw new Error(`${failures} requests failed`);
      if (wanted !== "nothing") counted += requests;
      if (wanted === "logged") logged += requests;
      return nanos / 1e3 / requests;
    };

    for (const kind of KINDS) await take(kind, true, WARM_UP_SECONDS);
    const turns: Turn[] = [];
    const count = effort.seconds * TURNS;
    for (let turn = 0; turn < count; turn += 1) {
      progress(`${protocol}, ${label}, turn ${turn + 1} of ${count}`);
      const micros = new Map<Kind, number>();
      // Another one goes first each time.
      const first = turn % KINDS.length;
      for (const kind of [...KINDS.slice(first), ...KINDS.slice(0, first)]) {
        micros.set(kind, await take(kind, kind.read === true && turn % TURNS_A_READ === 0, TURN_SECONDS));
      }
      turns.push(micros);
    }
    const shown = await requestsCounted(metricsPort);
    if (shown !== counted) throw new Error(`${shown} requests were counted instead of ${counted}`);
    await stop(connector);
    const lines = readFileSync(logPath, "latin1").split(" INF request ").length - 1;
    if (lines !== logged) throw new Error(`${lines} requests were logged instead of ${logged}`);
    return turns;
  };

  const results: Record<string, unknown> = {};
  for (const protocol of plan.protocols) {
    const sets: (readonly Turn[])[] = [];
    for (let set = 1; set <= effort.rounds; set += 1) {
      sets.push(await measureSet(protocol, `set ${set} of ${effort.rounds}`));
    }
    results[protocol] = report(protocol, sets);
  }
  return results;
}

async function requestsCounted(port: number): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${port}/metrics`, { keepalive: false })).text();
  return Number(/^cloudflared_tunnel_total_requests (\d+)$/m.exec(text)?.[1]);
}

/** CPU time of each thread in ns: /proc/PID/stat has hundredths of a second, too coarse for a turn. */
function threadNanos(pid: number): ReadonlyMap<string, number> {
  const threads = readdirSync(`/proc/${pid}/task`);
  return new Map(
    threads.map((tid) => [tid, Number(readFileSync(`/proc/${pid}/task/${tid}/schedstat`, "utf8").split(" ")[0])]),
  );
}

/** Of threads that ended meanwhile nothing is known: those of the runtime end when they had nothing to do. */
function nanosSince(before: ReadonlyMap<string, number>, after: ReadonlyMap<string, number>): number {
  let sum = 0;
  for (const [tid, nanos] of after) sum += nanos - (before.get(tid) ?? 0);
  return sum;
}

function report(protocol: Protocol, sets: readonly (readonly Turn[])[]): Record<string, unknown> {
  const percent = (ratio: number): string => `${((ratio - 1) * 100).toFixed(1)} %`.padStart(7);
  console.log(
    `\nCPU of the connector for a request over ${protocol}, and how much more that is than with nothing counted:\n` +
      `medians of ${sets[0]?.length} turns, and of ${sets.length} processes; their lowest and highest`,
  );
  const rows = KINDS.map((kind) => {
    const ofSets = sets.map((turns) => median(turns.map((turn) => ratioOf(turn, kind))) ?? Number.NaN);
    const ratio = median(ofSets) ?? Number.NaN;
    const cpuMicros = median(sets.flatMap((turns) => turns.map((turn) => turn.get(kind)))) ?? Number.NaN;
    const [lowest, highest] = [Math.min(...ofSets), Math.max(...ofSets)];
    const range = `(${percent(lowest)} to ${percent(highest)})`;
    const verdict = kind !== WATCHED ? "" : ratio < REQUIRED_RATIO ? "  ok: under 5 %" : "  NOT under 5 %";
    console.log(`  ${kind.name.padEnd(32)}${cpuMicros.toFixed(1).padStart(6)} µs ${percent(ratio)} ${range}${verdict}`);
    return [kind.name, { cpuMicros, ratio, lowest, highest }] as const;
  });
  return Object.fromEntries(rows);
}

/** Turns that stand beside each other are compared, so that a busy minute counts for all of them. */
function ratioOf(turn: Turn, kind: Kind): number {
  const of = (one: Kind): number => turn.get(one) ?? Number.NaN;
  const base = kind === BASE || kind === CONTROL ? of(BASE) : (of(BASE) + of(CONTROL)) / 2;
  return of(kind) / base;
}
