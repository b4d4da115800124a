import { bytesOf, joined } from "./bytes.ts";
import type { Chance } from "./target.ts";

/** Longest input that is made; longer ones find little more and take their time. */
export const MAX_INPUT_BYTES = 4096;

const EDGES = [0, 1, 2, 3, 7, 8, 0x0a, 0x0d, 0x20, 0x3f, 0x40, 0x7d, 0x7e, 0x7f, 0x80, 0xbf, 0xc0, 0xfe, 0xff] as const;
const WIDE = [
  0, 1, 0x7f, 0x80, 0xff, 0x100, 0x3fff, 0x4000, 0x7fff, 0x8000, 0xffff, 0x1_0000, 0x7fff_ffff, 0xffff_ffff,
];
const NUMBERS = ["0", "1", "-1", "00", "65535", "65536", "2147483648", "4294967296", "9007199254740993", "1e99"];

type Mutation = (input: Uint8Array, chance: Chance, context: MutationContext) => Uint8Array;

export interface MutationContext {
  readonly words: readonly Uint8Array[];
  /** Another input of the corpus. */
  readonly other: () => Uint8Array;
}

const set = (input: Uint8Array, at: number, byte: number): Uint8Array => {
  const changed = input.slice();
  changed[at] = byte;
  return changed;
};

const put = (input: Uint8Array, at: number, insert: Uint8Array, removed = 0): Uint8Array =>
  joined(input.subarray(0, at), insert, input.subarray(at + removed));

/** A range that is more often short than long. */
function range(input: Uint8Array, chance: Chance): [from: number, to: number] {
  const from = chance.below(input.length);
  const most = chance.once(3) ? input.length - from : Math.min(16, input.length - from);
  return [from, from + 1 + chance.below(most)];
}

const MUTATIONS: readonly Mutation[] = [
  (input, chance) => {
    const at = chance.below(input.length);
    return set(input, at, (input[at] as number) ^ (1 << chance.below(8)));
  },
  (input, chance) => set(input, chance.below(input.length), chance.pick(EDGES)),
  (input, chance) => set(input, chance.below(input.length), chance.below(256)),
  (input, chance) => {
    const at = chance.below(input.length);
    return set(input, at, (input[at] as number) + chance.pick([1, -1, 4, -4, 16, -16]));
  },
  (input, chance) => put(input, chance.below(input.length + 1), chance.bytes(1 + chance.below(8))),
  (input, chance) => {
    const [from, to] = range(input, chance);
    return put(input, from, new Uint8Array(0), to - from);
  },
  (input, chance) => {
    const [from, to] = range(input, chance);
    return put(input, chance.below(input.length + 1), input.subarray(from, to));
  },
  (input, chance) => {
    const [from, to] = range(input, chance);
    const times = 2 + chance.below(chance.once(4) ? 60 : 4);
    return put(input, to, joined(...Array.from({ length: times }, () => input.subarray(from, to))));
  },
  (input, chance, { words }) => {
    if (words.length === 0) return input;
    return put(input, chance.below(input.length + 1), chance.pick(words));
  },
  (input, chance, { words }) => {
    if (words.length === 0) return input;
    const word = chance.pick(words);
    return put(input, chance.below(input.length), word, word.length);
  },
  (input, chance, { other }) => {
    const second = other();
    return joined(input.subarray(0, chance.below(input.length + 1)), second.subarray(chance.below(second.length + 1)));
  },
  (input, chance, { other }) => {
    const second = other();
    if (second.length === 0) return input;
    const [from, to] = range(second, chance);
    return put(input, chance.below(input.length + 1), second.subarray(from, to));
  },
  (input, chance) => {
    const bytes = chance.pick([2, 3, 4, 8]);
    const little = chance.once(2);
    let value = chance.once(2) ? chance.pick(WIDE) : chance.below(2 * input.length + 1);
    const number = new Uint8Array(bytes);
    for (let i = 0; i < bytes; i += 1) {
      number[little ? i : bytes - 1 - i] = value & 0xff;
      value = Math.floor(value / 256);
    }
    return put(input, chance.below(input.length), number, bytes);
  },
  (input, chance) => {
    // A number in digits, where there is one.
    const at = chance.below(input.length);
    const from = input.findIndex((byte, i) => i >= at && byte >= 0x30 && byte <= 0x39);
    if (from < 0) return input;
    let to = from;
    while (to < input.length && (input[to] as number) >= 0x30 && (input[to] as number) <= 0x39) to += 1;
    return put(input, from, bytesOf(chance.pick(NUMBERS)), to - from);
  },
];

/** A neighbour of an input: one to eight mutations away. */
export function mutate(input: Uint8Array, chance: Chance, context: MutationContext): Uint8Array {
  let changed = input;
  const times = 1 + chance.below(chance.pick([1, 2, 4, 8]));
  for (let i = 0; i < times; i += 1) {
    if (changed.length === 0) changed = chance.bytes(1 + chance.below(8));
    changed = chance.pick(MUTATIONS)(changed, chance, context);
    if (changed.length > MAX_INPUT_BYTES) changed = changed.subarray(0, MAX_INPUT_BYTES);
  }
  return changed;
}

/** A part of an input, many times over: what is read in more than linear time shows. */
export function stretch(input: Uint8Array, chance: Chance, bytes: number): Uint8Array {
  if (input.length === 0) return input;
  const [from, to] = chance.once(2) ? [0, input.length] : range(input, chance);
  const part = input.subarray(from, to);
  const times = Math.max(1, Math.floor((bytes - input.length) / part.length));
  return put(input, to, joined(...Array.from({ length: times }, () => part)));
}
