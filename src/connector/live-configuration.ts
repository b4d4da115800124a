import { TunnelError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import { parseRemoteRules } from "../ingress/remote-rules.ts";
import type { IngressRules } from "../ingress/rules.ts";
import type { ConfigurationAnswer, ConfigurationUpdate } from "../transport/port.ts";
import { describeConfiguration, describeRules, type SetFlag } from "./describe-rules.ts";
import type { LiveRoutes } from "./live-routes.ts";
import { formatRouteProblem, type RouteProblem, RoutesError } from "./routes.ts";

/** Version of rules that no edge pushed. */
const LOCAL_VERSION = -1;
/** Changes that may wait for the one under way. */
const MAX_WAITING = 32;
/** Chars of a pushed configuration that go to the log. */
const MAX_LOGGED_CHARS = 4_096;

export type LocalResult =
  | { readonly kind: "applied" }
  | { readonly kind: "refused"; readonly problems: readonly RouteProblem[] }
  /** An edge has pushed rules, and they go before those of this machine. */
  | { readonly kind: "remote" };

export interface ConfigurationObserver {
  /** Rules were applied as this version, or refused. */
  configured(result: "applied" | "refused", version: number | undefined): void;
}

/**
 * Which rules are in force, and where they come from: this machine's until an edge pushes some (protocol: section 6).
 * Changes happen one after the other, each as a whole or not at all.
 */
export class LiveConfiguration {
  readonly #routes: LiveRoutes;
  readonly #log: Logger;
  readonly #observer: ConfigurationObserver;
  readonly #flags: readonly SetFlag[];
  readonly #listeners = new Set<() => void>();
  #version = LOCAL_VERSION;
  #last: Promise<unknown> = Promise.resolve();
  #waiting = 0;

  /** `flags`: what somebody set for this run, of which an edge is told some. */
  constructor(
    routes: LiveRoutes,
    deps: { readonly log: Logger; readonly observer: ConfigurationObserver; readonly flags?: readonly SetFlag[] },
  ) {
    this.#routes = routes;
    this.#flags = deps.flags ?? [];
    this.#log = deps.log;
    this.#observer = deps.observer;
  }

  /** For the metrics server: version and rules, JSON. */
  describe(): string {
    return describeConfiguration(this.#routes.rules, this.#version);
  }

  /** For the edge: this machine's rules and flags, JSON; undefined once an edge's are in force. */
  describeLocal(): string | undefined {
    return this.#version === LOCAL_VERSION ? describeRules(this.#routes.rules, this.#flags) : undefined;
  }

  /** Calls back whenever this machine's rules were replaced, until the function it gives is called. */
  onLocalChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Puts rules of this machine to work. Rejects with `stream.limit` when too many changes wait. */
  applyLocal(rules: IngressRules): Promise<LocalResult> {
    return this.#inTurn(async (): Promise<LocalResult> => {
      if (this.#version !== LOCAL_VERSION) return { kind: "remote" };
      const problems = await this.#replace(rules, LOCAL_VERSION);
      if (problems.length > 0) return { kind: "refused", problems };
      for (const listener of this.#listeners) listener();
      return { kind: "applied" };
    });
  }

  /** Puts rules of an edge to work if they are newer than those in force. Never rejects. */
  async applyRemote(update: ConfigurationUpdate): Promise<ConfigurationAnswer> {
    try {
      return await this.#inTurn(() => this.#applyRemote(update));
    } catch (error) {
      const reason = error instanceof TunnelError ? error.message : "The configuration could not be applied";
      return { latestAppliedVersion: this.#version, error: reason };
    }
  }

  async #applyRemote({ version, config }: ConfigurationUpdate): Promise<ConfigurationAnswer> {
    if (version <= this.#version) {
      this.#log.debug("Pushed configuration is not newer than what is in force", { version, current: this.#version });
      return { latestAppliedVersion: this.#version, error: "" };
    }
    const parsed = parseRemoteRules(config);
    if ("errors" in parsed) {
      this.#observer.configured("refused", undefined);
      return this.#refuse(version, parsed.errors);
    }
    const problems = await this.#replace(parsed.rules, version);
    if (problems.length > 0) return this.#refuse(version, problems.map(formatRouteProblem));
    this.#log.info("Updated to new configuration", { version, config: config.slice(0, MAX_LOGGED_CHARS) });
    return { latestAppliedVersion: version, error: "" };
  }

  #refuse(version: number, errors: readonly string[]): ConfigurationAnswer {
    for (const error of errors) {
      this.#log.error("The configuration that the edge pushed is refused", { version, error });
    }
    return { latestAppliedVersion: this.#version, error: errors.join("; ") };
  }

  /** What is wrong with the rules; nothing = they are in force as `version`. */
  async #replace(rules: IngressRules, version: number): Promise<readonly RouteProblem[]> {
    try {
      await this.#routes.replace(rules);
    } catch (error) {
      if (!(error instanceof RoutesError)) throw error;
      this.#observer.configured("refused", undefined);
      return error.problems;
    }
    this.#version = version;
    this.#observer.configured("applied", version);
    return [];
  }

  #inTurn<T>(change: () => Promise<T>): Promise<T> {
    if (this.#waiting >= MAX_WAITING) {
      return Promise.reject(new TunnelError("stream.limit", "Too many configurations at once"));
    }
    this.#waiting += 1;
    const turn = this.#last.then(change).finally(() => {
      this.#waiting -= 1;
    });
    this.#last = turn.catch(() => {});
    return turn;
  }
}
