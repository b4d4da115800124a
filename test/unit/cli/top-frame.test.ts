import { describe, expect, test } from "bun:test";
import { bytes, formatTime, quantile, type Reading, topFrame, tunnelRates } from "../../../src/cli/top-frame.ts";
import type { EdgeNumbers, TunnelNumbers } from "../../../src/edge/control/stats.ts";

const NO_ANSWERS = { 0: 0, 1: 0, 2: 0, 3: 0, 4: 0, 5: 0 };
const SCREEN = { columns: 80, rows: 24, clock: "10:00:00" };

function tunnel(name: string, numbers: Partial<TunnelNumbers> = {}): TunnelNumbers {
  return {
    ...{ id: name, name, status: "healthy", connectors: 1, connections: 4, running: 0, requests: 0 },
    ...{ answers: NO_ANSWERS, bytesIn: 0, bytesOut: 0, latency: [0, 0, 0] },
    ...numbers,
  };
}

function reading(
  atMs: number,
  list: readonly TunnelNumbers[],
  visitors: Partial<EdgeNumbers["visitors"]> = {},
): Reading {
  return {
    atMs,
    numbers: {
      ...{ version: "1", location: "ams01", startedAt: "2026-11-21T10:00:00Z", uptimeMs: 90_061_000, protocols: [] },
      addresses: { http: "", https: null, tunnel: "", api: null, metrics: null, inspect: null },
      visitors: {
        ...{
          openConnections: 7,
          connections: 9,
          requests: 0,
          answers: NO_ANSWERS,
          malformed: 0,
          limited: 0,
          retries: 0,
        },
        ...{ bytesIn: 0, bytesOut: 0, ...visitors },
      },
      tunnels: { total: 3, connected: list.length, connections: 8, hostnames: 5 },
      ...{ latencyBounds: [0.01, 0.1], list: [...list], more: 0 },
    },
  };
}

test("rates are what happened between two looks", () => {
  const before = reading(1_000, [tunnel("web", { requests: 100, answers: { ...NO_ANSWERS, 2: 100 }, bytesOut: 50 })]);
  const now = reading(3_000, [
    tunnel("idle"),
    tunnel("web", {
      ...{ requests: 120, answers: { ...NO_ANSWERS, 2: 115, 5: 5 }, bytesOut: 4_146, running: 3 },
      latency: [10, 10, 0],
    }),
  ]);
  expect(tunnelRates(before, now)[0]).toMatchObject({
    ...{ name: "web", requestsPerS: 10, errors: 0.25, outPerS: 2_048, running: 3, p50: 0.01 },
    p95: expect.closeTo(0.091, 5),
  });
  // Nothing before: nothing can be said of speed.
  expect(tunnelRates(undefined, now).map((one) => [one.name, one.requestsPerS, one.p50])).toEqual([
    ["web", 0, undefined],
    ["idle", 0, undefined],
  ]);
});

test("a whole screen at 80 columns", () => {
  const before = reading(0, [tunnel("web")], {});
  const now = reading(
    1_000,
    [
      tunnel("web", { requests: 250, answers: { ...NO_ANSWERS, 2: 248, 5: 2 }, latency: [200, 50, 0], bytesOut: 3e6 }),
      tunnel("shop", { status: "degraded", connectors: 2, connections: 7, running: 12 }),
    ],
    { requests: 250, answers: { ...NO_ANSWERS, 2: 248, 5: 2 }, bytesIn: 1_500, bytesOut: 3e6 },
  );
  expect(topFrame(before, now, SCREEN)).toEqual([
    "culvert edge ams01, up 1d 01:01:01                             10:00:00  q quits",
    "Tunnels   2 of 3 connected, by 8 connections; 5 hostnames",
    "Visitors  7 connections, 250 requests/s, 0.8% errors",
    "Traffic   1.5K/s in, 2.9M/s out; 0/s limited, 0/s retried",
    "",
    "TUNNEL                 STATE      CONN   REQ/S    ERR    P50    P95  OPEN  OUT/S",
    "web                    healthy     1/4     250   0.8%    6ms   78ms     0   2.9M",
    "shop                   degraded    2/7       0      -      -      -    12     0B",
  ]);
});

describe("whatever is shown fits", () => {
  const names = [
    "web",
    "a".repeat(200),
    "日本語のトンネルの名前はとても長いです",
    "e\u0301".repeat(60),
    "\u001b[31mred\u0007\u202e",
  ];
  const list = names.map((name, i) => tunnel(name, { requests: 10 ** (i * 3), status: "inactive", connections: 100 }));
  for (const columns of [1, 2, 20, 39, 40, 60, 80, 81, 200]) {
    test(`${columns} columns`, () => {
      for (const rows of [1, 3, 7, 8, 24]) {
        const lines = topFrame(reading(0, []), reading(1, list), { columns, rows, clock: "10:00:00" });
        expect(lines.length).toBe(Math.min(rows, 6 + list.length));
        for (const line of lines) {
          expect(line).not.toMatch(/[\u0000-\u001f\u007f\u202e]/);
          expect(Bun.stringWidth(line)).toBeLessThanOrEqual(columns);
        }
        const shown = lines.some((line) => line.startsWith(String.raw`\u001b[31mred\u0007`));
        if (rows === 24) expect(shown).toBe(columns >= 80);
        if (rows === 8 && columns >= 20) expect(lines[5]).toContain("more)");
      }
    });
  }

  test("a narrow screen has the left part of a frame of 40 columns", () => {
    const show = (columns: number) =>
      topFrame(undefined, reading(1, [tunnel("web")]), { columns, rows: 8, clock: "10:00:00" });
    expect(show(20)).toEqual([
      "culvert edge ams01,…",
      "Tunnels   1 of 3 co…",
      "Visitors  7 connect…",
      "Traffic   0B/s in, …",
      "",
      "TUNNEL           ST…",
      "web              he…",
    ]);
    expect(show(40)[6]).toBe("web              healthy     1/4       0");
  });
});

test("percentiles are Prometheus's", () => {
  expect(quantile([1, 2], [0, 0, 0], 0.5)).toBeUndefined();
  expect(quantile([1, 2], [10, 0, 0], 0.5)).toBe(0.5);
  expect(quantile([1, 2], [5, 5, 0], 0.75)).toBe(1.5);
  expect(quantile([1, 2], [0, 0, 5], 0.5)).toBe(2);
});

test("numbers are short", () => {
  expect([0, 999, 1_000, 10_240, 1_048_576, 5e12].map(bytes)).toEqual(["0B", "999B", "1.0K", "10K", "1.0M", "4.5T"]);
  expect([0, 59_999, 3_600_000, 86_400_000 * 40].map(formatTime)).toEqual([
    "00:00:00",
    "00:00:59",
    "01:00:00",
    "40d 00:00:00",
  ]);
});
