import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { formatDuration, parseDuration } from "../../../src/core/duration.ts";

describe("parseDuration", () => {
  test.each([
    { text: "0", ms: 0 },
    { text: "30s", ms: 30_000 },
    { text: "+30s", ms: 30_000 },
    { text: "-1.5h", ms: -5_400_000 },
    { text: "1m30s", ms: 90_000 },
    { text: "300ms", ms: 300 },
    { text: "1.s", ms: 1_000 },
    { text: ".5s", ms: 500 },
    { text: "1.005s", ms: 1_005 },
    { text: "100us", ms: 0.1 },
    { text: "100µs", ms: 0.1 },
    { text: "100μs", ms: 0.1 },
    { text: "1ns", ms: 1e-6 },
    { text: "2562047h", ms: 9_223_369_200_000 },
  ])("$text is $ms ms", ({ text, ms }) => {
    expect(parseDuration(text)).toBe(ms);
  });

  test.each(["", "+", "-", "30", "s", ".s", "1.5", "1 s", " 1s", "1s ", "1d", "1S", "1e3s", "--1s", "1s-1s", "0x1s"])(
    "%p is no duration",
    (text) => {
      expect(parseDuration(text)).toBeUndefined();
    },
  );

  test("refuses what Go's 63 bits of nanoseconds cannot hold", () => {
    expect(parseDuration("2562048h")).toBeUndefined();
    expect(parseDuration(`${"9".repeat(400)}h`)).toBeUndefined();
  });
});

test.each([
  { ms: 0, text: "0s" },
  { ms: 0.000001, text: "1ns" },
  { ms: 0.5, text: "500µs" },
  { ms: 1.5, text: "1.5ms" },
  { ms: 999, text: "999ms" },
  { ms: 1_500, text: "1.5s" },
  { ms: 60_000, text: "1m0s" },
  { ms: 86_400_000, text: "24h0m0s" },
  { ms: -90_000, text: "-1m30s" },
])("formatDuration($ms) is $text, as Go writes it", ({ ms, text }) => {
  expect(formatDuration(ms)).toBe(text);
});

test("what is written is read again, to the millisecond", () => {
  fc.assert(
    fc.property(fc.integer({ min: -(10 ** 12), max: 10 ** 12 }), (ms) => {
      expect(parseDuration(formatDuration(ms))).toBe(ms);
    }),
  );
});
