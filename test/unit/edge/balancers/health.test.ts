import { expect, test } from "bun:test";
import { TunnelError } from "../../../../src/core/errors.ts";
import { newTunnelId, type TunnelId } from "../../../../src/core/ids.ts";
import {
  CheckHealth,
  EJECT_AFTER,
  EJECT_MS,
  Ejections,
  isFault,
  isFaulty,
  MAX_EJECT_MS,
} from "../../../../src/edge/dispatcher/balancers/health.ts";
import type { Monitor } from "../../../../src/edge/store/port.ts";

const MEMBERS = Array.from({ length: 4 }, newTunnelId);
const [A, B, C, D] = MEMBERS as [TunnelId, TunnelId, TunnelId, TunnelId];

/** Fails so often in a row; gives the last word. */
function fail(ejections: Ejections, tunnelId: TunnelId, nowMs: number, times = EJECT_AFTER, members = MEMBERS) {
  let forMs: number | undefined;
  for (let i = 0; i < times; i += 1) forMs = ejections.failed(tunnelId, members, nowMs);
  return forMs;
}

test("failures in a row leave a tunnel out for a while, and an answer in between begins anew", () => {
  const ejections = new Ejections();
  expect(fail(ejections, A, 0, EJECT_AFTER - 1)).toBeUndefined();
  ejections.answered(A, 0);
  expect(fail(ejections, A, 0, EJECT_AFTER - 1)).toBeUndefined();
  expect(ejections.isOut(A, 0)).toBe(false);
  expect(ejections.failed(A, MEMBERS, 0)).toBe(EJECT_MS);
  expect(ejections.isOut(A, EJECT_MS - 1)).toBe(true);
  expect(ejections.isOut(A, EJECT_MS)).toBe(false);
});

test("each time in a row is twice as long, up to a limit, and an answer forgives all", () => {
  const ejections = new Ejections();
  let nowMs = 0;
  const times: number[] = [];
  let forMs = fail(ejections, A, nowMs);
  for (let i = 0; i < 8; i += 1) {
    times.push(forMs ?? 0);
    // What began before it was left out says nothing new.
    expect(ejections.failed(A, MEMBERS, nowMs)).toBeUndefined();
    ejections.answered(A, nowMs);
    nowMs += forMs ?? 0;
    // It has shown nothing since, so one failure is enough.
    forMs = ejections.failed(A, MEMBERS, nowMs);
  }
  expect(times).toEqual([10_000, 20_000, 40_000, 80_000, 160_000, MAX_EJECT_MS, MAX_EJECT_MS, MAX_EJECT_MS]);
  nowMs += MAX_EJECT_MS;
  ejections.answered(A, nowMs);
  expect(fail(ejections, A, nowMs)).toBe(EJECT_MS);
});

test.each([
  { size: 1, out: 0 },
  { size: 2, out: 1 },
  { size: 3, out: 1 },
  { size: 4, out: 2 },
])("of $size tunnels that all fail $out are left out", ({ size, out }) => {
  const ejections = new Ejections();
  const members = MEMBERS.slice(0, size);
  for (const member of members) fail(ejections, member, 0, EJECT_AFTER, members);
  expect(members.filter((member) => ejections.isOut(member, 1))).toHaveLength(out);
});

test("one that could not be left out is, as soon as there is room", () => {
  const ejections = new Ejections();
  for (const member of [A, B]) fail(ejections, member, 0);
  expect(fail(ejections, C, 0)).toBeUndefined();
  expect(ejections.failed(C, MEMBERS, EJECT_MS)).toBe(EJECT_MS);
  ejections.keep(new Set([B, D]));
  expect(ejections.isOut(C, EJECT_MS)).toBe(false);
});

test.each([
  { code: "session.lost", fault: true },
  { code: "stream.refused", fault: true },
  { code: "stream.reset", fault: true },
  { code: "stream.limit", fault: false },
  { code: "aborted", fault: false },
] as const)("$code speaks against the tunnel: $fault", ({ code, fault }) => {
  expect(isFault(new TunnelError(code, "x"))).toBe(fault);
});

test.each([[200], [404], [500], [503], [502], [530]])(
  "status %i speaks against the tunnel only where nobody answered",
  (status) => {
    expect(isFaulty(status)).toBe(status === 502 || status === 530);
  },
);

const MONITOR: Monitor = {
  ...{ path: "/", host: undefined, intervalMs: 1_000, timeoutMs: 100, expect: [200, 299] as const },
  ...{ unhealthyAfter: 3, healthyAfter: 2 },
};

test.each([
  { checks: "--", well: true },
  { checks: "---", well: false },
  { checks: "--+--", well: true },
  { checks: "---+", well: false },
  { checks: "---++", well: true },
  { checks: "---+-+", well: false },
  { checks: "---+-++", well: true },
])("checks $checks leave it well: $well", ({ checks, well }) => {
  const health = new CheckHealth();
  for (const check of checks) health.checked(check === "+" ? undefined : "status 500", MONITOR);
  expect(health.problem === undefined).toBe(well);
});
