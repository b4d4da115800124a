// Reader of Cap'n Proto messages: pointers, structs and lists in a segment table.
// Source: Cap'n Proto encoding specification; the structs that use it: protocol: section 3.4.
// Everything here may throw DecodeError; callers come in through `decodeTotally`.

import { decodeLatin1 } from "../latin1.ts";
import { DecodeError } from "./decoded.ts";

/** Pointers followed below the root before a message counts as hostile; the limit of the reference implementation. */
export const MAX_NESTING = 64;

/**
 * A message may be walked at most this many times its own size. Pointers may share targets, so without it a small
 * message could unfold to any size.
 */
export const TRAVERSALS_PER_WORD = 8;

const WORD_BYTES = 8;
const EMPTY = new Uint8Array(0);
const utf8 = new TextDecoder("utf-8", { ignoreBOM: true });

type Segment = { readonly bytes: Uint8Array; readonly view: DataView };

const NULL = 0;
const STRUCT = 1;
const LIST = 2;
const CAPABILITY = 3;
type PointerKind = typeof NULL | typeof STRUCT | typeof LIST | typeof CAPABILITY;

const LIST_OF_BYTES = 2;
const LIST_OF_POINTERS = 6;
const LIST_OF_STRUCTS = 7;

/**
 * A whole message over borrowed bytes. Read it before those bytes change: texts are decoded and data copied at the
 * moment of reading, structs and lists are views.
 */
export class Message {
  readonly segments: readonly Segment[];
  #budgetWords: number;

  // Where the pointer followed last led: fields instead of an object, because a request head has some thirty pointers.
  target: Segment;
  /** Byte offset in `target`. */
  start = 0;
  /** The two halves of the pointer that describes the target. */
  low = 0;
  high = 0;

  /** @param options.traversalLimitWords default: {@link TRAVERSALS_PER_WORD} times the size of the message */
  constructor(segments: readonly Uint8Array[], options: { traversalLimitWords?: number } = {}) {
    let words = 0;
    this.segments = segments.map((bytes) => {
      words += bytes.length / WORD_BYTES;
      return { bytes, view: new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength) };
    });
    this.#budgetWords = options.traversalLimitWords ?? words * TRAVERSALS_PER_WORD;
    this.target = this.segments[0] ?? { bytes: EMPTY, view: new DataView(EMPTY.buffer) };
  }

  /** The root struct; a null root reads as a struct of defaults. */
  root(): StructReader {
    const first = this.segments[0];
    if (first === undefined || first.bytes.length < WORD_BYTES) throw new DecodeError("message without a root");
    return this.structAt(first, 0, MAX_NESTING);
  }

  /** Follows the pointer at byte `at` and leaves its target in the fields of this object. */
  follow(segment: Segment, at: number): PointerKind {
    const low = segment.view.getInt32(at, true);
    const high = segment.view.getUint32(at + 4, true);
    if ((low & 3) !== 2) return this.#arrive(segment, at + WORD_BYTES, low, high);

    const isDouble = (low & 4) !== 0;
    const pad = this.#segment(high);
    const padAt = (low >>> 3) * WORD_BYTES;
    requireRange(pad, padAt, isDouble ? 2 * WORD_BYTES : WORD_BYTES);
    this.spend(isDouble ? 2 : 1);
    const padLow = pad.view.getInt32(padAt, true);
    const padHigh = pad.view.getUint32(padAt + 4, true);
    if (!isDouble) {
      if ((padLow & 3) === 2) throw new DecodeError("far pointer to a far pointer");
      return this.#arrive(pad, padAt + WORD_BYTES, padLow, padHigh);
    }
    if ((padLow & 7) !== 2) throw new DecodeError("landing pad without a far pointer");
    const tagLow = pad.view.getInt32(padAt + 8, true);
    const tagHigh = pad.view.getUint32(padAt + 12, true);
    if ((tagLow & 3) > 1 || tagLow >> 2 !== 0) throw new DecodeError("landing pad with a wrong tag");
    return this.#arrive(this.#segment(padHigh), (padLow >>> 3) * WORD_BYTES, tagLow, tagHigh, true);
  }

  structAt(segment: Segment, at: number, depth: number): StructReader {
    const kind = this.follow(segment, at);
    if (kind === NULL) return new StructReader(this, segment, at, 0, at, 0, depth);
    if (kind !== STRUCT) throw new DecodeError("pointer is not to a struct");
    if (depth === 0) throw new DecodeError("message nested too deeply");
    const dataBytes = (this.high & 0xffff) * WORD_BYTES;
    const pointers = this.high >>> 16;
    const { target, start } = this;
    requireRange(target, start, dataBytes + pointers * WORD_BYTES);
    this.spend(dataBytes / WORD_BYTES + pointers);
    return new StructReader(this, target, start, dataBytes, start + dataBytes, pointers, depth - 1);
  }

  /** Checks the list followed last; its elements are then at `start`. Returns their count. */
  enterList(elementKind: typeof LIST_OF_BYTES | typeof LIST_OF_POINTERS): number {
    if ((this.high & 7) !== elementKind) throw new DecodeError("list of an unexpected element size");
    const count = this.high >>> 3;
    const length = elementKind === LIST_OF_BYTES ? count : count * WORD_BYTES;
    requireRange(this.target, this.start, length);
    this.spend(Math.ceil(length / WORD_BYTES));
    return count;
  }

  /** Counts words against the traversal limit. */
  spend(words: number): void {
    this.#budgetWords -= words;
    if (this.#budgetWords < 0) throw new DecodeError("message refers to itself too often");
  }

  #arrive(segment: Segment, base: number, low: number, high: number, absolute = false): PointerKind {
    if (!absolute && low === 0 && high === 0) return NULL;
    this.target = segment;
    this.low = low;
    this.high = high;
    const kind = low & 3;
    if (kind === 3) {
      if (low !== 3) throw new DecodeError("pointer of an unknown kind");
      return CAPABILITY;
    }
    this.start = absolute ? base : base + (low >> 2) * WORD_BYTES;
    return kind === 0 ? STRUCT : LIST;
  }

  #segment(id: number): Segment {
    const segment = this.segments[id];
    if (segment === undefined) throw new DecodeError("pointer to a missing segment");
    return segment;
  }
}

/**
 * A view of one struct. Fields beyond its end, and null pointers, read as defaults, so older and newer peers fit.
 * Offsets of data fields are bytes in the data section, of pointers their index.
 */
export class StructReader {
  readonly #message: Message;
  readonly #segment: Segment;
  readonly #dataStart: number;
  readonly #dataBytes: number;
  readonly #pointersStart: number;
  readonly #pointers: number;
  readonly #depth: number;

  constructor(
    message: Message,
    segment: Segment,
    dataStart: number,
    dataBytes: number,
    pointersStart: number,
    pointers: number,
    depth: number,
  ) {
    this.#message = message;
    this.#segment = segment;
    this.#dataStart = dataStart;
    this.#dataBytes = dataBytes;
    this.#pointersStart = pointersStart;
    this.#pointers = pointers;
    this.#depth = depth;
  }

  /** Bytes of the data section. */
  get dataBytes(): number {
    return this.#dataBytes;
  }

  /** `bit` counts from the start of the data section. A field whose default is true is stored inverted. */
  bool(bit: number, fallback = false): boolean {
    const byte = bit >>> 3;
    const stored = byte < this.#dataBytes && (this.u8(byte) & (1 << (bit & 7))) !== 0;
    return stored !== fallback;
  }

  u8(byte: number): number {
    return byte + 1 <= this.#dataBytes ? this.#segment.view.getUint8(this.#dataStart + byte) : 0;
  }

  u16(byte: number): number {
    return byte + 2 <= this.#dataBytes ? this.#segment.view.getUint16(this.#dataStart + byte, true) : 0;
  }

  i32(byte: number): number {
    return byte + 4 <= this.#dataBytes ? this.#segment.view.getInt32(this.#dataStart + byte, true) : 0;
  }

  u32(byte: number): number {
    return byte + 4 <= this.#dataBytes ? this.#segment.view.getUint32(this.#dataStart + byte, true) : 0;
  }

  i64(byte: number): bigint {
    return byte + 8 <= this.#dataBytes ? this.#segment.view.getBigInt64(this.#dataStart + byte, true) : 0n;
  }

  u64(byte: number): bigint {
    return byte + 8 <= this.#dataBytes ? this.#segment.view.getBigUint64(this.#dataStart + byte, true) : 0n;
  }

  /** Text decoded as UTF-8; invalid bytes become U+FFFD. "" by default. */
  text(index: number): string {
    const length = this.#textLength(index);
    if (length === 0) return "";
    const { target, start } = this.#message;
    return utf8.decode(target.bytes.subarray(start, start + length));
  }

  /** Text taken as bytes, one char each: what the peer meant by header fields. "" by default. */
  byteText(index: number): string {
    const length = this.#textLength(index);
    if (length === 0) return "";
    const { target, start } = this.#message;
    return decodeLatin1(target.bytes, start, start + length);
  }

  /** A copy of the bytes; empty by default. */
  data(index: number): Uint8Array {
    if (!this.#followList(index)) return EMPTY;
    const length = this.#message.enterList(LIST_OF_BYTES);
    const { target, start } = this.#message;
    return target.bytes.slice(start, start + length);
  }

  struct(index: number): StructReader {
    if (index >= this.#pointers) return new StructReader(this.#message, this.#segment, 0, 0, 0, 0, this.#depth);
    return this.#message.structAt(this.#segment, this.#pointerAt(index), this.#depth);
  }

  /** Index into the capability table of the payload; undefined when the pointer is null or leads to data. */
  capability(index: number): number | undefined {
    if (index >= this.#pointers) return undefined;
    const kind = this.#message.follow(this.#segment, this.#pointerAt(index));
    return kind === CAPABILITY ? this.#message.high : undefined;
  }

  /** Gives each struct of a list to `visit`, in order. Empty by default. */
  forEachStruct(index: number, visit: (element: StructReader) => void): void {
    if (!this.#followList(index)) return;
    const { target, start, high } = this.#message;
    if ((high & 7) !== LIST_OF_STRUCTS) throw new DecodeError("list of an unexpected element size");
    const words = high >>> 3;
    requireRange(target, start, WORD_BYTES + words * WORD_BYTES);
    const tag = target.view.getUint32(start, true);
    const shape = target.view.getUint32(start + 4, true);
    const count = tag >>> 2;
    const dataBytes = (shape & 0xffff) * WORD_BYTES;
    const pointers = shape >>> 16;
    const elementBytes = dataBytes + pointers * WORD_BYTES;
    if ((tag & 3) !== 0 || count * elementBytes > words * WORD_BYTES) throw new DecodeError("list with a wrong tag");
    // Elements without size take no bytes of the message, so their number is what has to be paid for.
    this.#message.spend(1 + words + (elementBytes === 0 ? count : 0));
    for (let i = 0; i < count; i += 1) {
      const at = start + WORD_BYTES + i * elementBytes;
      visit(new StructReader(this.#message, target, at, dataBytes, at + dataBytes, pointers, this.#depth - 1));
    }
  }

  /** A list of texts, decoded as UTF-8. Empty by default. */
  textList(index: number): string[] {
    if (!this.#followList(index)) return [];
    const count = this.#message.enterList(LIST_OF_POINTERS);
    const { target, start } = this.#message;
    const elements = new StructReader(this.#message, target, start, 0, start, count, this.#depth - 1);
    const texts: string[] = [];
    for (let i = 0; i < count; i += 1) texts.push(elements.text(i));
    return texts;
  }

  #pointerAt(index: number): number {
    return this.#pointersStart + index * WORD_BYTES;
  }

  /** False for a null pointer. */
  #followList(index: number): boolean {
    if (index >= this.#pointers) return false;
    const kind = this.#message.follow(this.#segment, this.#pointerAt(index));
    if (kind === NULL) return false;
    if (kind !== LIST) throw new DecodeError("pointer is not to a list");
    if (this.#depth === 0) throw new DecodeError("message nested too deeply");
    return true;
  }

  /** Length without the final NUL; the text is then at the message's `target` and `start`. */
  #textLength(index: number): number {
    if (!this.#followList(index)) return 0;
    const length = this.#message.enterList(LIST_OF_BYTES);
    const { target, start } = this.#message;
    if (length === 0 || target.bytes[start + length - 1] !== 0) throw new DecodeError("text without a final NUL");
    return length - 1;
  }
}

function requireRange(segment: Segment, start: number, length: number): void {
  if (start < 0 || start + length > segment.bytes.length) throw new DecodeError("pointer out of bounds");
}
