import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";

const HELP = `Measures a connector behind our edge. Everything runs on loopback, each part in a process of its own.

  --connector-bin PATH  also measure this program, started with cloudflared's flags
  --seconds N           time for each number of connections (default 3)
  --rounds N            rounds, ours and the other in turn; medians are shown (default 3)
  --bulk-mib N          size of the bulk transfers (default 1024)
  --json FILE           also write the figures as JSON; - for standard output
  --quick               one round of one second and 128 MiB`;

const HOST = "bench.example.test";
const CONCURRENCY = [1, 16, 128] as const;
const EDGE_CONNECTIONS = 4;
/** Rest before the memory that stays is read. */
const SETTLE_MS = 5_000;
/** Kernel's clock ticks a second, as /proc counts CPU time. */
const TICKS = 100;
/** What the connector must reach beside cloudflared in the same run. */
const REQUIRED = { cpuRatio: 0.7, requestRatio: 1.3, bulkRatio: 1 } as const;

const { values: options } = parseArgs({
  options: {
    "connector-bin": { type: "string" },
    seconds: { type: "string", default: "3" },
    rounds: { type: "string", default: "3" },
    "bulk-mib": { type: "string", default: "1024" },
    protocol: { type: "string", default: "http2" },
    json: { type: "string" },
    quick: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});

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

if (options.help) {
  console.log(HELP);
  process.exit(0);
}
const seconds = options.quick ? 1 : Number(options.seconds);
const rounds = options.quick ? 1 : Number(options.rounds);
const bulkBytes = (options.quick ? 128 : Number(options["bulk-mib"])) * 1024 * 1024;
const culvert = resolve("dist/culvert");
const foreign = options["connector-bin"];
if (foreign !== undefined && !existsSync(foreign)) {
  console.error(`There is no program at "${foreign}"`);
  process.exit(1);
}

const children: Bun.Subprocess[] = [];
const dir = mkdtempSync(join(tmpdir(), "culvert-bench-"));
try {
  await main();
} finally {
  for (const child of children.toReversed()) child.kill("SIGKILL");
  rmSync(dir, { recursive: true, force: true });
}

async function main(): Promise<void> {
  const originPort = Number(await firstLine(start([process.execPath, "scripts/bench-origin.ts"])));
  const load = startLoad();
  const edge = await startEdge();
  const measured = new Map<string, Round[]>([
    ["direct", []],
    ["culvert", []],
  ]);
  if (foreign !== undefined) measured.set("foreign", []);
  for (let round = 0; round < rounds; round++) {
    for (const [name, results] of measured) {
      progress(`round ${round + 1} of ${rounds}: ${name}`);
      results.push(
        name === "direct"
          ? await measure(load, originPort, undefined)
          : await measureConnector(load, edge, originPort, name === "culvert" ? culvert : (foreign ?? "")),
      );
    }
  }
  const medians = Object.fromEntries([...measured].map(([name, results]) => [name, medianRound(results)]));
  report(medians, versionOf(culvert), foreign === undefined ? undefined : versionOf(foreign));
}

interface EdgeUnderTest {
  readonly publicPort: number;
  readonly tunnelAddress: string;
  readonly token: string;
}

async function startEdge(): Promise<EdgeUnderTest> {
  const state = join(dir, "edge");
  const edge = start([
    culvert,
    "edge",
    "run",
    "--state-dir",
    state,
    "--http-listen",
    "127.0.0.1:0",
    "--tunnel-listen",
    "127.0.0.1:0",
  ]);
  const line = await lineWith(edge, "Edge is ready");
  const added = Bun.spawnSync([culvert, "edge", "tunnel", "add", "bench", HOST, "--state-dir", state], {
    stderr: "ignore",
  });
  return {
    publicPort: Number(/public=\S+:(\d+)/.exec(line)?.[1]),
    tunnelAddress: /tunnel="?([0-9.:]+)/.exec(line)?.[1] ?? "",
    token: added.stdout.toString().trim(),
  };
}

async function measureConnector(load: Load, edge: EdgeUnderTest, originPort: number, program: string): Promise<Round> {
  const metrics = await freePort();
  const addresses = Array.from({ length: EDGE_CONNECTIONS }, () => ["--edge", edge.tunnelAddress]).flat();
  const connector = start([
    ...[program, "tunnel", "--no-autoupdate", ...addresses, "--cacert", join(dir, "edge", "ca.pem")],
    ...["--protocol", options.protocol, "--metrics", `127.0.0.1:${metrics}`],
    ...["run", "--url", `http://127.0.0.1:${originPort}`, "--token", edge.token],
  ]);
  drain(connector);
  await until(`the connections of ${program}`, async () => {
    const ready = (await (await fetch(`http://127.0.0.1:${metrics}/ready`)).json()) as { readyConnections?: number };
    return ready.readyConnections === EDGE_CONNECTIONS;
  });
  try {
    return await measure(load, edge.publicPort, connector.pid);
  } finally {
    connector.kill("SIGTERM");
    await connector.exited;
  }
}

async function measure(load: Load, port: number, pid: number | undefined): Promise<Round> {
  const idle = pid === undefined ? 0 : rssMb(pid);
  let busy = 0;
  await load(`requests ${port} ${HOST} 16 1`);
  const points: Record<number, Point> = {};
  for (const connections of CONCURRENCY) {
    const before = pid === undefined ? 0 : cpuSeconds(pid);
    const result = await load(`requests ${port} ${HOST} ${connections} ${seconds}`);
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
    const result = await load(`${direction} ${port} ${HOST} ${bulkBytes}`);
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

function median(values: readonly (number | undefined)[]): number | undefined {
  const sorted = values.filter((value) => value !== undefined).sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}

function report(medians: Record<string, Round>, ours: string, theirs: string | undefined): void {
  const names = Object.keys(medians);
  const row = (label: string, get: (round: Round) => string): string =>
    `| ${label} | ${names.map((name) => get(medians[name] as Round)).join(" | ")} |`;
  const number = (value: number | undefined, digits = 0): string => (value === undefined ? "" : value.toFixed(digits));
  console.log(
    `\n${new Date().toISOString().slice(0, 10)}, ${cpus().length} cores, ${ours}${theirs === undefined ? "" : `; foreign: ${theirs}`}\n`,
  );
  console.log(`| | ${names.join(" | ")} |\n|---|${names.map(() => "---:|").join("")}`);
  for (const connections of CONCURRENCY) {
    const point = (round: Round): Point | undefined => round.points[connections];
    console.log(row(`requests/s at ${connections}`, (round) => number(point(round)?.requestsPerSecond)));
    console.log(
      row(
        `p50 / p99 ms at ${connections}`,
        (round) => `${number(point(round)?.p50Ms, 2)} / ${number(point(round)?.p99Ms, 2)}`,
      ),
    );
    console.log(
      row(`connector CPU µs/request at ${connections}`, (round) => number(point(round)?.cpuMicrosPerRequest)),
    );
  }
  for (const direction of ["down", "up"] as const) {
    console.log(row(`bulk ${direction} MB/s`, (round) => number(round[direction].mbPerSecond)));
    console.log(row(`bulk ${direction} connector CPU s/GB`, (round) => number(round[direction].cpuSecondsPerGb, 2)));
  }
  console.log(
    row("connector RSS MB idle / busy / after", (round) =>
      round.rssMb === undefined
        ? ""
        : `${number(round.rssMb.idle)} / ${number(round.rssMb.busy)} / ${number(round.rssMb.after)}`,
    ),
  );
  const ratios = compare(medians["culvert"], medians["foreign"]);
  if (ratios !== undefined) {
    console.log("\nculvert / foreign:");
    for (const [what, { ratio, good }] of Object.entries(ratios))
      console.log(`  ${what}: ${ratio.toFixed(2)}${good ? "" : "  (not reached)"}`);
  }
  if (options.json === undefined) return;
  const json = JSON.stringify(
    { date: new Date().toISOString(), culvert: ours, foreign: theirs, medians, ratios },
    null,
    2,
  );
  if (options.json === "-") console.log(json);
  else writeFileSync(options.json, `${json}\n`);
}

function compare(
  ours: Round | undefined,
  theirs: Round | undefined,
): Record<string, { ratio: number; good: boolean }> | undefined {
  if (ours === undefined || theirs === undefined) return undefined;
  const ratios: Record<string, { ratio: number; good: boolean }> = {};
  for (const connections of CONCURRENCY) {
    const [a, b] = [ours.points[connections], theirs.points[connections]];
    const cpu = (a?.cpuMicrosPerRequest ?? 0) / (b?.cpuMicrosPerRequest ?? 1);
    const requests = (a?.requestsPerSecond ?? 0) / (b?.requestsPerSecond ?? 1);
    ratios[`CPU per request at ${connections}`] = { ratio: cpu, good: cpu <= REQUIRED.cpuRatio };
    ratios[`requests/s at ${connections}`] = { ratio: requests, good: requests >= REQUIRED.requestRatio };
  }
  for (const direction of ["down", "up"] as const) {
    const ratio = ours[direction].mbPerSecond / theirs[direction].mbPerSecond;
    ratios[`bulk ${direction}`] = { ratio, good: ratio >= REQUIRED.bulkRatio };
  }
  return ratios;
}

// ---- processes ----

function start(command: readonly string[]): Bun.Subprocess<"pipe", "pipe", "pipe"> {
  const child = Bun.spawn([...command], { stdin: "pipe", stdout: "pipe", stderr: "pipe" });
  children.push(child);
  return child;
}

type LoadResult = { requests: number; failures: number; seconds: number; p50Ms: number; p99Ms: number; bytes: number };
type Load = (command: string) => Promise<LoadResult>;

function startLoad(): Load {
  const child = start([process.execPath, "scripts/bench-load.ts"]);
  const lines = readLines(child.stdout);
  return async (command) => {
    child.stdin.write(`${command}\n`);
    child.stdin.flush();
    const { value } = await lines.next();
    const result = JSON.parse(value ?? "{}") as LoadResult & { error?: string };
    if (result.error !== undefined) throw new Error(`${command}: ${result.error}`);
    return result;
  };
}

async function* readLines(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  let rest = "";
  const decoder = new TextDecoder();
  for await (const chunk of stream) {
    rest += decoder.decode(chunk, { stream: true });
    const lines = rest.split("\n");
    rest = lines.pop() ?? "";
    yield* lines;
  }
}

async function firstLine(child: Bun.Subprocess<"pipe", "pipe", "pipe">): Promise<string> {
  const { value } = await readLines(child.stdout).next();
  return value ?? "";
}

async function lineWith(child: Bun.Subprocess<"pipe", "pipe", "pipe">, text: string): Promise<string> {
  const seen: string[] = [];
  const lines = readLines(child.stderr);
  for (let next = await lines.next(); next.done !== true; next = await lines.next()) {
    seen.push(next.value);
    if (!next.value.includes(text)) continue;
    // What it says afterwards is read and forgotten, so that it never waits for a reader.
    void (async () => {
      while ((await lines.next()).done !== true);
    })();
    return next.value;
  }
  throw new Error(`A process ended without "${text}":\n${seen.join("\n")}`);
}

/** Reads what a process says and forgets it, so that it never waits for a reader. */
function drain(child: Bun.Subprocess<"pipe", "pipe", "pipe">): void {
  void child.stderr.pipeTo(new WritableStream());
  void child.stdout.pipeTo(new WritableStream());
}

async function until(what: string, condition: () => Promise<boolean>): Promise<void> {
  const giveUpAt = performance.now() + 30_000;
  while (!(await condition().catch(() => false))) {
    if (performance.now() > giveUpAt) throw new Error(`Waited 30 s in vain: ${what}`);
    await Bun.sleep(50);
  }
}

async function freePort(): Promise<number> {
  const probe = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = probe;
  probe.stop(true);
  return await Promise.resolve(port);
}

/** CPU time of a process and all its threads. */
function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
    .replace(/^.*\) /, "")
    .split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS;
}

function rssMb(pid: number): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) / 1024;
}

function versionOf(program: string): string {
  return Bun.spawnSync([program, "--version"]).stdout.toString().trim();
}

function progress(text: string): void {
  process.stderr.write(`${text}\n`);
}
