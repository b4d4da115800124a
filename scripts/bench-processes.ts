import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";

export type Protocol = "http2" | "quic";
export type Child = Bun.Subprocess<"pipe", "pipe", "pipe">;

/** Name that visitors ask for. */
export const HOST = "bench.example.test";
export const EDGE_CONNECTIONS = 4;
/** Kernel's clock ticks a second, as /proc counts CPU time. */
const TICKS = 100;
const DEADLINE_MS = 30_000;

export interface Plan {
  readonly processes: Processes;
  readonly culvert: string;
  /** The connectors to measure, in turn. */
  readonly connectors: readonly { readonly name: "culvert" | "foreign"; readonly program: string }[];
  readonly protocols: readonly Protocol[];
  /** Address of this machine on which the edge takes connectors. */
  readonly tunnelIp: string;
}

/** What runs beside this process; all of it ends with it. */
export class Processes implements Disposable {
  readonly dir = mkdtempSync(join(tmpdir(), "culvert-bench-"));
  readonly #children: Child[] = [];

  constructor() {
    // Whoever stops a bench does not mean its parts to run on.
    for (const signal of ["SIGINT", "SIGTERM"] as const) {
      process.once(signal, () => {
        this[Symbol.dispose]();
        process.exit(128 + constants.signals[signal]);
      });
    }
  }

  start(command: readonly string[]): Child {
    const child = Bun.spawn([...command], { stdin: "pipe", stdout: "pipe", stderr: "pipe" });
    this.#children.push(child);
    return child;
  }

  [Symbol.dispose](): void {
    for (const child of this.#children.toReversed()) child.kill("SIGKILL");
    rmSync(this.dir, { recursive: true, force: true });
  }
}

export interface EdgeUnderTest {
  readonly process: Child;
  readonly publicPort: number;
  /** `IP:port` for connectors. */
  readonly tunnelAddress: string;
  readonly caFile: string;
  readonly token: string;
}

/** Starts an edge with one tunnel. `tunnelIp` is an address of this machine. */
export async function startEdge(processes: Processes, culvert: string, tunnelIp: string): Promise<EdgeUnderTest> {
  const state = join(processes.dir, "edge");
  const edge = await runEdge(processes, culvert, state, { public: "127.0.0.1:0", tunnel: `${tunnelIp}:0` });
  const added = Bun.spawnSync([culvert, "edge", "tunnel", "add", "bench", HOST, "--state-dir", state], {
    stderr: "ignore",
  });
  return { ...edge, caFile: join(state, "ca.pem"), token: added.stdout.toString().trim() };
}

/** Starts the same edge again, on the same ports, after its process is gone. */
export async function startEdgeAgain(processes: Processes, culvert: string, edge: EdgeUnderTest): Promise<Child> {
  const state = join(processes.dir, "edge");
  const listen = { public: `127.0.0.1:${edge.publicPort}`, tunnel: edge.tunnelAddress };
  return (await runEdge(processes, culvert, state, listen)).process;
}

async function runEdge(
  processes: Processes,
  culvert: string,
  state: string,
  listen: { readonly public: string; readonly tunnel: string },
): Promise<Pick<EdgeUnderTest, "process" | "publicPort" | "tunnelAddress">> {
  const own = ["--http-listen", listen.public, "--tunnel-listen", listen.tunnel, "--api-listen", "off"];
  // All visitors of a bench come from one address.
  const listening = [...own, "--limit", "connections-per-ip=50000"];
  const edge = processes.start([culvert, "edge", "run", "--state-dir", state, ...listening]);
  const line = await lineWith(edge, "Edge is ready");
  return {
    process: edge,
    publicPort: Number(/public=\S+:(\d+)/.exec(line)?.[1]),
    tunnelAddress: /tunnel="?([0-9.:]+)/.exec(line)?.[1] ?? "",
  };
}

/** Starts a connector that takes cloudflared's flags, and waits for its connections. */
export async function startConnector(
  processes: Processes,
  program: string,
  protocol: Protocol,
  edge: EdgeUnderTest,
  originPort: number,
  options: {
    readonly flags?: readonly string[];
    readonly metricsPort?: number;
    /** Where what it says goes. @default nowhere */
    readonly logPath?: string;
  } = {},
): Promise<Child> {
  const metrics = options.metricsPort ?? freePort();
  // A shell that is replaced by the program: the process is its own.
  const into =
    options.logPath === undefined ? [] : ["sh", "-c", 'log=$1; shift; exec "$@" 2>"$log"', "sh", options.logPath];
  const addresses = Array.from({ length: EDGE_CONNECTIONS }, () => ["--edge", edge.tunnelAddress]).flat();
  const connector = processes.start([
    ...[...into, program, "tunnel", "--no-autoupdate", ...(options.flags ?? []), ...addresses, "--cacert", edge.caFile],
    ...["--protocol", protocol, "--metrics", `127.0.0.1:${metrics}`],
    ...["run", "--url", `http://127.0.0.1:${originPort}`, "--token", edge.token],
  ]);
  drain(connector);
  await until(`the connections of ${program} over ${protocol}`, async () => {
    const ready = (await (await fetch(`http://127.0.0.1:${metrics}/ready`)).json()) as { readyConnections?: number };
    return ready.readyConnections === EDGE_CONNECTIONS;
  });
  return connector;
}

export async function stop(child: Child): Promise<void> {
  child.kill("SIGTERM");
  await child.exited;
}

/** A helper process that answers each line of a command with one line of JSON. */
export function startCommanded<Result>(processes: Processes, script: string): (command: string) => Promise<Result> {
  const child = processes.start([process.execPath, script]);
  const lines = readLines(child.stdout);
  return async (command) => {
    child.stdin.write(`${command}\n`);
    child.stdin.flush();
    const { value } = await lines.next();
    const result = JSON.parse(value ?? '{"error":"the process ended"}') as Result & { error?: string };
    if (result.error !== undefined) throw new Error(`${command}: ${result.error}`);
    return result;
  };
}

export async function firstLine(child: Child): Promise<string> {
  const { value } = await readLines(child.stdout).next();
  return value ?? "";
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

async function lineWith(child: Child, text: string): Promise<string> {
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
function drain(child: Child): void {
  void child.stderr.pipeTo(new WritableStream());
  void child.stdout.pipeTo(new WritableStream());
}

export async function until(what: string, condition: () => Promise<boolean>): Promise<void> {
  const giveUpAt = performance.now() + DEADLINE_MS;
  while (!(await condition().catch(() => false))) {
    if (performance.now() > giveUpAt) throw new Error(`Waited ${DEADLINE_MS / 1000} s in vain: ${what}`);
    await Bun.sleep(50);
  }
}

/** Waits for somebody who takes connections on this port of loopback. */
export async function untilListening(port: number): Promise<void> {
  await until(`a listener on port ${port}`, async () => {
    const socket = await Bun.connect({ hostname: "127.0.0.1", port, socket: { data() {} } });
    socket.end();
    return true;
  });
}

export function freePort(): number {
  const probe = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = probe;
  probe.stop(true);
  return port;
}

/** CPU time of a process and all its threads. */
export function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
    .replace(/^.*\) /, "")
    .split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS;
}

export function rssMb(pid: number): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) / 1024;
}

export function versionOf(program: string): string {
  return Bun.spawnSync([program, "--version"]).stdout.toString().trim();
}

export function median(values: readonly (number | undefined)[]): number | undefined {
  const sorted = values.filter((value) => value !== undefined).sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}

export function progress(text: string): void {
  process.stderr.write(`${text}\n`);
}
