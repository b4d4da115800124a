import type { AutoUpdateConfig } from "../config/run-config.ts";
import type { Connector } from "../connector/connector.ts";
import { type Clock, delay, systemRandom } from "../core/clock.ts";
import { describe, systemCode, TunnelError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import { BUILD_TARGET, VERSION } from "../core/version.ts";
import { reapChild } from "../net/reap-child.ts";
import { updateNowAndThen, whyNotReplaceable } from "../update/auto.ts";
import { endTrial, installedBinary } from "../update/installed.ts";
import { builtInKeys } from "../update/keys.ts";
import { parseWindow } from "../update/schedule.ts";
import {
  type Bridge,
  heirEnvironment,
  type Part,
  readPart,
  sayReady,
  startBridge,
  watchParent,
} from "../update/successor.ts";
import { readAuthorities } from "./authorities.ts";
import type { Context } from "./command.ts";
import { readKeys } from "./update-keys.ts";

const REAP_EVERY_MS = 1_000;
/** The longest grace period there is, and some. */
const REAP_LIMIT_MS = 200_000;

interface SuccessionDeps {
  readonly clock: Clock;
  readonly log: Logger;
}

type ServingConnector = Pick<Connector, "ready" | "stop">;

/**
 * How a running tunnel makes way for another version of the program: at SIGUSR2, or after an update it made itself. And
 * the other half, what the new version does that takes over.
 */
export class TunnelSuccession {
  readonly part: Part;
  readonly #context: Context;
  readonly #deps: SuccessionDeps;
  readonly #ended = new AbortController();
  readonly #connector = Promise.withResolvers<ServingConnector>();
  readonly #forgetSignal: () => void;
  #handingOver: Promise<void> | undefined;
  #bridge: Bridge | undefined;
  #connections = 0;
  /** There was a time without a connection since the last hand-over began. */
  #cutOff = false;

  constructor(context: Context, deps: SuccessionDeps) {
    this.#context = context;
    this.#deps = deps;
    this.part = readPart(context.host.env);
    this.#forgetSignal = context.succession?.onAsked(() => this.#asked()) ?? ((): void => {});
  }

  /** From here on it can hand over, and does what its part asks. */
  serve(connector: ServingConnector): void {
    this.#connector.resolve(connector);
    const { clock, log } = this.#deps;
    const { part } = this;
    if (part.kind === "bridge") {
      void connector.ready.then(sayReady);
      const stopWatching = watchParent(clock, () => connector.stop());
      this.#ended.signal.addEventListener("abort", stopWatching);
    }
    if (part.kind !== "heir") return;
    const relieve = (): void => void relieveBridge(part.bridge, this.#deps);
    this.#context.stop.addEventListener("abort", relieve, { once: true });
    void connector.ready.then(() => {
      log.info(`Version ${VERSION} has taken over`);
      this.#context.stop.removeEventListener("abort", relieve);
      relieve();
    });
  }

  /** How many this program has now. */
  connections(count: number): void {
    this.#connections = count;
    if (count === 0) this.#cutOff = true;
  }

  /** Updates from time to time, where that is asked for and can be done. */
  async updateNowAndThen(config: AutoUpdateConfig): Promise<void> {
    const { succession, stop } = this.#context;
    const { clock, log } = this.#deps;
    const issues: string[] = [];
    const keys = [...builtInKeys(), ...readKeys(this.#context, config.keys, issues, "autoupdate-key")];
    const ca = readAuthorities(this.#context, config.caPath, issues);
    const window = config.window === undefined ? undefined : parseWindow(config.window);
    const file = succession?.file ?? "";
    const why =
      issues[0] ??
      (window?.ok === false ? `autoupdate-window is ${window.issues[0]?.message}` : undefined) ??
      (BUILD_TARGET === undefined ? "it runs from source" : undefined) ??
      (succession === undefined ? "this system has no way to do it" : undefined) ??
      (await whyNotReplaceable(file));
    if (why !== undefined || BUILD_TARGET === undefined) {
      log.warn("This program does not update itself", { reason: why });
      return;
    }
    const running = { path: file, version: VERSION, target: BUILD_TARGET };
    // Of one that a kill has cut short, between the installation and the hand-over.
    void this.#connector.promise
      .then(({ ready }) => ready)
      .then(() => endTrial(installedBinary(file), VERSION))
      .catch(() => undefined);
    const { from, everyMs } = config;
    await updateNowAndThen({
      ...{ from, keys, ca, clock, log, random: systemRandom },
      running,
      schedule: { everyMs, window: window?.ok === true ? window.value : undefined },
      signal: AbortSignal.any([stop, this.#ended.signal]),
      handOver: () => this.handOver(),
      couldServe: () => !this.#cutOff,
    });
  }

  /** Starts the program file anew and drains once that serves; rejects, and nothing has changed, when it does not. */
  handOver(): Promise<void> {
    this.#handingOver ??= this.#handOver().finally(() => {
      this.#handingOver = undefined;
    });
    return this.#handingOver;
  }

  /** Ends the process as this program when another takes over; call it when all is drained. */
  conclude(): void {
    this.#forgetSignal();
    this.#ended.abort();
    const { succession, host, stop } = this.#context;
    const bridge = this.#bridge;
    if (bridge === undefined) return;
    if (stop.aborted || succession === undefined) bridge.stop();
    else succession.become(heirEnvironment(host.env, bridge));
  }

  #asked(): void {
    // Who holds the place for another has nobody to hand it to.
    if (this.part.kind === "bridge") return;
    void this.handOver().catch((error: unknown) => {
      this.#deps.log.error("This version goes on", { error: describe(error) });
    });
  }

  async #handOver(): Promise<void> {
    const { succession, host, stop } = this.#context;
    const connector = await this.#connector.promise;
    if (succession === undefined) throw new TunnelError("update.failed", "This system has no way to hand over");
    if (this.#bridge !== undefined) return;
    const { file, args } = succession;
    const signal = AbortSignal.any([stop, this.#ended.signal]);
    this.#cutOff = this.#connections === 0;
    this.#deps.log.info(`Starting "${file}" anew, to take over from version ${VERSION}`);
    const bridge = await startBridge({ file, args, env: host.env }, { ...this.#deps, signal });
    this.#bridge = bridge;
    this.#deps.log.info(`Process ${bridge.pid} is registered: draining this one`);
    connector.stop();
  }
}

/** The place that a bridge held is taken: it drains and ends, and is not left a zombie. */
async function relieveBridge(pid: number, { clock, log }: SuccessionDeps): Promise<void> {
  try {
    process.kill(pid, "SIGTERM");
  } catch (error) {
    if (systemCode(error) !== "ESRCH") log.warn(`Cannot end process ${pid}`, { error: describe(error) });
  }
  for (let waited = 0; waited < REAP_LIMIT_MS && !(await reapChild(pid)); waited += REAP_EVERY_MS) {
    await delay(clock, REAP_EVERY_MS);
  }
}
