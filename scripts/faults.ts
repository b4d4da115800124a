import { writeFileSync } from "node:fs";
import { cpus, release } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { culvertCommand } from "../test/support/binary.ts";
import { Cluster, type Protocol } from "../test/support/netlab/cluster.ts";
import { command, netlabMissing } from "../test/support/netlab/commands.ts";
import { congestionControl, Netlab, SITES } from "../test/support/netlab/netlab.ts";
import { markdown, missed, type Row, table } from "../test/support/netlab/report.ts";
import { SCENARIOS, type Scenario } from "../test/support/netlab/scenarios.ts";
import { type Effort, runAutoBlocked, runScenario } from "../test/support/netlab/trial.ts";

const HELP = `Measures what faults of processes and networks do to visitors. Runs as root, in network namespaces of its own.

  --only NAME      one fault; repeat it for more. Nothing is written to test/faults.md
  --protocol NAME  http2 or quic (default: both, and auto for auto-udp-blocked)
  --seconds N      time before and after each fault (default 2)
  --quick          one fault of each kind, in under a minute. Nothing is written to test/faults.md
  --json FILE      also write the figures as JSON; - for standard output
  --list           names the faults and ends

Exit codes: 0 all goals met, 1 a goal missed, 3 the lab cannot be built here.`;

const REPORT = join(import.meta.dirname, "..", "test", "faults.md");
const AUTO_BLOCKED = "auto-udp-blocked";
const CANNOT = 3;

const { values: options } = parseArgs({
  options: {
    only: { type: "string", multiple: true },
    protocol: { type: "string" },
    seconds: { type: "string" },
    quick: { type: "boolean", default: false },
    json: { type: "string" },
    list: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});

if (options.help) {
  console.log(HELP);
  process.exit(0);
}
if (options.list) {
  for (const { name, what } of SCENARIOS) console.log(`${name}: ${what}`);
  console.log(`${AUTO_BLOCKED}: connectors with --protocol auto start while UDP is blocked`);
  process.exit(0);
}
const reason = netlabMissing();
if (reason !== undefined) {
  console.error(`The fault matrix cannot be measured here: ${reason}`);
  process.exit(CANNOT);
}

const effort: Effort = {
  aroundMs: Number(options.seconds ?? (options.quick ? 1 : 2)) * 1_000,
  downloadBytes: options.quick ? 1_000_000 : 4_000_000,
  brief: options.quick,
};
const rows: Row[] = [];
await using lab = new Netlab();
const started = performance.now();
for (const protocol of ["http2", "quic"] as const) {
  if (options.protocol === undefined || options.protocol === protocol) await measure(protocol);
}
if (wanted(AUTO_BLOCKED) && !options.quick && options.protocol !== "http2") await measureAuto();
if (rows.length === 0) {
  console.error("No such fault: --list names them");
  process.exit(1);
}
report();

async function measure(protocol: Protocol): Promise<void> {
  const chosen = SCENARIOS.filter(
    (scenario) =>
      (scenario.only ?? protocol) === protocol &&
      wanted(scenario.name) &&
      (!options.quick || scenario.quick?.includes(protocol) === true),
  );
  let cluster: Cluster | undefined;
  for (const scenario of chosen) {
    try {
      cluster ??= await startCluster(protocol);
      const row = await trial(cluster, protocol, scenario);
      add(row);
      if (row.outcome?.connectedAfterMs !== undefined) continue;
    } catch (error) {
      add({ ...scenario, protocol, error: (error as Error).message.split("\n").slice(0, 3).join(" ") });
    }
    // What the next fault does must not depend on what this one left behind.
    lab.restore();
    await lab.shape(SITES, undefined);
    await cluster?.[Symbol.asyncDispose]();
    cluster = undefined;
  }
  await cluster?.[Symbol.asyncDispose]();
}

async function trial(cluster: Cluster, protocol: Protocol, scenario: Scenario): Promise<Row> {
  const outcome = await runScenario(lab, cluster, protocol, scenario, effort);
  return { ...scenario, protocol, outcome };
}

async function startCluster(protocol: Protocol): Promise<Cluster> {
  const cluster = await Cluster.start(lab, protocol);
  try {
    for (const site of SITES) cluster.startConnector(site);
    await cluster.connected();
    return cluster;
  } catch (error) {
    await cluster[Symbol.asyncDispose]();
    throw error;
  }
}

async function measureAuto(): Promise<void> {
  const what = "connectors start while UDP is blocked; the block is lifted while they serve";
  const row = { name: AUTO_BLOCKED, what, protocol: "auto", goals: [] };
  try {
    add({ ...row, ...(await runAutoBlocked(lab, effort)) });
  } catch (error) {
    add({ ...row, error: (error as Error).message.split("\n").slice(0, 3).join(" ") });
  }
  lab.restore();
}

function wanted(name: string): boolean {
  return options.only === undefined || options.only.includes(name);
}

function add(row: Row): void {
  rows.push(row);
  const bad = missed(row);
  const said = bad.length === 0 ? "goals met" : `MISSED: ${bad.join(", ")}`;
  console.error(
    `${((performance.now() - started) / 1_000).toFixed(0).padStart(4)} s  ${row.protocol} ${row.name}: ${said}`,
  );
}

function report(): void {
  const [program = "", ...args] = culvertCommand();
  const setting = {
    date: new Date().toISOString().slice(0, 10),
    kernel: release(),
    cores: cpus().length,
    version: command(program, ...args, "--version").trim(),
    shapedBy: lab.shapedBy,
    congestionControl: congestionControl(),
  };
  if (options.json !== undefined) {
    const text = `${JSON.stringify({ ...setting, rows: rows.map((row) => ({ ...row, missed: missed(row) })) }, null, 2)}\n`;
    if (options.json === "-") console.log(text);
    else writeFileSync(options.json, text);
  }
  if (options.only === undefined && !options.quick && options.protocol === undefined) {
    writeFileSync(REPORT, markdown(setting, rows));
    console.error(`Wrote ${REPORT}`);
  } else console.log(table(rows));
  process.exitCode = rows.some((row) => missed(row).length > 0) ? 1 : 0;
}
