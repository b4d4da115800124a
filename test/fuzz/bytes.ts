import { seededRandom } from "../support/seeded-random.ts";
import { Chance, mustEqual } from "./target.ts";

/** One byte a char. */
export function bytesOf(text: string): Uint8Array {
  return Uint8Array.from(text, (char) => char.charCodeAt(0) & 0xff);
}

export function textOf(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return text;
}

export function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

export function joined(...parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** Choices that depend on the input alone (FNV-1a), so that an input always does the same. */
export function chanceOf(input: Uint8Array): Chance {
  let hash = 0x811c9dc5;
  for (const byte of input) hash = Math.imul(hash ^ byte, 0x01000193);
  return new Chance(seededRandom(hash));
}

/**
 * A copy of the input, cut into pieces of 1 to `most` bytes. They lie in one buffer, as parts of a socket's read may: who
 * writes behind the end of one changes the next.
 */
export function pieces(input: Uint8Array, chance: Chance, most: number): Uint8Array[] {
  const copy = input.slice();
  const cut: Uint8Array[] = [];
  for (let at = 0; at < copy.length; ) {
    const end = Math.min(copy.length, at + 1 + chance.below(most));
    cut.push(copy.subarray(at, end));
    at = end;
  }
  return cut;
}

/**
 * Reads the input whole, byte by byte and in two sorts of random pieces: what is found must be the same each time. Gives
 * what was found.
 */
export function sameInPieces<T>(input: Uint8Array, read: (chunks: readonly Uint8Array[]) => T): T {
  const chance = chanceOf(input);
  const whole = read(input.length === 0 ? [] : [input.slice()]);
  const other = (most: number): void =>
    mustEqual(read(pieces(input, chance, most)), whole, `pieces of up to ${most} bytes are read as the whole is`);
  other(1);
  other(5);
  other(Math.max(8, input.length >> 1));
  return whole;
}

/** Bytes that come in pieces. */
export class Gathered {
  readonly #parts: Uint8Array[] = [];

  /** Copies the piece. */
  add(chunk: Uint8Array): void {
    this.#parts.push(chunk.slice());
  }

  get bytes(): Uint8Array {
    return joined(...this.#parts);
  }
}
