/** One piece of the program that takes bytes of somebody else's choice. */
export interface Target {
  /** Also the name of its corpus. */
  readonly name: string;
  /** What mutations insert: keywords and magic numbers. */
  readonly words?: readonly (string | Uint8Array)[];
  /** Valid inputs to start from. */
  seeds(): readonly Uint8Array[];
  /** A fresh input that is right, or nearly so. */
  generate?(chance: Chance): Uint8Array;
  /**
   * Takes one input and returns what became of it in a few words: inputs with a new outcome are kept. Throws a
   * {@link Violation}, or whatever the code under test lets through, when something is wrong; a refusal is not.
   */
  run(input: Uint8Array): string | Promise<string>;
  /** For decoders of endless streams: a fresh one, whose memory must not grow with what it is fed. */
  open?(): (chunk: Uint8Array) => void;
}

/** A promise of the code under test that does not hold. */
export class Violation extends Error {
  override readonly name = "Violation";
}

/** Throws a {@link Violation} that says what should hold. */
export function must(holds: boolean, promise: string): asserts holds {
  if (!holds) throw new Violation(promise);
}

/** Both as JSON text must be the same; plain values only, since nobody looks into private fields. */
export function mustEqual(actual: unknown, expected: unknown, promise: string): void {
  if (Bun.deepEquals(actual, expected, true)) return;
  const [found, wanted] = [shown(actual), shown(expected)];
  if (found !== wanted) throw new Violation(`${promise}\n  found  ${cut(found)}\n  wanted ${cut(wanted)}`);
}

/** A value as text, bytes in hexadecimal. */
function shown(value: unknown): string {
  return (
    JSON.stringify(value, (_, part: unknown) => {
      if (part instanceof Uint8Array) return `0x${part.toHex()}`;
      return typeof part === "bigint" ? `${part}n` : part;
    }) ?? "undefined"
  );
}

function cut(text: string): string {
  return text.length > 2000 ? `${text.slice(0, 2000)}…` : text;
}

/** Choices of one run; the same seed gives the same ones. */
export class Chance {
  readonly #random: () => number;

  constructor(random: () => number) {
    this.#random = random;
  }

  /** A whole number from 0 to below `limit`. */
  below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }

  /** True once in `n` times. */
  once(n: number): boolean {
    return this.below(n) === 0;
  }

  pick<T>(list: readonly T[]): T {
    if (list.length === 0) throw new Error("nothing to choose from");
    return list[this.below(list.length)] as T;
  }

  bytes(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => this.below(256));
  }

  /** Up to `max` results of `make`. */
  some<T>(max: number, make: () => T): T[] {
    return Array.from({ length: this.below(max + 1) }, make);
  }

  /** Up to `max` chars of an alphabet. */
  text(alphabet: string, max: number): string {
    return this.some(max, () => alphabet[this.below(alphabet.length)]).join("");
  }
}
