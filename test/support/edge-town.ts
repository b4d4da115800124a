import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { BootedMachine } from "./booted-machine.ts";
import { Namespaces } from "./netlab/namespaces.ts";
import type { LoadPlan, VisitRecord } from "./netlab/visit-record.ts";
import { type OwnedProcess, runProcess, startProcess } from "./processes.ts";
import { makeTempDir } from "./temp-dir.ts";

/** Name of the edge itself. */
export const EDGE = "edge.town.example";
/** Name that visitors ask for. */
export const HOST = "app.town.example";
/** Where the service behind the tunnel is, seen from the machine. */
export const ORIGIN = "http://127.0.0.1:8080";

const EDGE_ADDRESS = "198.18.9.1";
const MACHINE_ADDRESS = "198.18.9.2";
const NETLAB = join(import.meta.dirname, "netlab");

/**
 * An edge with its visitors in one network, a machine with systemd in another, and a cable. The edge, and the service
 * that the machine's tunnel leads to, go on while the machine boots anew.
 */
export class EdgeTown implements AsyncDisposable {
  readonly machine: BootedMachine;
  readonly #nets: Namespaces;
  readonly #edgeArgv: readonly string[];
  readonly #stateDir: string;
  readonly #owned: AsyncDisposableStack;
  #edge: OwnedProcess | undefined;

  private constructor(
    machine: BootedMachine,
    parts: { nets: Namespaces; edgeArgv: readonly string[]; stateDir: string; owned: AsyncDisposableStack },
  ) {
    this.machine = machine;
    this.#nets = parts.nets;
    this.#edgeArgv = parts.edgeArgv;
    this.#stateDir = parts.stateDir;
    this.#owned = parts.owned;
  }

  /** `program` is the edge's, which hands out what is in the folder `releases`. */
  static async open(program: string, releases: string): Promise<EdgeTown> {
    await using stack = new AsyncDisposableStack();
    const dir = stack.use(makeTempDir());
    const nets = stack.use(new Namespaces());
    nets.add("edge");
    nets.add("machine");
    nets.cable(
      { in: "edge", device: "town0", address: EDGE_ADDRESS },
      { in: "machine", device: "eth0", address: MACHINE_ADDRESS },
    );
    const stateDir = join(dir.path, "state");
    const edgeArgv = [
      ...[program, "edge", "run", "--state-dir", stateDir, "--release-dir", releases, "--domain", EDGE],
      ...["--http-listen", `${EDGE_ADDRESS}:80`, "--tunnel-listen", `${EDGE_ADDRESS}:7844`],
    ];
    const originArgv = [process.execPath, join(NETLAB, "origin.ts"), new URL(ORIGIN).port];
    const origin = stack.use(startProcess(nets.inside("machine", originArgv)));
    await origin.outputLine(/ready/);
    const machine = stack.use(await BootedMachine.boot("systemd", {}, { network: nets.path("machine") }));
    writeFileSync(join(machine.root, "etc/hosts"), `127.0.0.1 localhost\n${EDGE_ADDRESS} ${EDGE}\n`);
    const town = new EdgeTown(machine, { nets, edgeArgv, stateDir, owned: stack.move() });
    try {
      await town.startEdge();
      return town;
    } catch (error) {
      await town[Symbol.asyncDispose]();
      throw error;
    }
  }

  async startEdge(): Promise<void> {
    this.#edge = startProcess(this.#nets.inside("edge", this.#edgeArgv));
    await this.#edge.errorLine(/Edge is ready/);
  }

  async stopEdge(): Promise<void> {
    await this.#edge?.[Symbol.asyncDispose]();
    this.#edge = undefined;
  }

  /** Makes a tunnel for {@link HOST}; gives its token. */
  async addTunnel(name: string): Promise<string> {
    const [program = ""] = this.#edgeArgv;
    const argv = [program, "edge", "tunnel", "add", name, HOST, "--state-dir", this.#stateDir];
    const { code, stdout, stderr } = await runProcess(argv);
    if (code !== 0) throw new Error(`No tunnel was made: ${stderr}`);
    return stdout.trim();
  }

  /** What a visitor gets, who waits no longer than 5 s. */
  async visit(path: string): Promise<{ readonly status: number; readonly bodyBytes: number }> {
    const shown = ["-o", "/dev/null", "-w", "%{http_code} %{size_download}"];
    const argv = ["curl", "-s", "-m", "5", ...shown, "-H", `Host: ${HOST}`, `http://${EDGE_ADDRESS}${path}`];
    const [status = 0, bodyBytes = 0] = (await runProcess(this.#nets.inside("edge", argv))).stdout
      .split(" ")
      .map(Number);
    return { status, bodyBytes };
  }

  /** Visitors who ask and ask, until {@link TownLoad.end}. */
  startLoad(plan: Pick<LoadPlan, "getsPerSecond" | "slowPerSecond" | "downloads"> & Partial<LoadPlan>): TownLoad {
    const whole: LoadPlan = {
      ...{ edges: [{ host: EDGE_ADDRESS, port: 80 }], hostname: HOST, postsPerSecond: 0 },
      ...{ downloadBytes: 0, downloadBytesPerSecond: 1, atMostMs: 180_000, ...plan },
    };
    const argv = [process.execPath, join(NETLAB, "load.ts"), JSON.stringify(whole)];
    return new TownLoad(startProcess(this.#nets.inside("edge", argv)));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stopEdge();
    await this.#owned.disposeAsync();
  }
}

/** Visitors at work. */
export class TownLoad implements AsyncDisposable {
  readonly #process: OwnedProcess;

  constructor(process: OwnedProcess) {
    this.#process = process;
  }

  /** Every request that is over. */
  get visits(): readonly VisitRecord[] {
    const lines = this.#process.stdout.split("\n").slice(0, -1);
    return lines.map((line) => JSON.parse(line) as VisitRecord);
  }

  /** Begins nothing new; gives all of them once the last is answered. */
  async end(): Promise<readonly VisitRecord[]> {
    this.#process.signal("SIGTERM");
    await this.#process.exitCode(40_000);
    return this.visits;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process[Symbol.asyncDispose]();
  }
}
