/**
 * When to dial which edge address, as a pure reducer: state × event × now → state + effects (protocol: sections 1.4,
 * 1.7, 1.8). The runner beside it does the effects and reports what happened; time and chance come in as values.
 *
 * A *slot* is one of the connections a connector holds, numbered by its connection index. Slot 0 goes first and
 * alone; once it has registered, slot 1 follows at once and the others a second apart.
 */

/** First wait doubles from here, in ms. */
export const BACKOFF_BASE_MS = 1_000;
/** Wait between the starts of slot 2, 3, …, in ms. */
export const SLOT_START_INTERVAL_MS = 1_000;
/**
 * Doublings at most after a failed dial. An edge that does not answer is not loaded by being asked again, and a
 * visitor waits: so a returning edge is found within 4 s, where a refusal backs off further.
 */
export const MAX_DIAL_DOUBLINGS = 2;
/** How often a refused secret is tried again before the first registration: a fresh tunnel may not be known yet. */
export const UNAUTHORIZED_TRIES = 3;

/** Why a slot's connection ended. */
export type SlotEnd =
  /** The edge could not be reached, or not trusted. */
  | { readonly kind: "dial-failed" }
  /** The edge said no. `duplicate`: this edge server has us already; `unauthorized`: unknown tunnel or wrong secret. */
  | { readonly kind: "refused"; readonly why: "duplicate" | "unauthorized" | "other"; readonly permanent: boolean }
  /** A registered connection is gone. */
  | { readonly kind: "lost" }
  /** It ended because we, or the edge in good order, asked for it. */
  | { readonly kind: "drained" };

export type SlotState =
  | { readonly kind: "idle" }
  | { readonly kind: "connecting"; readonly address: number }
  | { readonly kind: "serving"; readonly address: number }
  | { readonly kind: "waiting"; readonly address: number; readonly untilMs: number }
  | { readonly kind: "ended" };

export interface Slot {
  readonly state: SlotState;
  /** Failures since the last registration: `numPreviousAttempts` of the next one. */
  readonly failures: number;
}

export interface Plan {
  readonly phase: "running" | "stopping" | "stopped";
  readonly addresses: number;
  readonly slots: readonly Slot[];
  readonly everRegistered: boolean;
  /** Cap on doublings (`--retries`). */
  readonly maxDoublings: number;
}

export type PlanEvent =
  | { readonly kind: "start" }
  | { readonly kind: "registered"; readonly slot: number }
  | { readonly kind: "ended"; readonly slot: number; readonly end: SlotEnd; readonly chance: number }
  | { readonly kind: "timer"; readonly slot: number }
  | { readonly kind: "stop" };

export type Effect =
  | { readonly kind: "connect"; readonly slot: number; readonly address: number; readonly previousAttempts: number }
  | { readonly kind: "arm"; readonly slot: number; readonly delayMs: number }
  | { readonly kind: "unregister"; readonly slot: number }
  | { readonly kind: "cancel"; readonly slot: number }
  /** The plan is over. `fatal` carries why when it is not a stop that somebody asked for. */
  | { readonly kind: "finished"; readonly fatal: SlotEnd | undefined };

export interface Step {
  readonly plan: Plan;
  readonly effects: readonly Effect[];
}

/** A plan for as many slots as wanted and possible: a static edge address carries one connection. */
export function createPlan(options: { haConnections: number; addresses: number; maxDoublings: number }): Plan {
  const slots = Math.min(options.haConnections, options.addresses);
  return {
    phase: "running",
    addresses: options.addresses,
    slots: Array.from({ length: slots }, () => ({ state: { kind: "idle" }, failures: 0 })),
    everRegistered: false,
    maxDoublings: options.maxDoublings,
  };
}

export function step(plan: Plan, event: PlanEvent, nowMs: number): Step {
  switch (event.kind) {
    case "start":
      return connect(plan, 0, 0);
    case "registered":
      return onRegistered(plan, event.slot, nowMs);
    case "ended":
      return onEnded(plan, event.slot, event.end, event.chance, nowMs);
    case "timer":
      return onTimer(plan, event.slot);
    case "stop":
      return onStop(plan);
  }
}

function onRegistered(plan: Plan, index: number, nowMs: number): Step {
  const slot = plan.slots[index];
  if (slot?.state.kind !== "connecting" || plan.phase !== "running") return { plan, effects: [] };
  let next = withSlot(plan, index, { state: { kind: "serving", address: slot.state.address }, failures: 0 });
  if (plan.everRegistered) return { plan: next, effects: [] };
  next = { ...next, everRegistered: true };
  const effects: Effect[] = [];
  for (let other = 1; other < plan.slots.length; other++) {
    const delayMs = (other - 1) * SLOT_START_INTERVAL_MS;
    const waiting: SlotState = { kind: "waiting", address: freeAddress(next, other), untilMs: nowMs + delayMs };
    next = withSlot(next, other, { state: waiting, failures: 0 });
    effects.push({ kind: "arm", slot: other, delayMs });
  }
  return { plan: next, effects };
}

function onEnded(plan: Plan, index: number, end: SlotEnd, chance: number, nowMs: number): Step {
  const slot = plan.slots[index];
  if (slot === undefined || (slot.state.kind !== "connecting" && slot.state.kind !== "serving")) {
    return { plan, effects: [] };
  }
  if (plan.phase !== "running") return finishWhenAllEnded(withSlot(plan, index, { ...slot, state: { kind: "ended" } }));

  const failures = slot.failures + 1;
  if (!plan.everRegistered && end.kind === "refused" && end.permanent && isHopeless(end, failures)) {
    return { plan: { ...plan, phase: "stopped" }, effects: [{ kind: "finished", fatal: end }] };
  }
  const doublings = Math.min(failures, plan.maxDoublings, end.kind === "dial-failed" ? MAX_DIAL_DOUBLINGS : failures);
  const delayMs = Math.floor(chance * BACKOFF_BASE_MS * 2 ** doublings);
  const address = nextAddress(plan, index, slot.state.address, end);
  const state: SlotState = { kind: "waiting", address, untilMs: nowMs + delayMs };
  return {
    plan: withSlot(plan, index, { state, failures: end.kind === "drained" ? slot.failures : failures }),
    effects: [{ kind: "arm", slot: index, delayMs }],
  };
}

function onTimer(plan: Plan, index: number): Step {
  const slot = plan.slots[index];
  if (slot?.state.kind !== "waiting" || plan.phase !== "running") return { plan, effects: [] };
  return connect(plan, index, slot.state.address);
}

function onStop(plan: Plan): Step {
  if (plan.phase !== "running") return { plan, effects: [] };
  let next: Plan = { ...plan, phase: "stopping" };
  const effects: Effect[] = [];
  plan.slots.forEach((slot, index) => {
    if (slot.state.kind === "serving") effects.push({ kind: "unregister", slot: index });
    else if (slot.state.kind === "connecting") effects.push({ kind: "cancel", slot: index });
    else next = withSlot(next, index, { ...slot, state: { kind: "ended" } });
  });
  const finished = finishWhenAllEnded(next);
  return { plan: finished.plan, effects: [...effects, ...finished.effects] };
}

function connect(plan: Plan, index: number, address: number): Step {
  const slot = plan.slots[index];
  if (slot === undefined || plan.phase !== "running") return { plan, effects: [] };
  return {
    plan: withSlot(plan, index, { ...slot, state: { kind: "connecting", address } }),
    effects: [{ kind: "connect", slot: index, address, previousAttempts: slot.failures }],
  };
}

/** A secret may be refused for a moment only, right after the tunnel was made; everything else permanent is final. */
function isHopeless(end: SlotEnd & { kind: "refused" }, failures: number): boolean {
  return end.why === "duplicate" ? false : end.why === "unauthorized" ? failures >= UNAUTHORIZED_TRIES : true;
}

/** Another address after a failure that another address may not have; the same one after everything else. */
function nextAddress(plan: Plan, index: number, current: number, end: SlotEnd): number {
  const elsewhere = end.kind === "dial-failed" || (end.kind === "refused" && end.why === "duplicate");
  return elsewhere ? freeAddress(plan, index, current) : current;
}

/** An address that no other slot uses, preferring ones behind `current`; `current` when all are taken. */
function freeAddress(plan: Plan, index: number, current = -1): number {
  const used = new Set<number>();
  plan.slots.forEach((slot, other) => {
    if (other !== index && "address" in slot.state) used.add(slot.state.address);
  });
  for (let i = 1; i <= plan.addresses; i++) {
    const candidate = (current + i + plan.addresses) % plan.addresses;
    if (!used.has(candidate)) return candidate;
  }
  return Math.max(current, 0);
}

function finishWhenAllEnded(plan: Plan): Step {
  if (plan.slots.some((slot) => slot.state.kind !== "ended")) return { plan, effects: [] };
  return { plan: { ...plan, phase: "stopped" }, effects: [{ kind: "finished", fatal: undefined }] };
}

function withSlot(plan: Plan, index: number, slot: Slot): Plan {
  return { ...plan, slots: plan.slots.map((old, i) => (i === index ? slot : old)) };
}
