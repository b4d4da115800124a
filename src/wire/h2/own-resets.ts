/** Streams remembered one by one; about as many as a peer may have reset before its connection is ended for it. */
const MAX_REMEMBERED = 1024;

/**
 * Streams that we reset. What their peer sent before it heard of it is no fault of its own and is skipped, unlike a
 * frame for a stream that the peer itself has ended (RFC 9113 section 5.1, "closed").
 */
export class OwnResets {
  /** In the order in which they were reset. */
  readonly #ids = new Set<number>();
  #forgottenUpTo = 0;

  add(id: number): void {
    this.#ids.add(id);
    if (this.#ids.size <= MAX_REMEMBERED) return;
    const [oldest = 0] = this.#ids;
    this.#ids.delete(oldest);
    this.#forgottenUpTo = Math.max(this.#forgottenUpTo, oldest);
  }

  /** True when the stream is, or may have been, one of them. */
  mayHold(id: number): boolean {
    return id <= this.#forgottenUpTo || this.#ids.has(id);
  }
}
