import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  createPlan,
  type Effect,
  MAX_DIAL_DOUBLINGS,
  type Plan,
  type PlanEvent,
  SLOT_START_INTERVAL_MS,
  type SlotEnd,
  step,
  UNAUTHORIZED_TRIES,
} from "../../../src/supervisor/plan.ts";

/** Feeds events one after the other and keeps what the plan asked for. */
function play(options: { haConnections?: number; addresses?: number; maxDoublings?: number } = {}) {
  let plan: Plan = createPlan({ haConnections: 4, addresses: 4, maxDoublings: 5, ...options });
  const tell = (event: PlanEvent, nowMs = 0): readonly Effect[] => {
    const result = step(plan, event, nowMs);
    plan = result.plan;
    return result.effects;
  };
  return { tell, plan: () => plan, states: () => plan.slots.map((slot) => slot.state.kind) };
}

const DIAL_FAILED: SlotEnd = { kind: "dial-failed" };
const LOST: SlotEnd = { kind: "lost" };
const refused = (why: "duplicate" | "unauthorized" | "other", permanent: boolean): SlotEnd => ({
  kind: "refused",
  why,
  permanent,
});

describe("start", () => {
  test("slot 0 goes alone; the others follow its registration, the first at once and the rest a second apart", () => {
    const { tell, states } = play();
    expect(tell({ kind: "start" })).toEqual([{ kind: "connect", slot: 0, address: 0, previousAttempts: 0 }]);
    expect(states()).toEqual(["connecting", "idle", "idle", "idle"]);
    expect(tell({ kind: "registered", slot: 0 })).toEqual([
      { kind: "arm", slot: 1, delayMs: 0 },
      { kind: "arm", slot: 2, delayMs: SLOT_START_INTERVAL_MS },
      { kind: "arm", slot: 3, delayMs: 2 * SLOT_START_INTERVAL_MS },
    ]);
    expect(tell({ kind: "timer", slot: 2 })).toEqual([{ kind: "connect", slot: 2, address: 2, previousAttempts: 0 }]);
  });

  test("one address carries one connection", () => {
    expect(play({ addresses: 1 }).plan().slots.length).toBe(1);
    expect(play({ addresses: 9 }).plan().slots.length).toBe(4);
  });
});

describe("reconnect", () => {
  test("waits double with each failure, up to the cap, and a registration forgives them", () => {
    const { tell, plan } = play({ addresses: 1, maxDoublings: 3 });
    tell({ kind: "start" });
    const waits: number[] = [];
    for (let i = 0; i < 5; i++) {
      const [arm] = tell({ kind: "ended", slot: 0, end: refused("other", false), chance: 0.5 });
      waits.push(arm?.kind === "arm" ? arm.delayMs : Number.NaN);
      tell({ kind: "timer", slot: 0 });
    }
    expect(waits).toEqual([1000, 2000, 4000, 4000, 4000]);
    tell({ kind: "registered", slot: 0 });
    expect(plan().slots[0]?.failures).toBe(0);
    expect(tell({ kind: "ended", slot: 0, end: LOST, chance: 0.5 })).toEqual([{ kind: "arm", slot: 0, delayMs: 1000 }]);
  });

  test("an edge that cannot be dialled is asked at least every 4 s, for ever", () => {
    const { tell } = play({ addresses: 1 });
    tell({ kind: "start" });
    for (let i = 0; i < 1000; i++) {
      const [arm] = tell({ kind: "ended", slot: 0, end: DIAL_FAILED, chance: 0.999 });
      expect(arm).toMatchObject({ kind: "arm", slot: 0 });
      expect(arm?.kind === "arm" && arm.delayMs).toBeLessThan(1000 * 2 ** MAX_DIAL_DOUBLINGS);
      expect(tell({ kind: "timer", slot: 0 })[0]).toMatchObject({ kind: "connect", previousAttempts: i + 1 });
    }
  });

  test("a failed dial and a duplicate move to a free address, a lost connection returns to its own", () => {
    const { tell } = play({ haConnections: 2, addresses: 3 });
    tell({ kind: "start" });
    tell({ kind: "registered", slot: 0 });
    tell({ kind: "timer", slot: 1 });
    tell({ kind: "ended", slot: 1, end: DIAL_FAILED, chance: 0 });
    expect(tell({ kind: "timer", slot: 1 })).toMatchObject([{ slot: 1, address: 2 }]);
    tell({ kind: "ended", slot: 1, end: refused("duplicate", true), chance: 0 });
    expect(tell({ kind: "timer", slot: 1 })).toMatchObject([{ slot: 1, address: 1 }]);
    tell({ kind: "registered", slot: 1 });
    tell({ kind: "ended", slot: 1, end: LOST, chance: 0 });
    expect(tell({ kind: "timer", slot: 1 })).toMatchObject([{ slot: 1, address: 1 }]);
  });
});

describe("refusal of the first registration", () => {
  test("for good ends the plan", () => {
    const { tell, plan } = play();
    tell({ kind: "start" });
    const end = refused("other", true);
    expect(tell({ kind: "ended", slot: 0, end, chance: 0 })).toEqual([{ kind: "finished", fatal: end }]);
    expect(plan().phase).toBe("stopped");
  });

  test("for a wrong secret ends it after a few tries", () => {
    const { tell } = play();
    tell({ kind: "start" });
    const end = refused("unauthorized", true);
    for (let i = 1; i < UNAUTHORIZED_TRIES; i++) {
      expect(tell({ kind: "ended", slot: 0, end, chance: 0 })).toMatchObject([{ kind: "arm" }]);
      tell({ kind: "timer", slot: 0 });
    }
    expect(tell({ kind: "ended", slot: 0, end, chance: 0 })).toEqual([{ kind: "finished", fatal: end }]);
  });

  test("after a success nothing is final: the tunnel may come back", () => {
    const { tell } = play({ addresses: 1 });
    tell({ kind: "start" });
    tell({ kind: "registered", slot: 0 });
    for (let i = 0; i < 20; i++) {
      expect(tell({ kind: "ended", slot: 0, end: refused("unauthorized", true), chance: 0.5 })).toMatchObject([
        { kind: "arm" },
      ]);
      tell({ kind: "timer", slot: 0 });
    }
  });
});

describe("stop", () => {
  test("unregisters what serves, cancels what connects, drops what waits, and ends when all have ended", () => {
    const { tell, states } = play({ haConnections: 3, addresses: 3 });
    tell({ kind: "start" });
    tell({ kind: "registered", slot: 0 });
    tell({ kind: "timer", slot: 1 });
    expect(tell({ kind: "stop" })).toEqual([
      { kind: "unregister", slot: 0 },
      { kind: "cancel", slot: 1 },
    ]);
    expect(states()).toEqual(["serving", "connecting", "ended"]);
    expect(tell({ kind: "ended", slot: 1, end: { kind: "drained" }, chance: 0 })).toEqual([]);
    expect(tell({ kind: "ended", slot: 0, end: { kind: "drained" }, chance: 0 })).toEqual([
      { kind: "finished", fatal: undefined },
    ]);
  });

  test("before anything registered ends at once", () => {
    const { tell } = play();
    tell({ kind: "start" });
    tell({ kind: "ended", slot: 0, end: DIAL_FAILED, chance: 0 });
    expect(tell({ kind: "stop" })).toEqual([{ kind: "finished", fatal: undefined }]);
  });
});

test("whatever happens, a running plan has a way on in every slot and no address is used twice", () => {
  const end = fc.constantFrom<SlotEnd>(
    DIAL_FAILED,
    LOST,
    { kind: "drained" },
    refused("duplicate", true),
    refused("other", false),
  );
  const event = fc.oneof(
    fc.record({ kind: fc.constant("registered" as const), slot: fc.nat(3) }),
    fc.record({ kind: fc.constant("timer" as const), slot: fc.nat(3) }),
    fc.record({
      kind: fc.constant("ended" as const),
      slot: fc.nat(3),
      end,
      chance: fc.double({ min: 0, max: 0.999, noNaN: true }),
    }),
  );
  fc.assert(
    fc.property(fc.array(event, { maxLength: 200 }), fc.integer({ min: 1, max: 8 }), (events, addresses) => {
      let plan = createPlan({ haConnections: 4, addresses, maxDoublings: 5 });
      const armed = new Set<number>();
      const running = new Set<number>();
      const apply = (given: PlanEvent): void => {
        if (given.kind === "timer") armed.delete(given.slot);
        if (given.kind === "ended") running.delete(given.slot);
        const result = step(plan, given, 0);
        plan = result.plan;
        for (const effect of result.effects) {
          if (effect.kind === "arm") armed.add(effect.slot);
          if (effect.kind === "connect") running.add(effect.slot);
          expect(effect.kind).not.toBe("finished");
        }
      };
      apply({ kind: "start" });
      for (const given of events) {
        // Only what can happen happens: timers that are armed, ends of connections that exist.
        if (given.kind === "timer" && !armed.has(given.slot)) continue;
        if (given.kind !== "timer" && !running.has(given.slot)) continue;
        apply(given);
        plan.slots.forEach((slot, index) => {
          const { kind } = slot.state;
          if (kind === "waiting") expect(armed.has(index)).toBe(true);
          if (kind === "connecting" || kind === "serving") expect(running.has(index)).toBe(true);
          if (kind === "idle") expect(plan.everRegistered).toBe(false);
        });
        const used = plan.slots.flatMap((slot) => ("address" in slot.state ? [slot.state.address] : []));
        expect(new Set(used).size).toBe(used.length);
      }
    }),
    { numRuns: 500 },
  );
});
