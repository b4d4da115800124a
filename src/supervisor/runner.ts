import type { CancelTimer, Clock, Random } from "../core/clock.ts";
import { createPlan, type Effect, type Plan, type PlanEvent, type SlotEnd, step } from "./plan.ts";

/** One connection attempt and, if it registers, the connection: what the runner starts and stops. */
export interface SlotConnection {
  /** Tells the edge to send nothing new, lets running requests finish, closes. */
  unregister(): void;
  /** Gives up at once. */
  cancel(): void;
}

/** Starts a connection. Must call `onEnd` exactly once, after `onRegistered` if that came at all. */
export type Connect = (
  request: { slot: number; address: number; previousAttempts: number },
  events: { onRegistered: () => void; onEnd: (end: SlotEnd) => void },
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

/** Runs a plan with a real clock and real connections. It decides nothing. */
export function startSupervisor(options: {
  haConnections: number;
  addresses: number;
  retries: number;
  connect: Connect;
  clock: Clock;
  random: Random;
  /** Told of each wait after a failure. */
  onWait?: (slot: number, delayMs: number) => void;
}): Supervisor {
  let plan = createPlan({ ...options, maxDoublings: options.retries });
  const connections = new Map<number, SlotConnection>();
  const timers = new Map<number, CancelTimer>();
  const finished = Promise.withResolvers<SlotEnd | undefined>();

  const dispatch = (event: PlanEvent): void => {
    const result = step(plan, event, options.clock.nowMs());
    plan = result.plan;
    for (const effect of result.effects) perform(effect);
  };

  const perform = (effect: Effect): void => {
    switch (effect.kind) {
      case "connect":
        connect(effect.slot, effect.address, effect.previousAttempts);
        return;
      case "arm":
        if ((plan.slots[effect.slot]?.failures ?? 0) > 0) options.onWait?.(effect.slot, effect.delayMs);
        timers.get(effect.slot)?.();
        timers.set(
          effect.slot,
          options.clock.after(effect.delayMs, () => dispatch({ kind: "timer", slot: effect.slot })),
        );
        return;
      case "unregister":
        connections.get(effect.slot)?.unregister();
        return;
      case "cancel":
        connections.get(effect.slot)?.cancel();
        return;
      case "finished":
        for (const cancel of timers.values()) cancel();
        for (const connection of connections.values()) connection.cancel();
        finished.resolve(effect.fatal);
    }
  };

  const connect = (slot: number, address: number, previousAttempts: number): void => {
    const connection = options.connect(
      { slot, address, previousAttempts },
      {
        onRegistered: () => dispatch({ kind: "registered", slot }),
        onEnd: (end) => {
          if (connections.get(slot) === connection) connections.delete(slot);
          dispatch({ kind: "ended", slot, end, chance: options.random() });
        },
      },
    );
    connections.set(slot, connection);
  };

  dispatch({ kind: "start" });
  return {
    finished: finished.promise,
    stop: () => {
      for (const cancel of timers.values()) cancel();
      dispatch({ kind: "stop" });
    },
    stopNow: () => {
      for (const cancel of timers.values()) cancel();
      dispatch({ kind: "stop" });
      for (const connection of [...connections.values()]) connection.cancel();
    },
    get plan() {
      return plan;
    },
  };
}
