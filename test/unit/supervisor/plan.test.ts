import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { EdgeAddress } from "../../../src/supervisor/addresses.ts";
import type { Effect, Plan, PlanEvent, PlanOptions, SlotEnd, Timer } from "../../../src/supervisor/model.ts";
import { createPlan, step } from "../../../src/supervisor/plan.ts";
import { ATTEMPT_LIMIT_MS, SLOT_START_INTERVAL_MS, UNAUTHORIZED_TRIES } from "../../../src/supervisor/timing.ts";

const OPTIONS: PlanOptions = {
  haConnections: 4,
  maxConnections: undefined,
  transports: 2,
  maxDoublings: 5,
  triesEach: 1,
};

function addresses(count: number): EdgeAddress[] {
  return Array.from({ length: count }, (_, i) => ({
    id: `${i}`,
    host: `192.0.2.${i}`,
    port: 7844,
    region: i % 2 === 0 ? "a" : "b",
    family: 4,
  }));
}

/** Feeds events one after the other and keeps what the plan asked for, without its housekeeping. */
function play(options: Partial<PlanOptions> & { addresses?: number } = {}) {
  let plan: Plan = createPlan({ ...OPTIONS, ...options });
  let nowMs = 0;
  const tell = (event: PlanEvent): readonly Effect[] => {
    const result = step(plan, event, nowMs);
    plan = result.plan;
    return result.effects.filter(({ kind }) => kind !== "discover");
  };
  const start = () => {
    tell({ kind: "start" });
    return tell({ kind: "discovered", addresses: addresses(options.addresses ?? 4) });
  };
  const slotTimer = (slot: number) => {
    const state = plan.slots[slot]?.state;
    if (state !== undefined && "untilMs" in state) nowMs = Math.max(nowMs, state.untilMs);
    return tell({ kind: "timer", timer: { kind: "slot", slot } });
  };
  /** The wait a slot is told, in ms. */
  const waitOf = (effects: readonly Effect[]): number => {
    const arm = effects.find((effect) => effect.kind === "arm" && effect.timer.kind === "slot");
    return arm?.kind === "arm" ? (arm.delayMs ?? Number.NaN) : Number.NaN;
  };
  const attempt = (slot: number): number => {
    const state = plan.slots[slot]?.state;
    return state !== undefined && "attempt" in state ? state.attempt.id : -1;
  };
  return {
    tell,
    start,
    slotTimer,
    waitOf,
    attempt,
    plan: () => plan,
    pass: (ms: number) => {
      nowMs += ms;
    },
    states: () => plan.slots.map((slot) => slot.state.kind),
    end: (slot: number, end: SlotEnd, chance = 0.5) => tell({ kind: "ended", attempt: attempt(slot), end, chance }),
  };
}

const DIAL_FAILED: SlotEnd = { kind: "dial-failed" };
const LOST: SlotEnd = { kind: "lost", silent: false };
const refused = (why: "duplicate" | "unauthorized" | "other", permanent: boolean): SlotEnd => ({
  kind: "refused",
  why,
  permanent,
});

describe("start", () => {
  test("slot 0 goes alone; the others follow its registration, the first at once and the rest a second apart", () => {
    const game = play();
    expect(game.start()).toContainEqual(expect.objectContaining({ kind: "connect", slot: 0, previousAttempts: 0 }));
    expect(game.states()).toEqual(["connecting", "idle", "idle", "idle"]);
    const effects = game.tell({ kind: "registered", attempt: game.attempt(0) });
    const waits = effects.flatMap((effect) =>
      effect.kind === "arm" && effect.timer.kind === "slot" && effect.timer.slot > 0 ? [effect.delayMs] : [],
    );
    expect(waits).toEqual([0, SLOT_START_INTERVAL_MS, 2 * SLOT_START_INTERVAL_MS]);
  });

  test("one address carries one connection, and no more are made than asked for or allowed", () => {
    for (const [given, want] of [
      [{ addresses: 1 }, 1],
      [{ addresses: 9 }, 4],
      [{ addresses: 9, maxConnections: 2 }, 2],
    ] as const) {
      const game = play(given);
      game.start();
      expect(game.plan().slots.length).toBe(want);
    }
  });
});

describe("reconnect", () => {
  test("refusals wait double each time, up to the cap, and a registration forgives them", () => {
    const game = play({ addresses: 1, maxDoublings: 3 });
    game.start();
    const waits: number[] = [];
    for (let i = 0; i < 5; i++) {
      waits.push(game.waitOf(game.end(0, refused("other", false))));
      game.slotTimer(0);
    }
    expect(waits).toEqual([1000, 2000, 4000, 4000, 4000]);
    game.tell({ kind: "registered", attempt: game.attempt(0) });
    expect(game.plan().slots[0]?.failures).toBe(0);
    expect(game.waitOf(game.end(0, LOST))).toBe(1000);
  });

  test("the first fallback to another transport does not wait; a settled connection is replaced quickly", () => {
    const game = play({ addresses: 1 });
    game.start();
    expect(game.waitOf(game.end(0, DIAL_FAILED, 0.999))).toBe(0);
    expect(game.slotTimer(0)).toContainEqual(
      expect.objectContaining({ kind: "connect", attempt: expect.objectContaining({ transport: 1 }) }),
    );
    expect(game.waitOf(game.end(0, DIAL_FAILED, 0.999))).toBeGreaterThan(0);
    game.slotTimer(0);
    game.tell({ kind: "registered", attempt: game.attempt(0) });
    game.pass(20_000);
    expect(game.waitOf(game.end(0, LOST, 0.999))).toBeLessThan(500);
  });

  test("an attempt that never ends is given up, and its late end changes nothing", () => {
    const game = play({ addresses: 1, transports: 1 });
    game.start();
    const stuck = game.attempt(0);
    game.pass(ATTEMPT_LIMIT_MS);
    expect(game.slotTimer(0)).toContainEqual({ kind: "cancel", attempt: stuck });
    expect(game.states()).toEqual(["waiting"]);
    expect(game.tell({ kind: "ended", attempt: stuck, end: { kind: "drained" }, chance: 0 })).toEqual([]);
    expect(game.states()).toEqual(["waiting"]);
  });

  test("a failed dial and a duplicate move to a free address, a lost connection returns to its own", () => {
    const game = play({ haConnections: 1, addresses: 3, transports: 1 });
    game.start();
    const hostOf = () => {
      const state = game.plan().slots[0]?.state;
      return state?.kind === "connecting" ? state.attempt.address.id : "";
    };
    const visited = [hostOf()];
    for (const end of [DIAL_FAILED, refused("duplicate", true)]) {
      game.end(0, end, 0);
      game.slotTimer(0);
      visited.push(hostOf());
    }
    expect(new Set(visited).size).toBe(3);
    game.tell({ kind: "registered", attempt: game.attempt(0) });
    game.end(0, LOST, 0);
    game.slotTimer(0);
    expect(hostOf()).toBe(visited[2] as string);
  });
});

test("a connection that returns has the index it had, whatever happened in between", () => {
  const game = play({ haConnections: 2, addresses: 2 });
  game.start();
  game.tell({ kind: "registered", attempt: game.attempt(0) });
  const indexes: number[] = [];
  for (const end of [LOST, DIAL_FAILED, refused("other", false), { kind: "lost", silent: true } as const]) {
    game.end(0, end, 0);
    game.slotTimer(0);
    const state = game.plan().slots[0]?.state;
    if (state?.kind === "connecting") indexes.push(state.attempt.connIndex);
  }
  expect(indexes).toEqual([0, 0, 0, 0]);
});

describe("refusal of the first registration", () => {
  test("for good ends the plan", () => {
    const game = play();
    game.start();
    const end = refused("other", true);
    expect(game.end(0, end)).toContainEqual({ kind: "finished", fatal: end });
    expect(game.plan().phase).toBe("stopped");
  });

  test("for a wrong secret ends it after a few tries", () => {
    const game = play();
    game.start();
    const end = refused("unauthorized", true);
    for (let i = 1; i < UNAUTHORIZED_TRIES; i++) {
      expect(game.end(0, end).some(({ kind }) => kind === "finished")).toBe(false);
      game.slotTimer(0);
    }
    expect(game.end(0, end)).toContainEqual({ kind: "finished", fatal: end });
  });
});

describe("a move", () => {
  /** One connection on the second transport, that may return to the first. */
  function fallenBack() {
    const game = play({ haConnections: 2, addresses: 2 });
    game.start();
    game.end(0, DIAL_FAILED, 0);
    game.slotTimer(0);
    game.tell({ kind: "registered", attempt: game.attempt(0) });
    game.slotTimer(1);
    game.tell({ kind: "registered", attempt: game.attempt(1) });
    const dueMs = game.plan().upkeepAtMs ?? Number.NaN;
    game.pass(dueMs);
    return game;
  }

  test("takes another connection index, and gives the old connection up only once the new one has registered", () => {
    const game = fallenBack();
    const old = game.attempt(0);
    const effects = game.tell({ kind: "timer", timer: { kind: "upkeep" } });
    const connect = effects.find((effect) => effect.kind === "connect");
    expect(connect).toMatchObject({ slot: 0, attempt: { transport: 0, connIndex: expect.any(Number) } });
    const state = game.plan().slots[0]?.state;
    const successor = state?.kind === "serving" ? state.successor?.attempt : undefined;
    expect(successor?.connIndex).not.toBe(state?.kind === "serving" ? state.attempt.connIndex : undefined);
    expect(effects.some(({ kind }) => kind === "unregister" || kind === "cancel")).toBe(false);
    expect(game.tell({ kind: "registered", attempt: successor?.id ?? -1 })).toContainEqual({
      kind: "unregister",
      attempt: old,
    });
    expect(game.attempt(0)).toBe(successor?.id ?? -1);
  });

  test("that the edge refuses as a duplicate is made the other way round, while another connection serves", () => {
    const game = fallenBack();
    const old = game.attempt(0);
    game.tell({ kind: "timer", timer: { kind: "upkeep" } });
    const state = game.plan().slots[0]?.state;
    const successor = state?.kind === "serving" ? (state.successor?.attempt.id ?? -1) : -1;
    const end = refused("duplicate", true);
    expect(game.tell({ kind: "ended", attempt: successor, end, chance: 0 })).toContainEqual({
      kind: "unregister",
      attempt: old,
    });
    expect(game.slotTimer(0)).toContainEqual(
      expect.objectContaining({ kind: "connect", attempt: expect.objectContaining({ transport: 0 }) }),
    );
  });
});

describe("stop", () => {
  test("unregisters what serves, cancels what connects, drops what waits, and ends when all have ended", () => {
    const game = play({ haConnections: 3, addresses: 3 });
    game.start();
    game.tell({ kind: "registered", attempt: game.attempt(0) });
    game.slotTimer(1);
    const [first, second] = [game.attempt(0), game.attempt(1)];
    const effects = game.tell({ kind: "stop" });
    expect(effects).toContainEqual({ kind: "unregister", attempt: first });
    expect(effects).toContainEqual({ kind: "cancel", attempt: second });
    expect(game.states()).toEqual(["serving", "connecting", "ended"]);
    expect(game.tell({ kind: "ended", attempt: second, end: { kind: "drained" }, chance: 0 })).toEqual([]);
    expect(game.tell({ kind: "ended", attempt: first, end: { kind: "drained" }, chance: 0 })).toEqual([
      { kind: "finished", fatal: undefined },
    ]);
  });

  test("before discovery has answered ends at once", () => {
    const game = play();
    game.tell({ kind: "start" });
    expect(game.tell({ kind: "stop" })).toContainEqual({ kind: "finished", fatal: undefined });
  });
});

const end = fc.constantFrom<SlotEnd>(
  DIAL_FAILED,
  LOST,
  { kind: "lost", silent: true },
  { kind: "drained" },
  refused("duplicate", true),
  refused("other", false),
);
const chance = fc.double({ min: 0, max: 0.999, noNaN: true });
const happening = fc.oneof(
  fc.record({ kind: fc.constantFrom("registered", "leaving"), pick: fc.nat(9) }),
  fc.record({ kind: fc.constant("ended" as const), pick: fc.nat(9), end, chance }),
  fc.record({ kind: fc.constant("fire" as const), pick: fc.nat(9) }),
  fc.record({ kind: fc.constant("discovered" as const), count: fc.integer({ min: 0, max: 8 }) }),
  fc.record({ kind: fc.constantFrom("discovery-failed", "resumed") }),
  fc.record({ kind: fc.constant("pass" as const), ms: fc.integer({ min: 1, max: 30_000 }) }),
);

test("whatever happens, a running plan has a way on in every state, and no address is used twice", () => {
  fc.assert(
    fc.property(fc.array(happening, { maxLength: 300 }), fc.integer({ min: 1, max: 8 }), (events, count) => {
      let plan = createPlan(OPTIONS);
      let nowMs = 0;
      let discovering = false;
      const armed = new Map<string, { timer: Timer; atMs: number }>();
      const alive = new Set<number>();
      const apply = (event: PlanEvent): void => {
        const result = step(plan, event, nowMs);
        plan = result.plan;
        for (const effect of result.effects) {
          expect(effect.kind).not.toBe("finished");
          if (effect.kind === "connect") alive.add(effect.attempt.id);
          if (effect.kind === "discover") discovering = true;
          if (effect.kind !== "arm") continue;
          const key = JSON.stringify(effect.timer);
          if (effect.delayMs === undefined) armed.delete(key);
          else armed.set(key, { timer: effect.timer, atMs: nowMs + effect.delayMs });
        }
      };
      const check = (): void => {
        const used: string[] = [];
        plan.slots.forEach(({ state }, slot) => {
          const timer = armed.get(JSON.stringify({ kind: "slot", slot }));
          if (state.kind === "waiting" || state.kind === "connecting") expect(timer).toBeDefined();
          if (state.kind === "connecting" || state.kind === "serving") {
            expect(alive.has(state.attempt.id)).toBe(true);
            used.push(state.attempt.address.id);
          }
          if (state.kind === "serving" && state.successor !== undefined) {
            expect(timer).toBeDefined();
            expect(alive.has(state.successor.attempt.id)).toBe(true);
            expect(state.successor.attempt.connIndex).not.toBe(state.attempt.connIndex);
          }
          if (state.kind === "idle") expect(plan.everRegistered).toBe(false);
        });
        expect(new Set(used).size).toBe(used.length);
        if (plan.slots.length === 0) {
          expect(discovering || armed.has(JSON.stringify({ kind: "discovery" }))).toBe(true);
        }
        if (plan.outageSinceMs !== undefined) expect(armed.has(JSON.stringify({ kind: "upkeep" }))).toBe(true);
        for (const id of plan.retiring) expect(alive.has(id)).toBe(true);
      };
      apply({ kind: "start" });
      apply({ kind: "discovered", addresses: addresses(count) });
      discovering = false;
      for (const event of events) {
        // Only what can happen happens: timers that are armed, ends of attempts that exist.
        const ids = [...alive];
        const id = "pick" in event ? ids[event.pick % Math.max(1, ids.length)] : undefined;
        if (event.kind === "pass") {
          nowMs += event.ms;
          for (const [key, entry] of [...armed]) {
            if (entry.atMs > nowMs || armed.get(key) !== entry) continue;
            armed.delete(key);
            apply({ kind: "timer", timer: entry.timer });
          }
        } else if (event.kind === "fire") {
          const entries = [...armed];
          const entry = entries[event.pick % Math.max(1, entries.length)];
          if (entry !== undefined) {
            armed.delete(entry[0]);
            // A timer may come a little too early.
            nowMs = Math.max(nowMs, entry[1].atMs - (event.pick % 2));
            apply({ kind: "timer", timer: entry[1].timer });
          }
        } else if (event.kind === "discovered" || event.kind === "discovery-failed") {
          if (!discovering) continue;
          discovering = false;
          if ("count" in event) apply({ kind: "discovered", addresses: addresses(event.count) });
          else apply({ kind: "discovery-failed" });
        } else if (event.kind === "resumed") {
          apply({ kind: "resumed" });
        } else if (id !== undefined && "end" in event) {
          alive.delete(id);
          apply({ kind: "ended", attempt: id, end: event.end, chance: event.chance });
        } else if (id !== undefined && event.kind !== "ended") {
          apply({ kind: event.kind as "registered" | "leaving", attempt: id });
        }
        check();
      }
    }),
    { numRuns: 1000, includeErrorInReport: true },
  );
});
