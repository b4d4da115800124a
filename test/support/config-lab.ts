import { writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  addTunnel,
  culvertConnector,
  HOST,
  metricsPort,
  type Protocol,
  startConnector,
  startEdgeProcess,
} from "./lab.ts";
import { type LabOrigin, startOrigin } from "./origins.ts";
import { pollUntil } from "./poll-until.ts";
import type { OwnedProcess } from "./processes.ts";
import { makeTempDir } from "./temp-dir.ts";
import { visit } from "./visitors.ts";

/** Edge, origin and a connector that has its rules from a file. */
export interface ConfigLab extends AsyncDisposable {
  readonly port: number;
  readonly origin: LabOrigin;
  readonly connector: OwnedProcess;
  /** A folder for this lab; the config file is `config` below it. */
  readonly dir: string;
  readonly file: string;
  /** The text of a config file whose rules can be told from others by the mark, and lead to the origin. */
  rules(mark: string, more?: string): string;
  /** Resolves once these rules are in force. */
  live(mark: string, deadlineMs?: number): Promise<void>;
  /** The value of one line of `/metrics`. */
  metric(line: string): Promise<number>;
}

/** `place` writes the first config file and gives its path. */
export async function startConfigLab(
  protocol: Protocol,
  place: (dir: string, rules: string) => string = (dir, rules) => {
    writeFileSync(join(dir, "config.yml"), rules);
    return join(dir, "config.yml");
  },
): Promise<ConfigLab> {
  await using stack = new AsyncDisposableStack();
  const dir = stack.use(makeTempDir()).path;
  const origin = stack.use(await startOrigin());
  const stateDir = join(dir, "state");
  const edge = await startEdgeProcess(stateDir);
  stack.use(edge.process);
  const token = await addTunnel(stateDir, "lab", [HOST]);
  const rules = (mark: string, more = ""): string =>
    `${more}ingress:
  - hostname: ${HOST}
    service: http://127.0.0.1:${origin.port}
  - hostname: ${mark}.example
    service: http_status:204
  - service: http_status:404
`;
  const file = place(dir, rules("first"));
  const { tunnelPort, caPath } = edge;
  const run = { token, tunnelPort, caPath, flags: ["--config", file] };
  const connector = stack.use(startConnector(culvertConnector(protocol), run));
  await connector.errorLine(/Registered tunnel connection/);
  const metrics = await metricsPort(connector);
  const shown = async (target: string): Promise<string> =>
    (await visit(metrics, { host: "127.0.0.1", target })).body.toString();
  const owned = stack.move();
  return {
    ...{ port: edge.publicPort, origin, connector, dir, file, rules },
    live: async (mark, deadlineMs = 5_000) => {
      await pollUntil(async () => (await shown("/config")).includes(`"${mark}.example"`), {
        what: `rules "${mark}" in force\n${connector.stderr.slice(-2_000)}`,
        deadlineMs,
        everyMs: 2,
      });
    },
    metric: async (line) => {
      const text = await shown("/metrics");
      const found = text.split("\n").find((candidate) => candidate.startsWith(`${line} `));
      if (found === undefined) throw new Error(`No metric ${line}`);
      return Number(found.slice(line.length + 1));
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
