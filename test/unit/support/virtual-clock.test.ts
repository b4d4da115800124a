import { expect, test } from "bun:test";
import { delay } from "../../../src/core/clock.ts";
import { VirtualClock } from "../../support/virtual-clock.ts";

test("timers fire in order of time, equal times in order of creation", async () => {
  const clock = new VirtualClock();
  const fired: string[] = [];
  for (const [name, ms] of [
    ["late", 20],
    ["first", 10],
    ["second", 10],
    ["beyond", 31],
  ] as const) {
    clock.after(ms, () => fired.push(`${name}@${clock.nowMs()}`));
  }
  await clock.advance(30);
  expect(fired).toEqual(["first@10", "second@10", "late@20"]);
  expect(clock.nowMs()).toBe(30);
  expect(clock.pending).toBe(1);
});

test("nothing fires before it is due, or after it was cancelled", async () => {
  const clock = new VirtualClock();
  let fired = 0;
  const cancel = clock.after(10, () => {
    fired += 1;
  });
  await clock.advance(9.9);
  expect(fired).toBe(0);
  cancel();
  cancel();
  await clock.advance(100);
  expect(fired).toBe(0);
  expect(clock.pending).toBe(0);
});

test("a chain of awaits that sets new timers runs within one advance", async () => {
  const clock = new VirtualClock();
  const at: number[] = [];
  const work = (async () => {
    for (let round = 0; round < 3; round += 1) {
      await delay(clock, 10);
      at.push(clock.nowMs());
    }
  })();
  await clock.advance(30);
  expect(at).toEqual([10, 20, 30]);
  await work;
});

test("runUntilIdle ends when only background timers are left, and says how long it took", async () => {
  const clock = new VirtualClock();
  const keepAlive = (): void => {
    clock.after(1_000, keepAlive, { background: true });
  };
  keepAlive();
  clock.after(2_500, () => {});
  expect(await clock.runUntilIdle()).toBe(2_500);
  expect(clock.pending).toBe(1);
});

test("runUntilIdle refuses to run for ever", async () => {
  const clock = new VirtualClock();
  const again = (): void => {
    clock.after(1_000, again);
  };
  again();
  await expect(clock.runUntilIdle({ limitMs: 10_000 })).rejects.toThrow("Not idle after 10000 ms");
});

test("the wall moves with the clock", async () => {
  const clock = new VirtualClock({ wallMs: 1_000 });
  await clock.advance(500);
  expect(clock.wallMs()).toBe(1_500);
});
