/**
 * Which transport a connection uses: an explicit score for each, by index, the preferred one first. Falls back when one
 * does not get through, and says when to try it again (protocol: section 1.6; better than there: it comes back). Pure.
 */

export interface TransportScore {
  /** Times in a row that the network did not carry it, anywhere. */
  readonly failures: number;
  /** When a connection on a worse one may try this one, in ms. */
  readonly retryAtMs: number;
  /** Such tries that failed in a row. */
  readonly failedReturns: number;
}

/** Wait before the first return to a transport that failed; doubles with each that fails, in ms. */
export const RETURN_BASE_MS = 15_000;
const MAX_RETURN_DOUBLINGS = 5;

export function createScores(count: number): readonly TransportScore[] {
  return Array.from({ length: count }, () => ({ failures: 0, retryAtMs: 0, failedReturns: 0 }));
}

/**
 * The transport with the fewest failures, the preferred one among equals. `misses`: what this connection alone saw fail,
 * by index; `triesEach`: how many of them count as one.
 */
export function chooseTransport(
  scores: readonly TransportScore[],
  misses: readonly number[],
  triesEach: number,
): number {
  let best = 0;
  let least = Number.POSITIVE_INFINITY;
  scores.forEach((score, index) => {
    const total = score.failures + Math.floor((misses[index] ?? 0) / triesEach);
    if (total < least) {
      best = index;
      least = total;
    }
  });
  return best;
}

/** A dial or a registered connection on this transport failed as a blocked network makes it fail. */
export function noteBlocked(scores: readonly TransportScore[], transport: number, nowMs: number) {
  return scores.map((score, index) =>
    index === transport ? { ...score, failures: score.failures + 1, retryAtMs: nowMs + returnDelay(score) } : score,
  );
}

/** A return to this transport failed, while others carry the tunnel. */
export function noteFailedReturn(scores: readonly TransportScore[], transport: number, nowMs: number) {
  return scores.map((score, index) => {
    if (index !== transport) return score;
    const failedReturns = score.failedReturns + 1;
    return { ...score, failedReturns, retryAtMs: nowMs + returnDelay({ failedReturns }) };
  });
}

/**
 * A connection registered over this transport. Better ones stay under suspicion if they were, but one failure of this
 * one is enough to try them again; worse ones start afresh.
 */
export function noteRegistered(scores: readonly TransportScore[], transport: number) {
  return scores.map((score, index) => {
    if (index < transport) return { ...score, failures: Math.min(score.failures, 1) };
    return { failures: 0, retryAtMs: 0, failedReturns: 0 };
  });
}

/** In ms. */
function returnDelay(score: { readonly failedReturns: number }): number {
  return RETURN_BASE_MS * 2 ** Math.min(score.failedReturns, MAX_RETURN_DOUBLINGS);
}
