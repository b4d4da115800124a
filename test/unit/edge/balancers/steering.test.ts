import { describe, expect, test } from "bun:test";
import { newTunnelId, type TunnelId } from "../../../../src/core/ids.ts";
import { type Candidate, type Draw, steer } from "../../../../src/edge/dispatcher/balancers/steering.ts";
import { STEERINGS, type Steering } from "../../../../src/edge/store/port.ts";
import { seededRandom } from "../../../support/seeded-random.ts";

const DRAWS = 20_000;
/** 99.9 % of chi-square with 3 degrees of freedom: four candidates. */
const CHI_SQUARE_3 = 16.27;

function candidates(...weights: readonly number[]): Candidate[] {
  // Fixed ids, because hashes hang on them.
  return weights.map((weight, i) => ({
    tunnelId: `00000000-0000-4000-8000-00000000000${i}` as TunnelId,
    ...{ weight, running: 0 },
  }));
}

function draw(options: Partial<Draw> = {}): Draw {
  return { ip: "192.0.2.1", round: new Map(), random: seededRandom(7), ...options };
}

function ipAt(i: number): string {
  return `10.${(i >> 16) & 255}.${(i >> 8) & 255}.${i & 255}`;
}

/** How often each candidate was chosen. */
function tally(steering: Steering, from: readonly Candidate[], draws = DRAWS): number[] {
  const counts = from.map(() => 0);
  const shared = draw();
  for (let i = 0; i < draws; i += 1) {
    const chosen = steer(steering, from, { ...shared, ip: ipAt(i) });
    const at = from.findIndex(({ tunnelId }) => tunnelId === chosen?.tunnelId);
    counts[at] = (counts[at] ?? 0) + 1;
  }
  return counts;
}

function chiSquare(counts: readonly number[], weights: readonly number[]): number {
  const total = counts.reduce((sum, count) => sum + count, 0);
  const weight = weights.reduce((sum, each) => sum + each, 0);
  return counts.reduce((sum, count, i) => {
    const expected = (total * (weights[i] ?? 0)) / weight;
    return sum + (count - expected) ** 2 / expected;
  }, 0);
}

describe.each(STEERINGS.map((steering) => ({ steering })))("$steering", ({ steering }) => {
  test("nobody there: nothing; one there: that one", () => {
    expect(steer(steering, [], draw())).toBeUndefined();
    const [only] = candidates(3);
    expect(steer(steering, [only as Candidate], draw())).toBe(only as Candidate);
  });
});

test.each([
  { steering: "random", weights: [1, 1, 1, 1] },
  { steering: "random", weights: [5, 3, 1, 1] },
  { steering: "random", weights: [0.5, 0.25, 2, 10] },
  { steering: "hash_ip", weights: [1, 1, 1, 1] },
  { steering: "hash_ip", weights: [5, 3, 1, 1] },
] as const)("$steering spreads visitors by weight $weights", ({ steering, weights }) => {
  const counts = tally(steering, candidates(...weights));
  expect(chiSquare(counts, weights)).toBeLessThan(CHI_SQUARE_3);
});

test.each(["round_robin", "hash_cookie", "least_outstanding"] as const)(
  "%s gives turns by weight, exactly",
  (steering) => {
    expect(tally(steering, candidates(1, 1, 1), 3_000)).toEqual([1_000, 1_000, 1_000]);
  },
);

test("round robin with weights is exact and never gives all turns of one at once", () => {
  const from = candidates(5, 1, 1);
  const shared = draw();
  const order = Array.from({ length: 14 }, () => from.indexOf(steer("round_robin", from, shared) as Candidate));
  expect(order.filter((at) => at === 0)).toHaveLength(10);
  expect(order.join("")).toBe("00102000010200".slice(0, 14));
});

test("failover takes the first, whatever the weights", () => {
  expect(tally("failover", candidates(1, 100, 100), 100)).toEqual([100, 0, 0]);
});

test.each([
  { running: [3, 2, 4], weights: [1, 1, 1], chosen: 1 },
  { running: [4, 3, 0], weights: [10, 1, 1], chosen: 0 },
  { running: [0, 0, 9], weights: [1, 3, 100], chosen: 2 },
])("least outstanding: $running running at weights $weights goes to number $chosen", ({ running, weights, chosen }) => {
  const from = candidates(...weights).map((each, i): Candidate => ({ ...each, running: running[i] ?? 0 }));
  expect(steer("least_outstanding", from, draw())).toBe(from[chosen] as Candidate);
});

test("a visitor stays with its tunnel, and only the visitors of one that goes move", () => {
  const from = candidates(1, 2, 1, 3).map((each) => ({ ...each, tunnelId: newTunnelId() }));
  const [gone, ...left] = from;
  let moved = 0;
  for (let i = 0; i < 5_000; i += 1) {
    const ip = ipAt(i * 7);
    const before = steer("hash_ip", from, draw({ ip }));
    expect(steer("hash_ip", [...from].reverse(), draw({ ip }))?.tunnelId).toBe(before?.tunnelId as TunnelId);
    const after = steer("hash_ip", left, draw({ ip }));
    if (before === gone) moved += 1;
    else expect(after).toBe(before);
  }
  expect(moved).toBeGreaterThan(500);
});

test("an IPv6 visitor counts by its network", () => {
  const from = candidates(1, 1, 1, 1);
  for (let i = 0; i < 50; i += 1) {
    const one = steer("hash_ip", from, draw({ ip: `2001:db8:0:${i}::1` }));
    const other = steer("hash_ip", from, draw({ ip: `2001:db8:0:${i}:abcd::2` }));
    expect(other).toBe(one as Candidate);
  }
});
