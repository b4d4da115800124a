import {
  chooseAddress,
  createAddressBook,
  type EdgeAddress,
  noteFailure,
  noteSuccess,
  regionBadUntil,
} from "./addresses.ts";
import type { Attempt, Effect, Plan, PlanEvent, PlanOptions, Slot, SlotEnd, SlotState, Step, Timer } from "./model.ts";
import {
  ATTEMPT_LIMIT_MS,
  BACKOFF_BASE_MS,
  DISCOVERY_BASE_MS,
  EAGER_MS,
  MAX_DISCOVERY_DOUBLINGS,
  MOVE_INTERVAL_MS,
  MOVE_REGION_AFTER_MS,
  MOVE_TRANSPORT_AFTER_MS,
  OUTAGE_MS,
  QUICK_RETRY_MS,
  REDISCOVER_AFTER,
  REDISCOVER_MS,
  SETTLED_MS,
  SLOT_START_INTERVAL_MS,
  SPREAD_MS,
  UNAUTHORIZED_TRIES,
} from "./timing.ts";
import { chooseTransport, createScores, noteBlocked, noteFailedReturn, noteRegistered } from "./transports.ts";

/**
 * When to dial which edge address over which transport, as a pure reducer: state × event × now → state + effects
 * (protocol: sections 1.4, 1.7, 1.8; design: decision 6). The runner beside it does the effects and reports what
 * happened; time and chance come in as values.
 *
 * A *slot* is one of the connections a connector holds. Slot 0 goes first and alone; once it has registered, slot 1
 * follows at once and the others a second apart. An *attempt* is one connection from dial to end. A slot that should be
 * elsewhere (a better transport, a region without connections, an edge that leaves) gets a second attempt, the
 * *successor*, and gives the first one up once the second has registered: streams are never cut for it.
 *
 * Every state of a running plan has a time by which it ends: a deadline, a wait, or, for a serving connection, the
 * silence that its owner notices.
 */

export function createPlan(options: PlanOptions): Plan {
  return {
    phase: "running",
    options,
    book: createAddressBook([]),
    scores: createScores(options.transports),
    slots: [],
    retiring: [],
    nextAttempt: 1,
    everRegistered: false,
    discovery: { kind: "idle", sinceMs: Number.NEGATIVE_INFINITY },
    discoveryFailures: 0,
    outageSinceMs: undefined,
    moveFromMs: Number.NEGATIVE_INFINITY,
    upkeepAtMs: undefined,
  };
}

export function step(plan: Plan, event: PlanEvent, nowMs: number): Step {
  const draft = new Draft(plan, nowMs);
  switch (event.kind) {
    case "start":
      draft.start();
      break;
    case "discovered":
      draft.discovered(event.addresses);
      break;
    case "discovery-failed":
      draft.discoveryFailed();
      break;
    case "registered":
      draft.registered(event.attempt);
      break;
    case "ended":
      draft.ended(event.attempt, event.end, event.chance);
      break;
    case "leaving":
      draft.leaving(event.attempt);
      break;
    case "timer":
      draft.timer(event.timer);
      break;
    case "resumed":
      draft.resumed();
      break;
    case "stop":
      draft.stop();
      break;
  }
  return draft.done();
}

/** One step in the making. Local to a call of {@link step}, which stays pure. */
class Draft {
  #plan: Plan;
  readonly #now: number;
  readonly #effects: Effect[] = [];

  constructor(plan: Plan, nowMs: number) {
    this.#plan = plan;
    this.#now = nowMs;
  }

  done(): Step {
    if (this.#plan.phase === "running") {
      const serves = this.#plan.slots.some(({ state }) => state.kind === "serving");
      if (serves) this.#set({ outageSinceMs: undefined });
      else if (this.#plan.outageSinceMs === undefined) this.#set({ outageSinceMs: this.#now });
    }
    const due = this.#plan.phase === "running" ? this.#nextUpkeep() : undefined;
    if (due !== this.#plan.upkeepAtMs) {
      this.#set({ upkeepAtMs: due });
      const delayMs = due === undefined ? undefined : Math.max(0, due - this.#now);
      this.#effects.push({ kind: "arm", timer: { kind: "upkeep" }, delayMs });
    }
    return { plan: this.#plan, effects: this.#effects };
  }

  // ---- discovery ----

  start(): void {
    if (this.#running && this.#plan.slots.length === 0) this.#discover();
  }

  discovered(addresses: readonly EdgeAddress[]): void {
    if (!this.#running) return;
    if (addresses.length === 0) {
      this.discoveryFailed();
      return;
    }
    const { haConnections, maxConnections, transports } = this.#plan.options;
    const wanted = Math.min(haConnections, maxConnections ?? addresses.length, addresses.length);
    const { slots } = this.#plan;
    const added = Array.from({ length: Math.max(0, wanted - slots.length) }, (_, i): Slot => {
      const connIndex = slots.length + i;
      const misses = Array.from({ length: transports }, () => 0);
      return { state: { kind: "idle" }, failures: 0, misses, connIndex, downSinceMs: this.#now };
    });
    this.#set({
      book: { ...this.#plan.book, addresses },
      discovery: { kind: "idle", sinceMs: this.#now },
      discoveryFailures: 0,
      slots: [...slots, ...added],
    });
    if (this.#plan.everRegistered) this.#startOthers();
    else if (this.#plan.slots[0]?.state.kind === "idle") this.#connect(0);
  }

  discoveryFailed(): void {
    if (!this.#running) return;
    const failures = this.#plan.discoveryFailures + 1;
    this.#set({ discovery: { kind: "waiting" }, discoveryFailures: failures });
    const delayMs = DISCOVERY_BASE_MS * 2 ** Math.min(failures - 1, MAX_DISCOVERY_DOUBLINGS);
    this.#effects.push({ kind: "arm", timer: { kind: "discovery" }, delayMs });
  }

  #discover(): void {
    if (this.#plan.discovery.kind !== "idle") return;
    this.#set({ discovery: { kind: "running" } });
    this.#effects.push({ kind: "discover" });
  }

  // ---- attempts ----

  registered(id: number): void {
    const index = this.#slotOf(id);
    const slot = this.#plan.slots[index];
    if (slot === undefined || !this.#running) return;
    const { state } = slot;
    let attempt: Attempt;
    if (state.kind === "connecting") {
      attempt = state.attempt;
    } else if (state.kind === "serving" && state.successor?.attempt.id === id) {
      attempt = state.successor.attempt;
      this.#retire(state.attempt.id);
      this.#set({ moveFromMs: this.#now + MOVE_INTERVAL_MS });
    } else {
      return;
    }
    this.#setSlot(index, {
      state: { kind: "serving", attempt, sinceMs: this.#now, leaving: false, successor: undefined },
      failures: 0,
      misses: slot.misses.map(() => 0),
      connIndex: attempt.connIndex,
    });
    this.#effects.push({ kind: "arm", timer: { kind: "slot", slot: index }, delayMs: undefined });
    this.#set({
      book: noteSuccess(this.#plan.book, attempt.address),
      scores: noteRegistered(this.#plan.scores, attempt.transport),
    });
    if (this.#plan.everRegistered) return;
    this.#set({ everRegistered: true });
    this.#startOthers();
  }

  ended(id: number, end: SlotEnd, chance: number): void {
    if (this.#plan.retiring.includes(id)) {
      this.#set({ retiring: this.#plan.retiring.filter((other) => other !== id) });
      this.#finishWhenAllEnded();
      return;
    }
    const index = this.#slotOf(id);
    const slot = this.#plan.slots[index];
    if (slot === undefined) return;
    const { state } = slot;
    if (state.kind === "serving" && state.successor?.attempt.id === id) {
      this.#successorEnded(index, state.successor.attempt, end);
      return;
    }
    if (state.kind !== "connecting" && state.kind !== "serving") return;
    if (!this.#running) {
      this.#setSlot(index, { state: { kind: "ended" } });
      this.#finishWhenAllEnded();
      return;
    }
    this.#mainEnded(index, state, end, chance);
  }

  leaving(id: number): void {
    const index = this.#slotOf(id);
    const state = this.#plan.slots[index]?.state;
    if (state?.kind !== "serving" || state.attempt.id !== id || !this.#running) return;
    this.#setSlot(index, { state: { ...state, leaving: true } });
    this.#moveAway(index);
  }

  // ---- time ----

  timer(timer: Timer): void {
    if (!this.#running) return;
    switch (timer.kind) {
      case "discovery":
        if (this.#plan.discovery.kind !== "waiting") return;
        this.#set({ discovery: { kind: "idle", sinceMs: this.#now } });
        this.#discover();
        return;
      case "upkeep":
        this.#set({ upkeepAtMs: undefined });
        this.#upkeep();
        return;
      case "slot":
        this.#slotTimer(timer.slot);
        return;
    }
  }

  /** Waits are over, since they belong to another time; what serves must prove that it still does. */
  resumed(): void {
    if (!this.#running) return;
    this.#plan.slots.forEach(({ state }, index) => {
      if (state.kind === "waiting") {
        this.#setSlot(index, { failures: 0, downSinceMs: this.#now });
        this.#connect(index);
      } else if (state.kind === "serving") {
        this.#effects.push({ kind: "probe", attempt: state.attempt.id });
      }
    });
    if (this.#plan.discovery.kind === "waiting") this.timer({ kind: "discovery" });
  }

  stop(): void {
    if (!this.#running) return;
    this.#set({ phase: "stopping" });
    this.#plan.slots.forEach((slot, index) => {
      const { state } = slot;
      if (state.kind === "serving") {
        if (state.successor !== undefined) {
          this.#retire(state.successor.attempt.id, "cancel");
          this.#setSlot(index, { state: { ...state, successor: undefined } });
        }
        this.#effects.push({ kind: "unregister", attempt: state.attempt.id });
      } else if (state.kind === "connecting") {
        this.#effects.push({ kind: "cancel", attempt: state.attempt.id });
      } else {
        this.#setSlot(index, { state: { kind: "ended" } });
      }
    });
    this.#finishWhenAllEnded();
  }

  // ---- what follows from them ----

  get #running(): boolean {
    return this.#plan.phase === "running";
  }

  #mainEnded(
    index: number,
    state: Extract<SlotState, { kind: "connecting" | "serving" }>,
    end: SlotEnd,
    chance: number,
  ): void {
    const slot = this.#plan.slots[index] as Slot;
    const { attempt } = state;
    const failures = end.kind === "drained" ? slot.failures : slot.failures + 1;
    if (!this.#plan.everRegistered && end.kind === "refused" && end.permanent && isHopeless(end, failures)) {
      this.#set({ phase: "stopped" });
      this.#effects.push({ kind: "finished", fatal: end });
      return;
    }
    const blocked = end.kind === "dial-failed" || (end.kind === "lost" && end.silent);
    const misses =
      end.kind === "drained" || (end.kind === "lost" && !end.silent)
        ? slot.misses
        : slot.misses.map((count, i) => (i === attempt.transport ? count + 1 : count));
    const downSinceMs = state.kind === "serving" ? this.#now : slot.downSinceMs;
    this.#setSlot(index, { failures, misses, downSinceMs });
    if (blocked) this.#noteBlocked(index, attempt);
    if (state.kind === "serving" && state.successor !== undefined) {
      const { connIndex } = state.successor.attempt;
      this.#setSlot(index, { state: { kind: "connecting", ...state.successor }, connIndex });
      return;
    }
    if (failures > 0 && failures % REDISCOVER_AFTER === 0) this.#rediscover();
    const elsewhere = blocked || (end.kind === "refused" && end.why === "duplicate");
    this.#wait(index, {
      delayMs: this.#mayFallBackNow(index, attempt, blocked) ? 0 : this.#backoff(index, end, state, chance),
      keep: elsewhere ? undefined : attempt.address,
      leave: elsewhere ? attempt.address : undefined,
      transport: undefined,
    });
  }

  /** Another transport that has not failed yet needs no wait. */
  #mayFallBackNow(index: number, attempt: Attempt, blocked: boolean): boolean {
    if (!blocked) return false;
    const next = this.#transportFor(index);
    const slot = this.#plan.slots[index] as Slot;
    return next !== attempt.transport && this.#plan.scores[next]?.failures === 0 && slot.misses[next] === 0;
  }

  /** In ms. */
  #backoff(index: number, end: SlotEnd, state: SlotState, chance: number): number {
    const settled = state.kind === "serving" && this.#now - state.sinceMs >= SETTLED_MS;
    const dialledMs = state.kind === "connecting" ? this.#now - (state.untilMs - ATTEMPT_LIMIT_MS) : 0;
    const { failures, downSinceMs } = this.#plan.slots[index] as Slot;
    if (settled) return Math.floor(chance * QUICK_RETRY_MS);
    const eager = end.kind === "dial-failed" || end.kind === "lost";
    const cap = eager ? (this.#now - downSinceMs < EAGER_MS ? 1 : 2) : this.#plan.options.maxDoublings;
    const doublings = Math.min(failures, cap, this.#plan.options.maxDoublings);
    const waitMs = Math.floor(chance * BACKOFF_BASE_MS * 2 ** doublings);
    // A dial that timed out has waited already.
    return eager ? Math.max(waitMs - dialledMs, Math.min(waitMs, Math.floor(chance * SPREAD_MS))) : waitMs;
  }

  /** A network that drops one transport is told from an edge that is gone by whether others serve over it. */
  #noteBlocked(index: number, attempt: Attempt): void {
    const othersServe = this.#plan.slots.some(
      ({ state }, other) =>
        other !== index && state.kind === "serving" && state.attempt.transport === attempt.transport,
    );
    this.#set({
      book: noteFailure(this.#plan.book, attempt.address, this.#now),
      scores: othersServe ? this.#plan.scores : noteBlocked(this.#plan.scores, attempt.transport, this.#now),
    });
  }

  #successorEnded(index: number, attempt: Attempt, end: SlotEnd): void {
    const slot = this.#plan.slots[index] as Slot;
    if (slot.state.kind !== "serving") return;
    const { state } = slot;
    this.#setSlot(index, { state: { ...state, successor: undefined } });
    this.#effects.push({ kind: "arm", timer: { kind: "slot", slot: index }, delayMs: undefined });
    this.#set({ moveFromMs: this.#now + MOVE_INTERVAL_MS });
    if (attempt.transport !== state.attempt.transport) {
      this.#set({ scores: noteFailedReturn(this.#plan.scores, attempt.transport, this.#now) });
    } else if (end.kind === "dial-failed" || state.leaving) {
      this.#set({ book: noteFailure(this.#plan.book, attempt.address, this.#now) });
    } else {
      this.#set({ moveFromMs: this.#now + MOVE_REGION_AFTER_MS });
    }
    // This edge takes a connector once: the old connection has to go first, which only others can cover for.
    const covered = this.#plan.slots.some(({ state: other }, i) => i !== index && other.kind === "serving");
    if (end.kind !== "refused" || end.why !== "duplicate" || !covered || state.leaving) return;
    this.#retire(state.attempt.id);
    const { address, transport } = attempt;
    this.#wait(index, { delayMs: 0, keep: address, leave: undefined, transport });
  }

  #slotTimer(index: number): void {
    const slot = this.#plan.slots[index];
    if (slot === undefined) return;
    const { state } = slot;
    const untilMs =
      state.kind === "serving" ? state.successor?.untilMs : "untilMs" in state ? state.untilMs : undefined;
    if (untilMs === undefined) return;
    if (this.#now < untilMs) {
      // Too early, as a timer of some clocks may be: nothing else would come.
      this.#effects.push({ kind: "arm", timer: { kind: "slot", slot: index }, delayMs: untilMs - this.#now });
    } else if (state.kind === "waiting") {
      this.#connect(index);
    } else if (state.kind === "connecting") {
      this.#retire(state.attempt.id, "cancel");
      this.#mainEnded(index, state, { kind: "dial-failed" }, 1);
    } else if (state.kind === "serving" && state.successor !== undefined) {
      this.#retire(state.successor.attempt.id, "cancel");
      this.#successorEnded(index, state.successor.attempt, { kind: "dial-failed" });
    }
  }

  #startOthers(): void {
    let started = 0;
    this.#plan.slots.forEach(({ state }, index) => {
      if (state.kind !== "idle") return;
      const delayMs = started * SLOT_START_INTERVAL_MS;
      this.#wait(index, { delayMs, keep: undefined, leave: undefined, transport: undefined });
      started += 1;
    });
  }

  #connect(index: number): void {
    const slot = this.#plan.slots[index] as Slot;
    const { state } = slot;
    const waiting = state.kind === "waiting" ? state : undefined;
    const wish = { taken: this.#taken(index), keep: waiting?.keep, leave: waiting?.leave };
    const address = chooseAddress(this.#plan.book, wish, this.#now);
    if (address === undefined) {
      // Fewer addresses than before: this slot stays in reserve until there are more.
      this.#rediscover();
      const next = { delayMs: REDISCOVER_MS, keep: undefined, leave: undefined, transport: undefined };
      this.#wait(index, next);
      return;
    }
    const attempt = this.#newAttempt(slot.connIndex, address, waiting?.transport ?? this.#transportFor(index));
    this.#setSlot(index, { state: { kind: "connecting", attempt, untilMs: this.#now + ATTEMPT_LIMIT_MS } });
    this.#effects.push(
      { kind: "connect", slot: index, attempt, previousAttempts: slot.failures },
      { kind: "arm", timer: { kind: "slot", slot: index }, delayMs: ATTEMPT_LIMIT_MS },
    );
  }

  /** Starts the successor of a serving slot. */
  #move(index: number, address: EdgeAddress, transport: number): void {
    const slot = this.#plan.slots[index] as Slot;
    if (slot.state.kind !== "serving") return;
    const { haConnections } = this.#plan.options;
    // Not the running connection's: an edge would take the new one for its return, and end it.
    const connIndex = slot.connIndex === index ? index + haConnections : index;
    const attempt = this.#newAttempt(connIndex, address, transport);
    const successor = { attempt, untilMs: this.#now + ATTEMPT_LIMIT_MS };
    this.#setSlot(index, { state: { ...slot.state, successor } });
    this.#effects.push(
      { kind: "connect", slot: index, attempt, previousAttempts: 0 },
      { kind: "arm", timer: { kind: "slot", slot: index }, delayMs: ATTEMPT_LIMIT_MS },
    );
  }

  /** To another address, if one is free: the edge here is leaving. */
  #moveAway(index: number): void {
    const state = this.#plan.slots[index]?.state;
    if (state?.kind !== "serving" || state.successor !== undefined) return;
    const address = this.#addressAwayFrom(state.attempt.address);
    if (address !== undefined) this.#move(index, address, this.#transportFor(index));
  }

  /** A free address of another edge. */
  #addressAwayFrom({ host, port }: EdgeAddress): EdgeAddress | undefined {
    const same = this.#plan.book.addresses.filter((other) => other.host === host && other.port === port);
    return chooseAddress(this.#plan.book, { taken: [...this.#taken(), ...same] }, this.#now);
  }

  #newAttempt(connIndex: number, address: EdgeAddress, transport: number): Attempt {
    const id = this.#plan.nextAttempt;
    this.#set({ nextAttempt: id + 1 });
    return { id, connIndex, address, transport };
  }

  #transportFor(index: number): number {
    const { scores, options, slots } = this.#plan;
    return chooseTransport(scores, slots[index]?.misses ?? [], options.triesEach);
  }

  /** Addresses in use by other slots than this one. */
  #taken(except = -1): EdgeAddress[] {
    return this.#plan.slots.flatMap(({ state }, index): EdgeAddress[] => {
      if (index === except) return [];
      if (state.kind === "connecting") return [state.attempt.address];
      if (state.kind !== "serving") return [];
      const { successor } = state;
      return [state.attempt.address, ...(successor === undefined ? [] : [successor.attempt.address])];
    });
  }

  // ---- upkeep: moves, and the end of an outage ----

  #nextUpkeep(): number | undefined {
    const { outageSinceMs, moveFromMs } = this.#plan;
    if (outageSinceMs !== undefined) return outageSinceMs + OUTAGE_MS;
    const moves = this.#moves().map(({ fromMs }) => fromMs);
    return moves.length === 0 ? undefined : Math.max(moveFromMs, Math.min(...moves));
  }

  #upkeep(): void {
    if (this.#plan.outageSinceMs !== undefined) {
      if (this.#now >= this.#plan.outageSinceMs + OUTAGE_MS) this.#rebuild();
      return;
    }
    if (this.#now < this.#plan.moveFromMs) return;
    const due = this.#moves().find(({ fromMs }) => this.#now >= fromMs);
    if (due === undefined) return;
    if (due.kind === "leave") {
      this.#moveAway(due.slot);
      this.#set({ moveFromMs: this.#now + MOVE_INTERVAL_MS });
    } else {
      this.#move(due.slot, due.address, due.transport);
    }
  }

  /** What should move, and from when on; nothing while something moves. */
  #moves(): readonly Move[] {
    const { slots, scores, moveFromMs } = this.#plan;
    if (slots.some(({ state }) => state.kind === "serving" && state.successor !== undefined)) return [];
    const moves: Move[] = [];
    slots.forEach(({ state }, slot) => {
      if (state.kind !== "serving") return;
      const { attempt, sinceMs } = state;
      if (state.leaving) {
        if (this.#addressAwayFrom(attempt.address) !== undefined) {
          moves.push({ kind: "leave", slot, fromMs: moveFromMs });
        }
      } else if (attempt.transport > 0) {
        const fromMs = Math.max(sinceMs + MOVE_TRANSPORT_AFTER_MS, scores[0]?.retryAtMs ?? 0);
        moves.push({ kind: "go", slot, address: attempt.address, transport: 0, fromMs });
      }
    });
    const spread = this.#spreadMove();
    return spread === undefined ? moves : [...moves, spread];
  }

  /** From the region with the most connections to one with at least two fewer. */
  #spreadMove(): Move | undefined {
    const { slots, book } = this.#plan;
    const serving = slots.flatMap(({ state }, slot) => (state.kind === "serving" ? [{ state, slot }] : []));
    if (serving.length < slots.length) return undefined;
    const load = new Map<string, number>();
    for (const { region } of book.addresses) load.set(region, 0);
    for (const { state } of serving) {
      const { region } = state.attempt.address;
      load.set(region, (load.get(region) ?? 0) + 1);
    }
    const taken = this.#taken();
    for (const { state, slot } of serving) {
      const most = load.get(state.attempt.address.region) ?? 0;
      const fewer = book.addresses.filter(({ region }) => (load.get(region) ?? 0) <= most - 2);
      const address = chooseAddress({ ...book, addresses: fewer }, { taken }, this.#now);
      if (address === undefined) continue;
      const fromMs = Math.max(state.sinceMs + MOVE_REGION_AFTER_MS, regionBadUntil(book, address.region));
      return { kind: "go", slot, address, transport: state.attempt.transport, fromMs };
    }
    return undefined;
  }

  /** Nothing has served for long: whatever we believe about the network and the edge may be wrong. */
  #rebuild(): void {
    this.#set({
      outageSinceMs: this.#now,
      book: createAddressBook(this.#plan.book.addresses),
      scores: createScores(this.#plan.options.transports),
    });
    this.#discover();
    this.#plan.slots.forEach((slot, index) => {
      const { state } = slot;
      if (state.kind === "connecting") this.#retire(state.attempt.id, "cancel");
      else if (state.kind !== "waiting") return;
      this.#setSlot(index, { misses: slot.misses.map(() => 0) });
      const delayMs = index * SLOT_START_INTERVAL_MS;
      this.#wait(index, { delayMs, keep: undefined, leave: undefined, transport: undefined });
    });
  }

  #rediscover(): void {
    const { discovery } = this.#plan;
    if (discovery.kind === "idle" && this.#now - discovery.sinceMs >= REDISCOVER_MS) this.#discover();
  }

  // ---- small things ----

  #wait(
    index: number,
    next: {
      delayMs: number;
      keep: EdgeAddress | undefined;
      leave: EdgeAddress | undefined;
      transport: number | undefined;
    },
  ): void {
    const { delayMs, ...rest } = next;
    this.#setSlot(index, { state: { kind: "waiting", untilMs: this.#now + delayMs, ...rest } });
    this.#effects.push({ kind: "arm", timer: { kind: "slot", slot: index }, delayMs });
  }

  #retire(id: number, how: "unregister" | "cancel" = "unregister"): void {
    this.#set({ retiring: [...this.#plan.retiring, id] });
    this.#effects.push({ kind: how, attempt: id });
  }

  /** The slot whose attempt or successor this is; -1 when it is none's. */
  #slotOf(id: number): number {
    return this.#plan.slots.findIndex(({ state }) => {
      if (state.kind === "connecting") return state.attempt.id === id;
      return state.kind === "serving" && (state.attempt.id === id || state.successor?.attempt.id === id);
    });
  }

  #finishWhenAllEnded(): void {
    if (this.#plan.phase !== "stopping" || this.#plan.retiring.length > 0) return;
    if (this.#plan.slots.some(({ state }) => state.kind !== "ended")) return;
    this.#set({ phase: "stopped" });
    this.#effects.push({ kind: "finished", fatal: undefined });
  }

  #set(changes: Partial<Plan>): void {
    this.#plan = { ...this.#plan, ...changes };
  }

  #setSlot(index: number, changes: Partial<Slot>): void {
    this.#set({ slots: this.#plan.slots.map((old, i) => (i === index ? { ...old, ...changes } : old)) });
  }
}

type Move =
  | { readonly kind: "leave"; readonly slot: number; readonly fromMs: number }
  | {
      readonly kind: "go";
      readonly slot: number;
      readonly address: EdgeAddress;
      readonly transport: number;
      readonly fromMs: number;
    };

/** A secret may be refused for a moment only, right after the tunnel was made; everything else permanent is final. */
function isHopeless(end: SlotEnd & { kind: "refused" }, failures: number): boolean {
  return end.why === "duplicate" ? false : end.why === "unauthorized" ? failures >= UNAUTHORIZED_TRIES : true;
}
