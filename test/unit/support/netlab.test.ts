import { describe, expect, test } from "bun:test";
import { ContentCheck, content } from "../../support/netlab/content.ts";
import {
  BACK_WITHIN_2_S,
  failedOf,
  NEW_ONES_WITHIN_1_S,
  NOTHING_FAILED,
  ONLY_IN_FLIGHT,
  outcomeOf,
} from "../../support/netlab/outcome.ts";
import type { VisitRecord } from "../../support/netlab/visit-record.ts";

describe("content of a request", () => {
  test("is recognised in any pieces, across the end of its pattern too", () => {
    const bytes = content(5, 200_000);
    const check = new ContentCheck(5);
    for (let at = 0; at < bytes.length; at += 7_777) check.take(bytes.subarray(at, at + 7_777));
    expect([check.bytes, check.wrong]).toEqual([200_000, 0]);
  });

  test("one changed, one lost and another request's byte are seen", () => {
    const changed = content(5, 1_000);
    changed[500] = ~(changed[500] ?? 0);
    const lost = Buffer.concat([content(5, 400), content(5, 1_000).subarray(401)]);
    for (const bytes of [changed, lost, content(6, 1_000)]) {
      const check = new ContentCheck(5);
      check.take(bytes);
      expect(check.wrong).toBeGreaterThan(0);
    }
  });
});

describe("what a fault did", () => {
  const moments = { faultMs: 10_000, backMs: 12_000, connectedMs: 12_500 };
  const visit = (record: Partial<VisitRecord>): VisitRecord => ({
    ...{ id: 1, kind: "get", startMs: 9_000, tookMs: 5, wrongBytes: 0, moved: 0 },
    ...record,
  });
  const judge = (records: readonly VisitRecord[], arrivals: ReadonlyMap<number, number> = new Map()) =>
    outcomeOf(records, moments, { arrivals, edgeRetries: undefined }, []);

  test("without trouble everything is nought, and every goal met", () => {
    const outcome = judge([visit({}), visit({ id: 2, startMs: 11_000 })], new Map([[1, 1]]));
    expect(outcome).toMatchObject({
      requests: 2,
      failedInFlight: 0,
      failedLater: 0,
      repeated: 0,
      connectedAfterMs: 500,
    });
    for (const goal of [NOTHING_FAILED, ONLY_IN_FLIGHT, NEW_ONES_WITHIN_1_S, BACK_WITHIN_2_S]) {
      expect([goal.text, goal.holds(outcome)]).toEqual([goal.text, true]);
    }
  });

  test("a failure of a request that ran is told from one of a new request", () => {
    const outcome = judge([
      visit({ kind: "post", startMs: 9_900, tookMs: 200, failure: "status 502" }),
      visit({ kind: "download", startMs: 10_500, tookMs: 100, failure: "cut" }),
    ]);
    expect([outcome.failedInFlight, outcome.failedLater, failedOf(outcome)]).toEqual([1, 1, 2]);
    expect(outcome.failed).toEqual({ get: 0, slow: 0, post: 1, download: 1 });
    expect(outcome.failures).toEqual({ "status 502": 1, cut: 1 });
    expect([NOTHING_FAILED, ONLY_IN_FLIGHT].some((goal) => goal.holds(outcome))).toBe(false);
    expect(outcome.serviceAfterFaultMs).toBe(600);
  });

  test("a request that was only held up counts until its answer came; a download may take its time", () => {
    const outcome = judge([
      visit({ startMs: 10_100, tookMs: 4_400 }),
      visit({ kind: "download", startMs: 10_100, tookMs: 9_000 }),
    ]);
    expect([outcome.serviceAfterFaultMs, outcome.serviceAfterBackMs, outcome.slowestMs]).toEqual([4_500, 2_500, 4_400]);
    expect([NEW_ONES_WITHIN_1_S, BACK_WITHIN_2_S].some((goal) => goal.holds(outcome))).toBe(false);
  });

  test("what reached an origin twice, moved or came wrong is counted", () => {
    const records = [visit({ moved: 2 }), visit({ id: 2, wrongBytes: 7 })];
    const outcome = judge(
      records,
      new Map([
        [1, 2],
        [2, 1],
        [99, 5],
      ]),
    );
    expect([outcome.repeated, outcome.moved, outcome.wrongBytes]).toEqual([1, 1, 7]);
  });

  test("connections that do not come back miss the goal", () => {
    const outcome = outcomeOf(
      [visit({})],
      { ...moments, connectedMs: undefined },
      { arrivals: new Map(), edgeRetries: 3 },
      [],
    );
    expect([BACK_WITHIN_2_S.holds(outcome), outcome.edgeRetries]).toEqual([false, 3]);
  });
});
