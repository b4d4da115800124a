import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { pollUntil } from "./poll-until.ts";
import { type OwnedProcess, startProcess } from "./processes.ts";
import { freePort } from "./real-services/commands.ts";
import { makeTempDir } from "./temp-dir.ts";

/** How often targets are read and rules looked at. */
const INTERVAL = "200ms";

export interface Sample {
  readonly metric: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface FiredAlert {
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly state: "pending" | "firing";
}

/** A Prometheus server that reads targets of this machine five times a second. */
export class Prometheus implements AsyncDisposable {
  readonly #stack: AsyncDisposableStack;
  readonly #url: string;
  readonly process: OwnedProcess;

  private constructor(stack: AsyncDisposableStack, process: OwnedProcess, port: number) {
    this.#stack = stack;
    this.process = process;
    this.#url = `http://127.0.0.1:${port}`;
  }

  /** `targets`: ports by the name of their job. `rules`: the text of a file of rules. */
  static async start(targets: Readonly<Record<string, number>>, rules?: string): Promise<Prometheus> {
    await using stack = new AsyncDisposableStack();
    const dir = stack.use(makeTempDir());
    const port = await freePort();
    if (rules !== undefined) writeFileSync(join(dir.path, "rules.yml"), rules);
    const config = {
      global: { scrape_interval: INTERVAL, scrape_timeout: INTERVAL, evaluation_interval: INTERVAL },
      rule_files: rules === undefined ? [] : ["rules.yml"],
      scrape_configs: Object.entries(targets).map(([job, target]) => ({
        ...{ job_name: job, static_configs: [{ targets: [`127.0.0.1:${target}`] }] },
      })),
    };
    writeFileSync(join(dir.path, "prometheus.yml"), JSON.stringify(config));
    const process = stack.use(
      startProcess([
        ...["prometheus", `--config.file=${join(dir.path, "prometheus.yml")}`],
        ...[`--storage.tsdb.path=${join(dir.path, "data")}`, `--web.listen-address=127.0.0.1:${port}`],
        ...["--enable-feature=exemplar-storage"],
      ]),
    );
    await process.errorLine(/Server is ready to receive web requests/, 20_000);
    return new Prometheus(stack.move(), process, port);
  }

  /** What an expression gives now; throws when it is wrong. */
  async query(expression: string): Promise<readonly Sample[]> {
    const { result } = (await this.#ask(`query?query=${encodeURIComponent(expression)}`)) as {
      result: readonly { metric: Record<string, string>; value: readonly [number, string] }[];
    };
    return result.map(({ metric, value }) => ({ metric, value: Number(value[1]) }));
  }

  /** Labels of the exemplars of the last minute. */
  async exemplars(selector: string): Promise<readonly Readonly<Record<string, string>>[]> {
    const now = Date.now() / 1000;
    const found = (await this.#ask(
      `query_exemplars?query=${encodeURIComponent(selector)}&start=${now - 60}&end=${now + 1}`,
    )) as readonly { readonly exemplars: readonly { readonly labels: Record<string, string> }[] }[];
    return found.flatMap(({ exemplars }) => exemplars.map(({ labels }) => labels));
  }

  async alerts(): Promise<readonly FiredAlert[]> {
    return ((await this.#ask("alerts")) as { alerts: readonly FiredAlert[] }).alerts;
  }

  /** Resolves once an expression gives something. */
  async until(expression: string): Promise<readonly Sample[]> {
    let found: readonly Sample[] = [];
    await pollUntil(
      async () => {
        found = await this.query(expression);
        return found.length > 0;
      },
      { what: `${expression} gives something`, everyMs: 100, deadlineMs: 15_000 },
    );
    return found;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#stack.disposeAsync();
  }

  async #ask(path: string): Promise<unknown> {
    const answer = (await (await fetch(`${this.#url}/api/v1/${path}`)).json()) as {
      readonly status: string;
      readonly error?: string;
      readonly data: unknown;
    };
    if (answer.status !== "success") throw new Error(`${path}: ${answer.error}`);
    return answer.data;
  }
}
