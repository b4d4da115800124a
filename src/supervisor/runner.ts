import type { CancelTimer, Clock, Random } from "../core/clock.ts";
import type { EdgeAddress } from "./addresses.ts";
import type { Attempt, Effect, Plan, PlanEvent, PlanOptions, SlotEnd, Timer } from "./model.ts";
import { createPlan, step } from "./plan.ts";

/** One attempt: what the runner starts and stops. */
export interface SlotConnection {
  /** Tells the edge to send nothing new, lets running requests finish, closes. */
  unregister(): void;
  /** Gives up at once. */
  cancel(): void;
  /** Asks for a sign of life and ends as lost when none comes soon. */
  probe(): void;
}

/** Starts an attempt. Must call `onEnd` exactly once, after `onRegistered` if that came at all. */
export type Connect = (
  request: { readonly slot: number; readonly attempt: Attempt; readonly previousAttempts: number },
  events: { onRegistered: () => void; onLeaving: () => void; onEnd: (end: SlotEnd) => void },
) => SlotConnection;

export interface Supervisor {
  /** Resolves when everything has ended: undefined after a stop that was asked for, else what made going on useless. */
  readonly finished: Promise<SlotEnd | undefined>;
  /** Graceful end; running requests finish. */
  stop(): void;
  /** Ends every connection now. */
  stopNow(): void;
  readonly plan: Plan;
}

export interface SupervisorOptions extends PlanOptions {
  readonly connect: Connect;
  /** Finds the edge's addresses; bounded in time. Rejects when it cannot. */
  readonly discover: (signal: AbortSignal) => Promise<readonly EdgeAddress[]>;
  readonly clock: Clock;
  readonly random: Random;
  /** Told of each wait after a failure. */
  readonly onWait?: (slot: number, delayMs: number) => void;
  readonly onDiscoveryFailed?: (error: unknown) => void;
}

/** How often the clocks are compared, in ms. */
const HEARTBEAT_MS = 5_000;
/** A heartbeat this much too late, or a wall clock this far ahead of the monotonic one, is a machine that slept, in ms. */
const SLEPT_MS = 10_000;

/** Runs a plan with real time and real connections. It decides nothing. */
export function startSupervisor(options: SupervisorOptions): Supervisor {
  const runner = new Runner(options);
  runner.dispatch({ kind: "start" });
  return {
    finished: runner.finished.promise,
    stop: () => runner.stop(),
    stopNow: () => runner.stopNow(),
    get plan() {
      return runner.plan;
    },
  };
}

class Runner {
  readonly finished = Promise.withResolvers<SlotEnd | undefined>();
  plan: Plan;
  readonly #options: SupervisorOptions;
  readonly #connections = new Map<number, SlotConnection>();
  readonly #timers = new Map<string, CancelTimer>();
  readonly #over = new AbortController();

  constructor(options: SupervisorOptions) {
    this.#options = options;
    this.plan = createPlan(options);
    this.#heartbeat();
  }

  dispatch(event: PlanEvent): void {
    const result = step(this.plan, event, this.#options.clock.nowMs());
    this.plan = result.plan;
    for (const effect of result.effects) this.#perform(effect);
  }

  stop(): void {
    this.#silenceTimers();
    this.#over.abort();
    this.dispatch({ kind: "stop" });
  }

  stopNow(): void {
    this.stop();
    for (const connection of [...this.#connections.values()]) connection.cancel();
  }

  #perform(effect: Effect): void {
    switch (effect.kind) {
      case "discover":
        void this.#discover();
        return;
      case "connect":
        this.#connect(effect);
        return;
      case "arm":
        this.#arm(effect.timer, effect.delayMs);
        return;
      case "unregister":
        this.#connections.get(effect.attempt)?.unregister();
        return;
      case "cancel":
        this.#connections.get(effect.attempt)?.cancel();
        return;
      case "probe":
        this.#connections.get(effect.attempt)?.probe();
        return;
      case "finished":
        this.#silenceTimers();
        this.#over.abort();
        for (const connection of [...this.#connections.values()]) connection.cancel();
        this.finished.resolve(effect.fatal);
        return;
    }
  }

  #connect(request: { readonly slot: number; readonly attempt: Attempt; readonly previousAttempts: number }): void {
    const { id } = request.attempt;
    const connection = this.#options.connect(request, {
      onRegistered: () => this.dispatch({ kind: "registered", attempt: id }),
      onLeaving: () => this.dispatch({ kind: "leaving", attempt: id }),
      onEnd: (end) => {
        this.#connections.delete(id);
        this.dispatch({ kind: "ended", attempt: id, end, chance: this.#options.random() });
      },
    });
    this.#connections.set(id, connection);
  }

  async #discover(): Promise<void> {
    try {
      const addresses = await this.#options.discover(this.#over.signal);
      this.dispatch({ kind: "discovered", addresses });
    } catch (error) {
      if (!this.#over.signal.aborted) this.#options.onDiscoveryFailed?.(error);
      this.dispatch({ kind: "discovery-failed" });
    }
  }

  #arm(timer: Timer, delayMs: number | undefined): void {
    const key = timer.kind === "slot" ? `slot ${timer.slot}` : timer.kind;
    this.#timers.get(key)?.();
    this.#timers.delete(key);
    if (delayMs === undefined) return;
    if (timer.kind === "slot") this.#tellWait(timer.slot, delayMs);
    const fire = (): void => {
      this.#timers.delete(key);
      this.dispatch({ kind: "timer", timer });
    };
    this.#timers.set(key, this.#options.clock.after(delayMs, fire));
  }

  #tellWait(slot: number, delayMs: number): void {
    const { state, failures } = this.plan.slots[slot] ?? {};
    if (state?.kind === "waiting" && (failures ?? 0) > 0) this.#options.onWait?.(slot, delayMs);
  }

  #silenceTimers(): void {
    for (const cancel of this.#timers.values()) cancel();
    this.#timers.clear();
  }

  /** The monotonic clock may stand still while a machine sleeps, and timers may not: so both clocks are looked at. */
  #heartbeat(): void {
    const { clock } = this.#options;
    const atMs = clock.nowMs();
    const wallMs = clock.wallMs();
    this.#timers.get("heartbeat")?.();
    const beat = (): void => {
      const late = clock.nowMs() - atMs - HEARTBEAT_MS;
      const jumped = clock.wallMs() - wallMs - (clock.nowMs() - atMs);
      this.#heartbeat();
      if (late > SLEPT_MS || jumped > SLEPT_MS) this.dispatch({ kind: "resumed" });
    };
    this.#timers.set("heartbeat", clock.after(HEARTBEAT_MS, beat, { background: true }));
  }
}
