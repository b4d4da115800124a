import type { AddressBook, EdgeAddress } from "./addresses.ts";
import type { TransportScore } from "./transports.ts";

/* What the plan knows, what it hears and what it wants done; the terms are explained in plan.ts. */

/** Why an attempt ended. */
export type SlotEnd =
  /** The edge could not be reached, or not trusted. */
  | { readonly kind: "dial-failed" }
  /** The edge said no. `duplicate`: this edge server has us already; `unauthorized`: unknown tunnel or wrong secret. */
  | { readonly kind: "refused"; readonly why: "duplicate" | "unauthorized" | "other"; readonly permanent: boolean }
  /** A registered connection is gone. `silent`: nothing came any more, as when a network drops packets. */
  | { readonly kind: "lost"; readonly silent: boolean }
  /** It ended because we, or the edge in good order, asked for it. */
  | { readonly kind: "drained" };

export interface Attempt {
  readonly id: number;
  /**
   * Connection index of the registration: the slot's number, or that plus the number of slots. A connection that returns
   * has the index it had, so that an edge puts it in the place of its dead one; a successor has the other.
   */
  readonly connIndex: number;
  readonly address: EdgeAddress;
  /** Index of the transport. */
  readonly transport: number;
}

export type SlotState =
  | { readonly kind: "idle" }
  | { readonly kind: "connecting"; readonly attempt: Attempt; readonly untilMs: number }
  | {
      readonly kind: "serving";
      readonly attempt: Attempt;
      readonly sinceMs: number;
      /** The edge said that it will go. */
      readonly leaving: boolean;
      readonly successor: { readonly attempt: Attempt; readonly untilMs: number } | undefined;
    }
  | {
      readonly kind: "waiting";
      readonly untilMs: number;
      readonly keep: EdgeAddress | undefined;
      readonly leave: EdgeAddress | undefined;
      /** Set when the next attempt is a move that needs the old connection gone. */
      readonly transport: number | undefined;
    }
  | { readonly kind: "ended" };

export interface Slot {
  readonly state: SlotState;
  /** Failures since the last registration: `numPreviousAttempts` of the next one. */
  readonly failures: number;
  /** Those by transport. */
  readonly misses: readonly number[];
  /** Connection index of its attempts; the other one is for a successor. */
  readonly connIndex: number;
  /** Since when it has no connection, in ms. */
  readonly downSinceMs: number;
}

export interface PlanOptions {
  readonly haConnections: number;
  /** Connections at most, whatever number of addresses discovery finds; undefined = one an address. */
  readonly maxConnections: number | undefined;
  /** How many transports there are, the preferred one first. */
  readonly transports: number;
  /** Cap on doublings (`--retries`). */
  readonly maxDoublings: number;
  /** Failures of one slot on a transport that count as one (`--max-edge-addr-retries`). */
  readonly triesEach: number;
}

export interface Plan {
  readonly phase: "running" | "stopping" | "stopped";
  readonly options: PlanOptions;
  readonly book: AddressBook;
  readonly scores: readonly TransportScore[];
  readonly slots: readonly Slot[];
  /** Attempts that gave way to others and end by themselves. */
  readonly retiring: readonly number[];
  readonly nextAttempt: number;
  readonly everRegistered: boolean;
  readonly discovery:
    | { readonly kind: "idle"; readonly sinceMs: number }
    | { readonly kind: "running" }
    | { readonly kind: "waiting" };
  readonly discoveryFailures: number;
  /** Since when nothing serves; undefined = something does. */
  readonly outageSinceMs: number | undefined;
  /** No move before this time. */
  readonly moveFromMs: number;
  /** When the upkeep timer fires. */
  readonly upkeepAtMs: number | undefined;
}

export type Timer =
  | { readonly kind: "slot"; readonly slot: number }
  | { readonly kind: "discovery" }
  | { readonly kind: "upkeep" };

export type PlanEvent =
  | { readonly kind: "start" }
  | { readonly kind: "discovered"; readonly addresses: readonly EdgeAddress[] }
  | { readonly kind: "discovery-failed" }
  | { readonly kind: "registered"; readonly attempt: number }
  | { readonly kind: "ended"; readonly attempt: number; readonly end: SlotEnd; readonly chance: number }
  /** The edge of this attempt asks its connectors to go elsewhere; it still serves. */
  | { readonly kind: "leaving"; readonly attempt: number }
  | { readonly kind: "timer"; readonly timer: Timer }
  /** The machine slept, or its clock jumped. */
  | { readonly kind: "resumed" }
  | { readonly kind: "stop" };

export type Effect =
  | { readonly kind: "discover" }
  | { readonly kind: "connect"; readonly slot: number; readonly attempt: Attempt; readonly previousAttempts: number }
  /** `undefined` stops the timer. Arming a timer again replaces it. */
  | { readonly kind: "arm"; readonly timer: Timer; readonly delayMs: number | undefined }
  | { readonly kind: "unregister"; readonly attempt: number }
  | { readonly kind: "cancel"; readonly attempt: number }
  /** Find out soon whether this connection still lives. */
  | { readonly kind: "probe"; readonly attempt: number }
  /** The plan is over. `fatal` carries why when it is not a stop that somebody asked for. */
  | { readonly kind: "finished"; readonly fatal: SlotEnd | undefined };

export interface Step {
  readonly plan: Plan;
  readonly effects: readonly Effect[];
}
