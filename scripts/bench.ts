import { existsSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { measureEdge } from "./bench-edge.ts";
import { measureIdleWebSockets } from "./bench-idle.ts";
import { measureOverhead, REQUESTS } from "./bench-overhead.ts";
import { type Plan, Processes, type Protocol, versionOf } from "./bench-processes.ts";
import { measureRestarts } from "./bench-restart.ts";
import { measureThroughput } from "./bench-throughput.ts";

const HELP = `Measures a connector behind our edge. Everything runs on loopback, each part in a process of its own.

  --connector-bin PATH  also measure this program, started with cloudflared's flags
  --protocol NAME       http2, quic or both (default both)
  --seconds N           time for each number of connections (default 3)
  --rounds N            rounds, ours and the other in turn; medians are shown (default 3)
  --bulk-mib N          size of the bulk transfers (default 1024)
  --json FILE           also write the figures as JSON; - for standard output
  --quick               one round of one second and 128 MiB
  --network-packets     tunnel to an address that is not of loopback, in a network namespace of its own (needs root):
                        over QUIC ours then sends the 1350-byte packets of a network instead of loopback's 16 KiB

Measured instead of requests and bulk:
  --restarts N          kill -9 of the edge and a new one, N times: time until a request is answered again
  --idle-websockets N   memory of the connector with N open WebSockets
  --overhead            CPU that counting a request, reading metrics and a log line for each request add to the connector,
                        beside the same process while it does neither; ten times as long, a new process for each round
  --request NAME        of them page (a browser's, for 8 KiB), smallest or both (default both)
  --edge                the whole path beside the origin alone and nginx, and what 50 000 hostnames, 1 000 connectors and
                        10 000 visitors that keep their connections cost the edge`;

const LOOPBACK = "127.0.0.1";
/** Of the block for benchmarks (RFC 2544). */
const NETWORK_ADDRESS = "198.18.0.1";
const IN_NAMESPACE = "CULVERT_BENCH_IN_NAMESPACE";

const { values: options } = parseArgs({
  options: {
    "connector-bin": { type: "string" },
    seconds: { type: "string", default: "3" },
    rounds: { type: "string", default: "3" },
    "bulk-mib": { type: "string", default: "1024" },
    protocol: { type: "string", default: "both" },
    json: { type: "string" },
    quick: { type: "boolean", default: false },
    "network-packets": { type: "boolean", default: false },
    restarts: { type: "string" },
    "idle-websockets": { type: "string" },
    edge: { type: "boolean", default: false },
    overhead: { type: "boolean", default: false },
    request: { type: "string", default: "both" },
    help: { type: "boolean", default: false },
  },
});

if (options.help) {
  console.log(HELP);
  process.exit(0);
}
if (!["http2", "quic", "both"].includes(options.protocol)) fail(`No such protocol: "${options.protocol}"`);
const requests = options.request === "both" ? REQUESTS : REQUESTS.filter((name) => name === options.request);
if (requests.length === 0) fail(`No such request: "${options.request}"`);
const foreign = options["connector-bin"];
if (foreign !== undefined && !existsSync(foreign)) fail(`There is no program at "${foreign}"`);
if (options["network-packets"] && process.env[IN_NAMESPACE] === undefined) process.exit(runInNamespace());

const figures = await measure();
if (options.json !== undefined) {
  const json = JSON.stringify({ date: new Date().toISOString(), ...figures }, null, 2);
  if (options.json === "-") console.log(json);
  else writeFileSync(options.json, `${json}\n`);
}

async function measure(): Promise<Record<string, unknown>> {
  using processes = new Processes();
  const culvert = resolve("dist/culvert");
  const plan: Plan = {
    processes,
    culvert,
    connectors: [
      { name: "culvert", program: culvert },
      ...(foreign === undefined ? [] : [{ name: "foreign", program: foreign } as const]),
    ],
    protocols: options.protocol === "both" ? ["http2", "quic"] : [options.protocol as Protocol],
    tunnelIp: options["network-packets"] ? NETWORK_ADDRESS : LOOPBACK,
  };
  const versions = {
    culvert: versionOf(culvert),
    ...(foreign === undefined ? {} : { foreign: versionOf(foreign) }),
  };
  const packets = options["network-packets"] ? "; packets as on a network" : "";
  console.log(
    `${new Date().toISOString().slice(0, 10)}, ${cpus().length} cores, ${versions.culvert}` +
      `${foreign === undefined ? "" : `; foreign: ${versions.foreign}`}${packets}`,
  );
  if (options.restarts !== undefined) return { versions, restarts: await measureRestarts(plan, count("restarts")) };
  if (options["idle-websockets"] !== undefined) {
    return { versions, idleWebSockets: await measureIdleWebSockets(plan, count("idle-websockets")) };
  }
  const effort = {
    seconds: options.quick ? 1 : Number(options.seconds),
    rounds: options.quick ? 1 : Number(options.rounds),
    bulkBytes: (options.quick ? 128 : Number(options["bulk-mib"])) * 1024 * 1024,
  };
  if (options.overhead) return { versions, overhead: await measureOverhead(plan, effort, requests) };
  if (options.edge) return { versions, edge: await measureEdge(plan, effort) };
  return { versions, ...(await measureThroughput(plan, effort)) };
}

function count(option: "restarts" | "idle-websockets"): number {
  const value = Number(options[option]);
  if (!Number.isInteger(value) || value < 1) fail(`--${option} takes a number from 1`);
  return value;
}

/** The same command in a namespace whose loopback device has one more address; nothing of it can be seen outside. */
function runInNamespace(): number {
  const script = `ip link set lo up && ip address add ${NETWORK_ADDRESS}/32 dev lo && exec "$@"`;
  const command = ["unshare", "--net", "sh", "-c", script, "sh", process.execPath, ...process.argv.slice(1)];
  const run = Bun.spawnSync(command, {
    env: { ...process.env, [IN_NAMESPACE]: "1" },
    stdin: "inherit",
    stdout: "inherit",
    stderr: "inherit",
  });
  return run.exitCode;
}

function fail(message: string): never {
  console.error(message);
  process.exit(1);
}
