import { pollUntil } from "../poll-until.ts";
import { Cluster, CONNECTIONS, lines, type Protocol } from "./cluster.ts";
import { type Netlab, SITES, type Site } from "./netlab.ts";
import { type Goal, NO_WRONG_BYTES, NOTHING_FAILED, type Outcome, outcomeOf } from "./outcome.ts";
import type { Scenario } from "./scenarios.ts";
import type { LoadPlan, VisitRecord } from "./visit-record.ts";

/** How much is asked, and for how long before and after a fault. */
export interface Effort {
  readonly aroundMs: number;
  readonly downloadBytes: number;
  readonly brief: boolean;
}

/** A load ends by itself after this long, whatever else happens, in ms. */
const LOAD_AT_MOST_MS = 240_000;
/** Longer than a visitor's patience, so that the last answer counts. */
const LOAD_END_MS = 40_000;
const CONNECTED_DEADLINE_MS = 60_000;

function loadPlan(effort: Effort, times: number): Omit<LoadPlan, "edges" | "hostname"> {
  return {
    ...{ getsPerSecond: 30 * times, slowPerSecond: 12 * times, postsPerSecond: 4 * times },
    ...{ downloads: 4, downloadBytes: effort.downloadBytes, downloadBytesPerSecond: 1_000_000 },
    atMostMs: LOAD_AT_MOST_MS,
  };
}

/** Puts one fault into a cluster whose connections all stand, while visitors ask. */
export async function runScenario(
  lab: Netlab,
  cluster: Cluster,
  protocol: Protocol,
  scenario: Scenario,
  effort: Effort,
): Promise<Outcome> {
  const before = { arrivals: cluster.arrivals(), edgeRetries: cluster.edgeRetries() };
  await using load = cluster.startLoad(loadPlan(effort, scenario.load ?? 1));
  await pause(effort.aroundMs);
  let faultMs = Date.now();
  let backMs = Date.now();
  await scenario.run({
    ...{ lab, cluster, protocol, pause, brief: effort.brief },
    fault: () => {
      faultMs = Date.now();
    },
    back: () => {
      backMs = Date.now();
    },
  });
  await pollUntil(() => connectedSince(cluster, faultMs) !== undefined, {
    what: "all connections registered again",
    deadlineMs: CONNECTED_DEADLINE_MS,
    everyMs: 20,
  }).catch(() => undefined);
  // A lost connection may be noticed only now: the wait is part of what is seen.
  await pause(effort.aroundMs);
  const records = await recordsOf(load);
  await pollUntil(() => connectedSince(cluster, faultMs) !== undefined, {
    what: "all connections registered at the end",
    deadlineMs: CONNECTED_DEADLINE_MS,
  }).catch(() => undefined);
  const moments = { faultMs, backMs, connectedMs: connectedSince(cluster, faultMs) };
  return outcomeOf(records, moments, countsSince(cluster, before), []);
}

/** A connector must serve within this time though UDP is blocked, in ms. */
const SERVING_WITHIN_MS = 10_000;
const ON_QUIC_DEADLINE_MS = 180_000;

/**
 * Connectors with `--protocol auto` start while UDP is blocked, and UDP comes back while they serve. What they must
 * reach is in the goals; the notes tell the two times this is about.
 */
export async function runAutoBlocked(
  lab: Netlab,
  effort: Effort,
): Promise<{ readonly outcome: Outcome; readonly goals: readonly Goal[] }> {
  lab.blockUdp(SITES);
  await using cluster = await Cluster.start(lab, "auto");
  const startedMs = Date.now();
  for (const site of SITES) cluster.startConnector(site);
  await cluster.connected();
  const blocked = protocolsOf(cluster);
  const servingMs = Math.max(...SITES.map((site) => firstReady(cluster, site))) - startedMs;
  await using load = cluster.startLoad(loadPlan(effort, 1));
  await pause(effort.aroundMs);
  lab.restore();
  const backMs = Date.now();
  const onQuic = await pollUntil(() => (protocolsOf(cluster) === "quic" ? Date.now() : undefined), {
    what: "every connection on QUIC",
    deadlineMs: ON_QUIC_DEADLINE_MS,
    everyMs: 50,
  }).catch(() => undefined);
  await pause(effort.aroundMs);
  const records = await recordsOf(load);
  const counts = { arrivals: cluster.arrivals(), edgeRetries: cluster.edgeRetries() };
  const outcome = outcomeOf(records, { faultMs: backMs, backMs, connectedMs: onQuic }, counts, [
    `both connectors serving over ${blocked} ${(servingMs / 1_000).toFixed(1)} s after their start`,
    onQuic === undefined
      ? `not on QUIC ${ON_QUIC_DEADLINE_MS / 1_000} s after the block was lifted`
      : `every connection on QUIC ${((onQuic - backMs) / 1_000).toFixed(1)} s after the block was lifted`,
  ]);
  const overHttp2 = blocked === "http2" && servingMs <= SERVING_WITHIN_MS;
  const goals: readonly Goal[] = [
    { text: "serving over HTTP/2 within 10 s", holds: () => overHttp2 },
    { text: "back on QUIC", holds: () => onQuic !== undefined },
    NOTHING_FAILED,
    NO_WRONG_BYTES,
  ];
  return { outcome, goals };
}

/** The protocols of all connections, each named once. */
function protocolsOf(cluster: Cluster): string {
  const all = SITES.flatMap((site) => [...cluster.protocols(site).values()]);
  return [...new Set(all)].toSorted().join(" and ");
}

function firstReady(cluster: Cluster, site: Site): number {
  return cluster.readyChanges(site).find(({ count }) => count > 0)?.atMs ?? Number.POSITIVE_INFINITY;
}

/** Since when every connector has all its connections without a break; undefined while one has not. */
function connectedSince(cluster: Cluster, notBeforeMs: number): number | undefined {
  const since = SITES.map((site) => cluster.readyChanges(site).at(-1)).map((last) =>
    last?.count === CONNECTIONS ? last.atMs : undefined,
  );
  return since.some((atMs) => atMs === undefined) ? undefined : Math.max(notBeforeMs, ...since.map(Number));
}

function countsSince(
  cluster: Cluster,
  before: { readonly arrivals: ReadonlyMap<number, number>; readonly edgeRetries: number | undefined },
) {
  // Ids begin anew with each load.
  const arrivals = new Map<number, number>();
  for (const [id, times] of cluster.arrivals()) arrivals.set(id, times - (before.arrivals.get(id) ?? 0));
  const retries = cluster.edgeRetries();
  return { arrivals, edgeRetries: retries === undefined ? undefined : retries - (before.edgeRetries ?? 0) };
}

async function recordsOf(load: ReturnType<Cluster["startLoad"]>): Promise<readonly VisitRecord[]> {
  load.signal("SIGTERM");
  await load.exitCode(LOAD_END_MS);
  return lines(load).map((line) => JSON.parse(line) as VisitRecord);
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
