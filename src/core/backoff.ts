import type { Random } from "./clock.ts";

/**
 * Randomised exponential wait: uniform in [0, base × 2^n), n = number of failures so far, capped at `maxDoublings`
 * (protocol: section 1.7). It never gives up; the cap only bounds the wait.
 */
export class Backoff {
  readonly #baseMs: number;
  readonly #maxDoublings: number;
  readonly #random: Random;
  #failures = 0;

  constructor(options: { baseMs: number; maxDoublings: number; random: Random }) {
    this.#baseMs = options.baseMs;
    this.#maxDoublings = options.maxDoublings;
    this.#random = options.random;
  }

  /** Failures since the last reset, as told to the edge in `numPreviousAttempts`. */
  get failures(): number {
    return this.#failures;
  }

  /** Counts one failure and says how long to wait, in ms. */
  next(): number {
    this.#failures += 1;
    return this.#random() * this.#baseMs * 2 ** Math.min(this.#failures, this.#maxDoublings);
  }

  /** Forgets the failures; called after a success. */
  reset(): void {
    this.#failures = 0;
  }
}
