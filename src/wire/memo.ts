/**
 * Remembers what a pure function gave for short texts. Bounded by two generations: when the younger is full the older
 * is dropped, so texts in steady use stay and one-off texts go, without a list to keep in order.
 */
export class Memo<T> {
  readonly #compute: (text: string) => T;
  readonly #maxEntries: number;
  readonly #maxTextChars: number;
  #young = new Map<string, T>();
  #old = new Map<string, T>();

  /**
   * @param options.maxEntries entries of one generation; at most twice as many are held
   * @param options.maxTextChars longer texts are computed each time
   */
  constructor(compute: (text: string) => T, options: { maxEntries: number; maxTextChars: number }) {
    this.#compute = compute;
    this.#maxEntries = options.maxEntries;
    this.#maxTextChars = options.maxTextChars;
  }

  /** Entries held now. */
  get size(): number {
    return this.#young.size + this.#old.size;
  }

  get(text: string): T {
    const known = this.#young.get(text);
    if (known !== undefined) return known;
    if (text.length > this.#maxTextChars) return this.#compute(text);
    const value = this.#old.get(text) ?? this.#compute(text);
    if (this.#young.size >= this.#maxEntries) {
      this.#old = this.#young;
      this.#young = new Map();
    }
    this.#young.set(text, value);
    return value;
  }
}
