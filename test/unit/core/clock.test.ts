import { expect, test } from "bun:test";
import { systemClock } from "../../../src/core/clock.ts";

test("a timer never fires early, whatever the fraction of its milliseconds", async () => {
  const waits = Array.from({ length: 200 }, (_, i) => i / 7 + 0.9);
  const early = await Promise.all(
    waits.map(async (ms) => {
      // One after the other, so that they begin at different fractions as well.
      await new Promise((resolve) => setTimeout(resolve, ms));
      const dueMs = systemClock.nowMs() + ms;
      await new Promise<void>((resolve) => void systemClock.after(ms, resolve));
      return Math.max(0, dueMs - systemClock.nowMs());
    }),
  );
  expect(early.filter((ms) => ms > 0)).toEqual([]);
});

test("a cancelled timer does not fire, and a wait longer than the runtime's timers is no short one", async () => {
  const fired: string[] = [];
  const cancel = systemClock.after(5, () => fired.push("cancelled"));
  const cancelLong = systemClock.after(2 ** 32, () => fired.push("long"));
  cancel();
  await new Promise<void>((resolve) => void systemClock.after(20, resolve));
  cancelLong();
  expect(fired).toEqual([]);
});
