import { describe, expect, test } from "bun:test";
import { type MaintenanceWindow, nextCheckMs, parseWindow } from "../../../src/update/schedule.ts";
import { seededRandom } from "../../support/seeded-random.ts";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;

function window(text: string): MaintenanceWindow {
  const parsed = parseWindow(text);
  if (!parsed.ok) throw new Error(`${text}: ${parsed.issues[0]?.message}`);
  return parsed.value;
}

/** Local time of a Wednesday. */
function at(hour: number, minute = 0, day = 7): number {
  return new Date(2026, 0, day, hour, minute).getTime();
}

/** Times of checks, from chance of one kind each. */
function checks(wallMs: number, everyMs: number, text?: string): readonly Date[] {
  const random = seededRandom(1);
  const given = text === undefined ? undefined : window(text);
  return Array.from({ length: 500 }, () => new Date(wallMs + nextCheckMs({ everyMs, window: given }, wallMs, random)));
}

describe("without a window", () => {
  test("checks are spread over a whole period around the mean", () => {
    const waits = checks(at(12), DAY).map((time) => (time.getTime() - at(12)) / DAY);
    expect(Math.min(...waits)).toBeGreaterThanOrEqual(0.5);
    expect(Math.min(...waits)).toBeLessThan(0.55);
    expect(Math.max(...waits)).toBeGreaterThan(1.45);
    expect(Math.max(...waits)).toBeLessThanOrEqual(1.5);
  });
});

describe("with a window", () => {
  test("checks fall into it, spread, and not into its last fifth", () => {
    const minutes = checks(at(12), DAY, "02:00-04:00").map((time) => time.getHours() * 60 + time.getMinutes());
    expect(Math.min(...minutes)).toBeGreaterThanOrEqual(120);
    expect(Math.min(...minutes)).toBeLessThan(125);
    expect(Math.max(...minutes)).toBeLessThan(216);
    expect(Math.max(...minutes)).toBeGreaterThan(210);
  });

  test("one over midnight is one window", () => {
    for (const time of checks(at(12), DAY, "23:00-01:00")) expect([23, 0]).toContain(time.getHours());
    // At half past midnight yesterday's is still open.
    const soon = checks(at(0, 10), HOUR / 10, "23:00-01:00").map((time) => time.getTime());
    expect(Math.max(...soon)).toBeLessThan(at(1));
  });

  test("only days that it names, the day it opens on counts", () => {
    const days = checks(at(12), DAY, "sat,sun 22:00-02:00").map((time) => time.getDay());
    expect([...new Set(days)].sort()).toEqual([0, 6]);
    const sunday = checks(at(12), DAY, "Sun 22:00-02:00").map((time) => time.getDay());
    expect([...new Set(sunday)].sort()).toEqual([0, 1]);
  });

  test("a whole day is always open", () => {
    for (const time of checks(at(12), HOUR, "00:00-00:00")) {
      expect(time.getTime() - at(12)).toBeLessThanOrEqual(DAY);
      expect(time.getTime() - at(12)).toBeGreaterThanOrEqual(HOUR / 2);
    }
  });

  test("too late in one means the next one", () => {
    for (const time of checks(at(3, 50), 60_000, "02:00-04:00")) expect(time.getDate()).toBe(8);
  });
});

test.each([
  "",
  "2-4",
  "02:00",
  "24:00-01:00",
  "02:60-03:00",
  "someday 02:00-03:00",
  "mon,, 02:00-03:00",
  "02:00-03:00 mon",
])("%p is no window", (text) => {
  expect(parseWindow(text).ok).toBe(false);
});
