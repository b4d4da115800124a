import { describe, expect, test } from "bun:test";
import { methodName, pathOf, serverAddress, spanName, Tracer } from "../../../../src/ops/tracing/tracer.ts";
import { VirtualClock } from "../../../support/virtual-clock.ts";

function tracer(ratio: number, clock = new VirtualClock()): Tracer {
  return new Tracer({ sink: { add: () => {} }, ratio, clock });
}

const PARENT = { traceId: "a".repeat(32), spanId: "b".repeat(16) };

describe("what is recorded", () => {
  test("the parent decides, whatever the ratio", () => {
    const sampled = tracer(0).begin({ ...PARENT, sampled: true });
    expect(sampled).toMatchObject({ traceId: PARENT.traceId, sampled: true });
    expect(sampled.spanId).toMatch(/^[0-9a-f]{16}$/);
    expect(sampled.spanId).not.toBe(PARENT.spanId);
    // Nobody records a span of ours, so what comes next hangs below the parent.
    expect(tracer(1).begin({ ...PARENT, sampled: false })).toEqual({ ...PARENT, sampled: false });
  });

  test.each([0, 0.1, 0.5, 1])("a ratio of %p is kept to", (ratio) => {
    const roots = Array.from({ length: 4_000 }, () => tracer(ratio).begin(undefined));
    const part = roots.filter(({ sampled }) => sampled).length / roots.length;
    expect(Math.abs(part - ratio)).toBeLessThan(ratio === 0 || ratio === 1 ? 1e-9 : 0.05);
    expect(new Set(roots.map(({ traceId }) => traceId)).size).toBe(roots.length);
    for (const { traceId, spanId } of roots) expect(`${traceId}-${spanId}`).toMatch(/^[0-9a-f]{32}-[0-9a-f]{16}$/);
  });
});

test("between two ticks of the wall clock the monotonic one counts, and a jump of the wall is followed", () => {
  let nowMs = 0;
  let wallMs = 1_767_225_600_000;
  const clock = new VirtualClock();
  const shown = tracer(1, Object.assign(clock, { nowMs: () => nowMs, wallMs: () => Math.floor(wallMs) }));
  const fromUs = shown.nowUs();
  nowMs += 0.25;
  wallMs += 0.25;
  expect(shown.nowUs() - fromUs).toBe(250);
  wallMs -= 3_600_000;
  expect(Math.abs(shown.nowUs() - wallMs * 1_000)).toBeLessThanOrEqual(1_000);
  wallMs += 7_200_000;
  expect(Math.abs(shown.nowUs() - wallMs * 1_000)).toBeLessThanOrEqual(1_000);
});

test("what visitors make up is bounded, and has no query", () => {
  expect([methodName("GET"), spanName("GET")]).toEqual(["GET", "GET"]);
  expect([methodName("X-MADE-UP"), spanName("X-MADE-UP")]).toEqual(["_OTHER", "HTTP"]);
  expect(pathOf("/a/b?token=secret")).toBe("/a/b");
  expect(pathOf("/caf\u00c3\u00a9")).toBe("/caf%C3%A9");
  expect(pathOf(`/${"x".repeat(9_000)}`)).toHaveLength(256);
  expect(serverAddress("App.Example:8443")).toBe("app.example");
  expect(serverAddress("[2001:DB8::1]:80")).toBe("2001:db8::1");
  expect(serverAddress("[broken")).not.toContain(":");
  expect(serverAddress("x".repeat(900)).length).toBe(255);
});
