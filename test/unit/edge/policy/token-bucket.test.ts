import { expect, test } from "bun:test";
import fc from "fast-check";
import { TokenBuckets } from "../../../../src/edge/policy/token-bucket.ts";

test("a full bucket gives its burst, then one token after the other", () => {
  const buckets = new TokenBuckets({ perSecond: 10, burst: 3 }, 100);
  expect([0, 0, 0].map((at) => buckets.take("a", at))).toEqual([0, 0, 0]);
  expect(buckets.take("a", 0)).toBe(100);
  expect(buckets.take("a", 60)).toBe(40);
  expect(buckets.take("a", 100)).toBe(0);
  expect(buckets.take("a", 100)).toBe(100);
  // Rest fills it to the brim and no further.
  expect([0, 0, 0].map(() => buckets.take("a", 10_000))).toEqual([0, 0, 0]);
  expect(buckets.take("a", 10_000)).toBe(100);
});

test("keys do not share", () => {
  const buckets = new TokenBuckets({ perSecond: 1, burst: 1 }, 100);
  expect(buckets.take("a", 0)).toBe(0);
  expect(buckets.take("b", 0)).toBe(0);
  expect(buckets.take("a", 0)).toBe(1_000);
});

test("never more than the burst and the rate allow, and what it says to wait is enough", () => {
  fc.assert(
    fc.property(
      fc.record({ perSecond: fc.integer({ min: 1, max: 1_000 }), burst: fc.integer({ min: 1, max: 50 }) }),
      fc.array(fc.integer({ min: 0, max: 500 }), { maxLength: 200 }),
      (rate, gaps) => {
        const buckets = new TokenBuckets(rate, 10);
        let nowMs = 0;
        let taken = 0;
        for (const gap of gaps) {
          nowMs += gap;
          const waitMs = buckets.take("k", nowMs);
          if (waitMs === 0) taken += 1;
          else {
            nowMs += waitMs;
            expect(buckets.take("k", nowMs)).toBe(0);
            taken += 1;
          }
          expect(taken).toBeLessThanOrEqual(rate.burst + (nowMs * rate.perSecond) / 1_000 + 1e-3);
        }
      },
    ),
  );
});

test("the table does not grow beyond its bound, and forgets who is full again", () => {
  const buckets = new TokenBuckets({ perSecond: 1, burst: 1 }, 50);
  for (let i = 0; i < 500; i += 1) buckets.take(`key${i}`, i);
  expect(buckets.size).toBe(50);
  // The last ones are still remembered.
  expect(buckets.take("key499", 500)).toBeGreaterThan(0);
  buckets.sweep(10_000);
  expect(buckets.size).toBe(0);
});
