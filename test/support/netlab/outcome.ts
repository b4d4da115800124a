import type { VisitKind, VisitRecord } from "./visit-record.ts";

/** A request that takes this much longer than meant was troubled, though it did not fail, in ms. */
const TROUBLED_MS = 1_000;

/** The moments of a fault, in ms since the epoch. */
export interface Moments {
  readonly faultMs: number;
  /** When the cause was gone: link back, process started again. */
  readonly backMs: number;
  /** When every connection was registered again after `backMs`; undefined when that did not happen in time. */
  readonly connectedMs: number | undefined;
}

/** What one fault did to the visitors' requests. */
export interface Outcome {
  readonly requests: number;
  readonly failed: Readonly<Record<VisitKind, number>>;
  /** Failed requests that had begun before the fault. */
  readonly failedInFlight: number;
  readonly failedLater: number;
  readonly failures: Readonly<Record<string, number>>;
  readonly moved: number;
  /** Requests that reached an origin more than once. */
  readonly repeated: number;
  readonly edgeRetries: number | undefined;
  readonly wrongBytes: number;
  readonly slowestMs: number;
  /**
   * From the fault, and from its end, until the last request was over that began after the fault and failed or was held
   * up; 0 = there was none, or it was over before.
   */
  readonly serviceAfterFaultMs: number;
  readonly serviceAfterBackMs: number;
  /** From the end of the fault until every connection was registered. */
  readonly connectedAfterMs: number | undefined;
  /** Figures of this fault alone. */
  readonly notes: readonly string[];
}

export function outcomeOf(
  records: readonly VisitRecord[],
  moments: Moments,
  counts: { readonly arrivals: ReadonlyMap<number, number>; readonly edgeRetries: number | undefined },
  notes: readonly string[],
): Outcome {
  const failed = records.filter((record) => record.failure !== undefined);
  const inFlight = failed.filter((record) => record.startMs < moments.faultMs).length;
  const byKind = { get: 0, slow: 0, post: 0, download: 0 };
  const failures: Record<string, number> = {};
  for (const { kind, failure = "" } of failed) {
    byKind[kind] += 1;
    failures[failure] = (failures[failure] ?? 0) + 1;
  }
  const short = records.filter((record) => record.kind !== "download");
  const troubled = [...failed, ...short.filter((record) => record.tookMs > TROUBLED_MS)];
  const newOnes = troubled.filter((record) => record.startMs >= moments.faultMs);
  const lastOverMs = Math.max(0, ...newOnes.map((record) => record.startMs + record.tookMs));
  const known = new Set(records.map((record) => record.id));
  return {
    requests: records.length,
    failed: byKind,
    failedInFlight: inFlight,
    failedLater: failed.length - inFlight,
    failures,
    moved: records.filter((record) => record.moved > 0).length,
    repeated: [...counts.arrivals].filter(([id, times]) => known.has(id) && times > 1).length,
    edgeRetries: counts.edgeRetries,
    wrongBytes: records.reduce((sum, record) => sum + record.wrongBytes, 0),
    slowestMs: Math.max(0, ...short.map((record) => record.tookMs)),
    serviceAfterFaultMs: Math.max(0, lastOverMs - moments.faultMs),
    serviceAfterBackMs: Math.max(0, lastOverMs - moments.backMs),
    connectedAfterMs: moments.connectedMs === undefined ? undefined : Math.max(0, moments.connectedMs - moments.backMs),
    notes,
  };
}

export function failedOf(outcome: Outcome): number {
  return outcome.failedInFlight + outcome.failedLater;
}

/** What must hold, by name, and whether it does. */
export type Goal = { readonly text: string; readonly holds: (outcome: Outcome) => boolean };

export const NO_WRONG_BYTES: Goal = { text: "0 wrong bytes", holds: (outcome) => outcome.wrongBytes === 0 };
export const NOTHING_FAILED: Goal = { text: "0 failed", holds: (outcome) => failedOf(outcome) === 0 };
export const NO_GET_FAILED: Goal = {
  text: "0 GETs failed, downloads apart",
  holds: ({ failed }) => failed.get + failed.slow === 0,
};
export const ONLY_IN_FLIGHT: Goal = {
  text: "only requests in flight failed",
  holds: (outcome) => outcome.failedLater === 0,
};
export const NEW_ONES_WITHIN_1_S: Goal = {
  text: "new requests fine within 1 s",
  holds: (outcome) => outcome.serviceAfterFaultMs < 1_000,
};
export const BACK_WITHIN_2_S: Goal = {
  text: "service and connections back within 2 s of the link",
  holds: ({ serviceAfterBackMs, connectedAfterMs = Number.POSITIVE_INFINITY }) =>
    serviceAfterBackMs < 2_000 && connectedAfterMs < 2_000,
};
