/** A bucket's size and how fast it fills. */
export interface Rate {
  /** Tokens a second, above 0. */
  readonly perSecond: number;
  /** Tokens of a full bucket, at least 1. */
  readonly burst: number;
}

/**
 * Token buckets by key, each kept as the one moment at which it is full again (the "virtual scheduling" form of the
 * generic cell rate algorithm, ITU-T I.371). A key whose bucket is full takes no memory for longer than until the next
 * sweep. When the table is full of keys that are not, the one that came first is forgotten: to be forgotten early is
 * the gain of whoever can come from more addresses than the table holds, and no harm to anybody else.
 */
export class TokenBuckets {
  readonly #maxKeys: number;
  readonly #stepMs: number;
  readonly #depthMs: number;
  readonly #fullAtMs = new Map<string, number>();
  #sweptAtMs = Number.NEGATIVE_INFINITY;

  constructor(rate: Rate, maxKeys: number) {
    this.#maxKeys = maxKeys;
    this.#stepMs = 1_000 / rate.perSecond;
    this.#depthMs = this.#stepMs * (rate.burst - 1);
  }

  /** Keys whose bucket is remembered. */
  get size(): number {
    return this.#fullAtMs.size;
  }

  /**
   * Takes a token. 0 = there was one; else how long it takes until there is one, in ms, and nothing was taken.
   * `nowMs` must not go back.
   */
  take(key: string, nowMs: number): number {
    const fullAtMs = Math.max(this.#fullAtMs.get(key) ?? nowMs, nowMs);
    const waitMs = fullAtMs - nowMs - this.#depthMs;
    // Sums of fractions are a little off.
    if (waitMs > 1e-6) return waitMs;
    if (!this.#fullAtMs.has(key) && this.#fullAtMs.size >= this.#maxKeys) this.#makeRoom(nowMs);
    this.#fullAtMs.set(key, fullAtMs + this.#stepMs);
    return 0;
  }

  /** Forgets the full buckets; called every second or so. */
  sweep(nowMs: number): void {
    for (const [key, fullAtMs] of this.#fullAtMs) if (fullAtMs <= nowMs) this.#fullAtMs.delete(key);
    this.#sweptAtMs = nowMs;
  }

  #makeRoom(nowMs: number): void {
    // A flood of new keys must not cost a walk over the table for each of them.
    if (nowMs - this.#sweptAtMs >= 1_000) this.sweep(nowMs);
    if (this.#fullAtMs.size < this.#maxKeys) return;
    for (const first of this.#fullAtMs.keys()) {
      this.#fullAtMs.delete(first);
      return;
    }
  }
}
