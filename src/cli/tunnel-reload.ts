import { ORIGIN_FLAGS } from "../config/flags.ts";
import { expandHome } from "../config/host.ts";
import { type Reloadable, type RunConfig, readReloadable } from "../config/run-config.ts";
import { watchFile } from "../config/watch.ts";
import type { Connector } from "../connector/connector.ts";
import { formatRouteProblem, type RouteProblem } from "../connector/routes.ts";
import type { Clock } from "../core/clock.ts";
import { describe } from "../core/errors.ts";
import type { Logger, LogLevel } from "../core/log.ts";
import { formatIssue } from "../ingress/issue.ts";
import type { Context } from "./command.ts";

/** What takes effect while the connector runs: the rules, and the flags that make one. */
const LIVE_KEYS: ReadonlySet<string> = new Set([
  ...["ingress", "originRequest", "warp-routing", "loglevel"],
  ...ORIGIN_FLAGS.map(({ name }) => name),
]);

interface ReloadDeps {
  /** What is asked for while it starts waits for it. */
  readonly connector: Promise<Pick<Connector, "replaceRules" | "rulesRefused">>;
  readonly clock: Clock;
  readonly log: Logger;
  readonly setLogLevel: (level: LogLevel) => void;
  /** Told when reading begins; what it gives is called at the end. */
  readonly onReload: () => () => void;
}

/**
 * Reads the configuration again when its file changes and at SIGHUP. A configuration with an error is refused as a
 * whole, and what was in force stays.
 *
 * @returns ends it
 */
export function reloadOnChange(context: Context, config: RunConfig, deps: ReloadDeps): () => void {
  const reloader = new Reloader(context, config, deps);
  const forgetSignal = context.onHangup?.(() => reloader.ask("told")) ?? ((): void => {});
  const { file } = config;
  if (file === undefined) return forgetSignal;
  const stopWatching = watchFile(expandHome(context.host, file.path), {
    clock: deps.clock,
    onChange: () => reloader.ask("seen"),
    onMissing: () => deps.log.warn(`Config file "${file.path}" is gone: what it said stays in force`),
  });
  return () => {
    forgetSignal();
    stopWatching();
  };
}

/** `seen`: the file looks different. `told`: somebody asks for it, whether it does or not. */
type Cause = "seen" | "told";

class Reloader {
  readonly #context: Context;
  readonly #args: Context["args"];
  readonly #config: RunConfig;
  readonly #deps: ReloadDeps;
  /** The file's values that were last taken, to tell a change from a touch. */
  #taken: string;
  #rulesFrom: string;
  #needRestart = "";
  #asked: Cause | undefined;
  #busy = false;

  constructor(context: Context, config: RunConfig, deps: ReloadDeps) {
    this.#context = context;
    this.#config = config;
    this.#deps = deps;
    const { file } = config;
    // The same file, even when another one has come to a place that is searched earlier.
    this.#args = file === undefined ? context.args : new Map([...context.args, ["config", [file.path]]]);
    this.#taken = JSON.stringify(file?.top);
    this.#rulesFrom = config.rulesFrom;
  }

  /** Reads the file soon; while that goes on, any number of calls make it happen once more. */
  ask(cause: Cause): void {
    if (this.#asked !== "told") this.#asked = cause;
    if (!this.#busy) void this.#work();
  }

  async #work(): Promise<void> {
    this.#busy = true;
    for (let cause = this.#asked; cause !== undefined; cause = this.#asked) {
      this.#asked = undefined;
      const done = this.#deps.onReload();
      await this.#reload(cause).catch((error: unknown) => this.#refuse([describe(error)]));
      done();
    }
    this.#busy = false;
  }

  async #reload(cause: Cause): Promise<void> {
    const { log, setLogLevel } = this.#deps;
    const connector = await this.#deps.connector;
    const read = readReloadable(this.#context.host, this.#args);
    const values = read.kind === "ok" ? JSON.stringify(read.config.file?.top) : undefined;
    if (cause === "seen" && values === this.#taken) return;
    // What is doubtful in the file may be why it is refused; that nothing is served is true of one in force only.
    for (const { text, about } of read.warnings) if (about !== "rules") log.warn(text);
    if (read.kind === "failed") {
      connector.rulesRefused();
      this.#refuse(read.errors);
      return;
    }
    const { config } = read;
    if (config.rulesFrom === "default" && this.#rulesFrom !== "default") {
      // An emptied file would turn every service off; whoever wants that can say so with a rule.
      connector.rulesRefused();
      this.#refuse([`There are no ingress rules in "${config.file?.path}" any more`]);
      return;
    }
    const result = await connector.replaceRules(config.rules);
    if (result.kind === "refused") {
      this.#refuse(placeProblems(result.problems, config));
      return;
    }
    this.#taken = values ?? "";
    this.#rulesFrom = config.rulesFrom;
    setLogLevel(config.logLevel);
    if (result.kind === "remote" && config.rulesFrom === "default") {
      log.info("Configuration reloaded; the rules are those of the edge");
    } else if (result.kind === "remote") {
      log.warn(`The rules of ${config.rulesFrom} have no effect: this tunnel is configured by its edge`);
    } else {
      for (const { text, about } of read.warnings) if (about === "rules") log.warn(text);
      log.info(`Configuration reloaded from ${config.rulesFrom}`, { rules: config.rules.rules.length });
    }
    this.#warnOfRestart(config);
  }

  #refuse(errors: readonly string[]): void {
    for (const error of errors) {
      this.#deps.log.error("The new configuration is refused, and the old one stays in force", { error });
    }
  }

  /** Keys whose new values are not in force, once for each set of them. */
  #warnOfRestart({ file }: Reloadable): void {
    const before = this.#config.file?.top ?? {};
    const now = file?.top ?? {};
    const overridden = new Set(
      this.#config.settings.filter(({ source }) => source === "flag" || source === "env").map(({ name }) => name),
    );
    const changed = [...new Set([...Object.keys(before), ...Object.keys(now)])]
      .filter((key) => !LIVE_KEYS.has(key) && !overridden.has(key))
      .filter((key) => JSON.stringify(before[key]) !== JSON.stringify(now[key]))
      .sort()
      .join(", ");
    if (changed !== "" && changed !== this.#needRestart) {
      this.#deps.log.warn(`Changed, but in force only after a restart: ${changed}`);
    }
    this.#needRestart = changed;
  }
}

/** Problems of rules as lines, with the places of the rules where they come from a file. */
export function placeProblems(
  problems: readonly RouteProblem[],
  config: Pick<Reloadable, "file" | "rulesFrom">,
): readonly string[] {
  const file = config.rulesFrom === config.file?.path ? config.file : undefined;
  return problems.map((problem) => {
    const path = ["ingress", problem.ruleIndex, "service"];
    const message = formatRouteProblem(problem);
    return formatIssue({ severity: "error", path: path.join("."), message, ...file?.locate(path) }, file?.path);
  });
}
