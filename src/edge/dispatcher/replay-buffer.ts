/** Request body kept so that a request can go to another connection, in bytes. A longer one stays where it is. */
export const MAX_REPLAY_BYTES = 64 * 1024;
/** The same for all requests of the edge together. Beyond it requests lose their second chance, not their bytes. */
export const MAX_TOTAL_REPLAY_BYTES = 256 * 1024 * 1024;

const FIRST_BYTES = 1024;

/** What all replay buffers of a dispatcher hold together, in bytes. */
export class ReplayBudget {
  used = 0;
}

/**
 * The beginning of a request's body. Copies: what comes from a socket is a view of something much larger, which a single
 * kept byte would hold in memory.
 */
export class ReplayBuffer {
  readonly #budget: ReplayBudget;
  #bytes: Uint8Array | undefined;
  #length = 0;

  constructor(budget: ReplayBudget) {
    this.#budget = budget;
  }

  get length(): number {
    return this.#length;
  }

  /** What was kept, valid until the next `append`. */
  get bytes(): Uint8Array {
    return this.#bytes?.subarray(0, this.#length) ?? new Uint8Array(0);
  }

  /** False = there is no room, in the budget of all or, beyond {@link MAX_REPLAY_BYTES}, in this one; nothing was kept. */
  append(chunk: Uint8Array, mayExceed = false): boolean {
    const length = this.#length + chunk.length;
    if (length > MAX_REPLAY_BYTES && !mayExceed) return false;
    const room = this.#bytes?.length ?? 0;
    if (length > room) {
      const larger = Math.max(length, Math.min(MAX_REPLAY_BYTES, Math.max(FIRST_BYTES, 2 * room)));
      if (this.#budget.used + larger - room > MAX_TOTAL_REPLAY_BYTES) return false;
      this.#budget.used += larger - room;
      const bytes = new Uint8Array(larger);
      bytes.set(this.bytes);
      this.#bytes = bytes;
    }
    this.#bytes?.set(chunk, this.#length);
    this.#length = length;
    return true;
  }

  /** Gives everything back. */
  release(): void {
    this.#budget.used -= this.#bytes?.length ?? 0;
    this.#bytes = undefined;
    this.#length = 0;
  }
}
