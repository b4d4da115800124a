/** Part of the connector that bench-switchable.ts builds: in each slice of time it does another amount for whoever watches it. */

/** What that is: nothing; or requests are counted, and a line is written for each. */
export const MODES = ["nothing", "watched"] as const;
export type Mode = (typeof MODES)[number];

/** CPU of the process, in µs, and requests that began meanwhile. */
export interface Spent {
  readonly micros: number;
  readonly requests: number;
}
/** One slice of each mode, in the order of `MODES`, close to each other. */
export type Turn = readonly Spent[];

/** What a connector tells of itself: slices since it was asked to begin, and since it started requests it counted, and lines. */
export interface Report {
  readonly turns: readonly Turn[];
  readonly counted: number;
  readonly logged: number;
}

/** What a connector is asked for: to begin, and to end and tell of it. */
export const BEGIN_SIGNAL = "SIGWINCH";
export const END_SIGNAL = "SIGURG";
/** Before the report as JSON, on a line of the log. */
export const REPORT_PREFIX = "slices ";

/** Of a slice, first, not measured: lines of the slice before are written up to a tenth of a second late. */
const GUARD_MS = 120;
const MEASURED_MS = 880;

/** Read by the lines that bench-switchable.ts changes. */
export const bench = { watched: false, requests: 0, counted: 0, logged: 0, tally: { toOrigin: 0, toVisitor: 0 } };

/** Makes this process one that can be asked. */
export function takeSlices(): void {
  let turns: Turn[] = [];
  let running = false;
  const slice = async (mode: number): Promise<Spent> => {
    bench.watched = MODES[mode] === "watched";
    await Bun.sleep(GUARD_MS);
    const cpu = process.cpuUsage();
    const { requests } = bench;
    await Bun.sleep(MEASURED_MS);
    const { user, system } = process.cpuUsage(cpu);
    return { micros: user + system, requests: bench.requests - requests };
  };
  const run = async (): Promise<void> => {
    while (running) {
      const turn: Spent[] = [];
      for (const mode of shuffled(MODES.keys())) turn[mode] = await slice(mode);
      if (running) turns.push(turn);
    }
    bench.watched = false;
    const report: Report = { turns, counted: bench.counted, logged: bench.logged };
    process.stderr.write(`${REPORT_PREFIX}${JSON.stringify(report)}\n`);
    turns = [];
  };
  process.on(BEGIN_SIGNAL, () => {
    running = true;
    void run();
  });
  process.on(END_SIGNAL, () => {
    running = false;
  });
}

function shuffled(values: Iterable<number>): readonly number[] {
  return [...values]
    .map((value) => [Math.random(), value] as const)
    .sort(([a], [b]) => a - b)
    .map(([, value]) => value);
}
