import { cpSync } from "node:fs";
import { join } from "node:path";
import { addTunnel, type EdgeProcess, HOST, startEdgeProcess } from "./lab.ts";
import { pollUntil } from "./poll-until.ts";
import { makeTempDir } from "./temp-dir.ts";

export type Side = 0 | 1;

/** Two edges that know one tunnel and share nothing while they run, each a process on ports that it keeps. */
export class EdgePair implements AsyncDisposable {
  readonly token: string;
  readonly #stateDirs: readonly [string, string];
  readonly #edges: [EdgeProcess, EdgeProcess];
  readonly #stack: AsyncDisposableStack;

  private constructor(
    token: string,
    stateDirs: readonly [string, string],
    edges: [EdgeProcess, EdgeProcess],
    stack: AsyncDisposableStack,
  ) {
    this.token = token;
    this.#stateDirs = stateDirs;
    this.#edges = edges;
    this.#stack = stack;
  }

  static async start(): Promise<EdgePair> {
    await using stack = new AsyncDisposableStack();
    const dir = stack.use(makeTempDir());
    const stateDirs = [join(dir.path, "edge0"), join(dir.path, "edge1")] as const;
    const token = await addTunnel(stateDirs[0], "pair", [HOST]);
    cpSync(stateDirs[0], stateDirs[1], { recursive: true });
    const begin = async (stateDir: string): Promise<EdgeProcess> => {
      const edge = await startEdgeProcess(stateDir);
      stack.use(edge.process);
      return edge;
    };
    const edges: [EdgeProcess, EdgeProcess] = [await begin(stateDirs[0]), await begin(stateDirs[1])];
    return new EdgePair(token, stateDirs, edges, stack.move());
  }

  edge(side: Side): EdgeProcess {
    return this.#edges[side];
  }

  /** Both tunnel addresses twice, in turn: a connector has one connection to each that it is given. */
  get addresses(): readonly string[] {
    const once = this.#edges.map(({ tunnelPort }) => `127.0.0.1:${tunnelPort}`);
    return [...once, ...once];
  }

  /** The authority of both. */
  get caPath(): string {
    return this.#edges[0].caPath;
  }

  /** Starts an edge that has ended, on the ports it had. */
  async restart(side: Side): Promise<void> {
    const { publicPort, tunnelPort } = this.#edges[side];
    const edge = await startEdgeProcess(this.#stateDirs[side], { publicPort, tunnelPort });
    this.#stack.use(edge.process);
    this.#edges[side] = edge;
  }

  /** Resolves once each edge has so many connections. */
  async registered(each: number, deadlineMs: number): Promise<void> {
    const counts = (): number[] => this.#edges.map(registeredConnections);
    await pollUntil(() => counts().every((count) => count === each), {
      what: `${each} connections to each edge`,
      deadlineMs,
      everyMs: 20,
    }).catch((cause: unknown) => {
      throw new Error(`The edges have ${counts().join(" and ")} connections instead of ${each} each`, { cause });
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

/** How many connections an edge has now, as its log tells. */
function registeredConnections({ process }: EdgeProcess): number {
  const live = new Set<string>();
  for (const line of process.stderr.split("\n")) {
    const found = /Tunnel connection (registered|ended|lost) .*connection=(\S+)/.exec(line);
    if (found === null) continue;
    const [, what, connection = ""] = found;
    if (what === "registered") live.add(connection);
    else live.delete(connection);
  }
  return live.size;
}
