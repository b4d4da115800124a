import { CR, LF } from "./bytes.ts";

/** Smallest buffer that gathers a block which came in pieces, in bytes. */
const FIRST_BUFFER_BYTES = 1024;

export interface BlockLimits {
  /** All lines with their ends, without the empty line. */
  readonly blockBytes: number;
  readonly firstLineBytes: number;
  /** Lines, without the empty one. */
  readonly lines: number;
}

export type BlockState = "need" | "complete" | "bare-lf" | "first-line-too-long" | "block-too-large" | "too-many-lines";

/**
 * Finds the empty line that ends a head or trailer section, whatever pieces it comes in. A block inside one piece is
 * not copied. Every line end is checked as it passes, so bare LF is refused at once instead of waiting for an empty
 * line that never comes.
 */
export class LineBlock {
  readonly #limits: BlockLimits;
  /** Where the block's bytes are: a fed chunk or `#gathered`. Valid while `take` says complete. */
  bytes: Uint8Array = EMPTY;
  /** The block without its empty line: each line ends with CRLF. */
  start = 0;
  end = 0;
  /** Offset in the fed chunk behind what was taken. */
  consumed = 0;
  #gathered: Uint8Array | undefined;
  #length = 0;
  /** Offsets relative to the start of the block. */
  #scanned = 0;
  #lineStart = 0;
  #lines = 0;

  constructor(limits: BlockLimits) {
    this.#limits = limits;
  }

  /** True when part of a block was taken and the rest is missing. */
  get partial(): boolean {
    return this.#length > 0;
  }

  /** Forgets the block that is done. */
  reset(): void {
    this.bytes = EMPTY;
    this.#gathered = undefined;
    this.#length = 0;
    this.#scanned = 0;
    this.#lineStart = 0;
    this.#lines = 0;
  }

  /** Reads on from `at`; sets `consumed`, and the block when complete. After anything but `need`, `reset`. */
  take(chunk: Uint8Array, at: number): BlockState {
    if (this.#gathered === undefined) {
      const state = this.#scan(chunk, at, chunk.length);
      if (state !== "need") {
        this.consumed = at + this.#scanned;
        return state;
      }
      this.#append(chunk, at, chunk.length);
      this.consumed = chunk.length;
      return "need";
    }
    // A piece may hold a whole body behind the block: never gather more than the block can have.
    const before = this.#length;
    const room = this.#limits.blockBytes + 2 - before;
    const until = Math.min(chunk.length, at + room);
    // Without its free end, which would be searched each time.
    const gathered = this.#append(chunk, at, until).subarray(0, this.#length);
    const state = this.#scan(gathered, 0, this.#length);
    this.consumed = state === "need" ? until : at + this.#scanned - before;
    return state;
  }

  #scan(bytes: Uint8Array, start: number, end: number): BlockState {
    const limits = this.#limits;
    for (;;) {
      const found = bytes.indexOf(LF, start + this.#scanned);
      if (found < 0 || found >= end) break;
      const at = found - start;
      if (at === 0 || bytes[found - 1] !== CR) return "bare-lf";
      this.#scanned = at + 1;
      if (at - 1 === this.#lineStart) {
        if (this.#lineStart > limits.blockBytes) return "block-too-large";
        this.bytes = bytes;
        this.start = start;
        this.end = start + this.#lineStart;
        return "complete";
      }
      if (this.#lines === 0 && at - 1 > limits.firstLineBytes) return "first-line-too-long";
      this.#lineStart = at + 1;
      this.#lines += 1;
      if (this.#lines > limits.lines) return "too-many-lines";
    }
    this.#scanned = end - start;
    if (this.#lines === 0 && this.#scanned > limits.firstLineBytes + 1) return "first-line-too-long";
    return this.#scanned > limits.blockBytes + 1 ? "block-too-large" : "need";
  }

  #append(chunk: Uint8Array, start: number, end: number): Uint8Array {
    const length = this.#length + end - start;
    let gathered = this.#gathered;
    if (gathered === undefined || gathered.length < length) {
      const larger = new Uint8Array(Math.max(FIRST_BUFFER_BYTES, 2 * length));
      if (gathered !== undefined) larger.set(gathered.subarray(0, this.#length));
      gathered = larger;
      this.#gathered = gathered;
    }
    gathered.set(chunk.subarray(start, end), this.#length);
    this.#length = length;
    return gathered;
  }
}

const EMPTY = new Uint8Array(0);
