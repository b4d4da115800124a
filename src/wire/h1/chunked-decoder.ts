import type { RawHeaders } from "../headers.ts";
import { CR, HEX, LF, VALUE } from "./bytes.ts";
import {
  MAX_BODY_EXTENSION_BYTES,
  MAX_CHUNK_EXTENSION_BYTES,
  MAX_CHUNK_SIZE_DIGITS,
  MAX_TRAILER_BYTES,
  MAX_TRAILER_FIELDS,
} from "./limits.ts";
import { LineBlock } from "./line-block.ts";
import type { MalformedReason } from "./malformed.ts";
import { NO_TRAILERS } from "./message.ts";
import { readTrailers } from "./trailers.ts";

const SEMICOLON = 0x3b;
const TRAILER_LIMITS = {
  blockBytes: MAX_TRAILER_BYTES,
  firstLineBytes: MAX_TRAILER_BYTES,
  lines: MAX_TRAILER_FIELDS,
};

type Phase = "size" | "extension" | "size-lf" | "data" | "data-cr" | "data-lf" | "trailers" | "done" | "failed";

/**
 * The chunked transfer coding (RFC 9112 section 7.1), in whatever pieces it comes. Extensions are read and dropped;
 * a size must be followed by CRLF, `;` or nothing else: no padding, no bare LF.
 */
export class ChunkedDecoder {
  #phase: Phase = "size";
  /** Bytes of the chunk still to come; while in `size`, the size read so far. */
  #left = 0;
  #digits = 0;
  #extension = 0;
  #allExtensions = 0;
  readonly #trailerBlock = new LineBlock(TRAILER_LIMITS);
  /** Body bytes found by the last `read`, in front of the offset it returned. */
  dataBytes = 0;
  /** Set once `done`. */
  trailers: RawHeaders = NO_TRAILERS;
  /** Set once `failed`. */
  fault: MalformedReason | undefined;

  get done(): boolean {
    return this.#phase === "done";
  }

  /** Makes it ready for the next body. */
  reset(): void {
    this.#phase = "size";
    this.#left = 0;
    this.#digits = 0;
    this.#allExtensions = 0;
    this.#trailerBlock.reset();
    this.trailers = NO_TRAILERS;
    this.fault = undefined;
  }

  /**
   * Reads from `at` until one run of body bytes was found, the body ended, it is malformed, or the input is used up.
   * Returns the offset behind; a run of body bytes is `[offset - dataBytes, offset)`.
   */
  read(bytes: Uint8Array, at: number): number {
    this.dataBytes = 0;
    let i = at;
    while (i < bytes.length) {
      switch (this.#phase) {
        case "size": {
          const byte = bytes[i] as number;
          const digit = HEX[byte] as number;
          i += 1;
          if (digit >= 0) {
            this.#digits += 1;
            const size = this.#left * 16 + digit;
            if (this.#digits > MAX_CHUNK_SIZE_DIGITS || size > Number.MAX_SAFE_INTEGER)
              return this.#fail("chunk-size", i);
            this.#left = size;
          } else if (this.#digits === 0) return this.#fail("chunk-size", i);
          else if (byte === CR) this.#phase = "size-lf";
          else if (byte === SEMICOLON) {
            this.#extension = 0;
            this.#phase = "extension";
          } else return this.#fail("chunk-size", i);
          break;
        }
        case "extension": {
          const byte = bytes[i] as number;
          i += 1;
          this.#extension += 1;
          this.#allExtensions += 1;
          if (byte === CR) this.#phase = "size-lf";
          else if (VALUE[byte] !== 1) return this.#fail("chunk-extension", i);
          else if (this.#extension > MAX_CHUNK_EXTENSION_BYTES || this.#allExtensions > MAX_BODY_EXTENSION_BYTES) {
            return this.#fail("chunk-extension-too-large", i);
          }
          break;
        }
        case "size-lf":
          if (bytes[i] !== LF) return this.#fail("bare-cr", i);
          i += 1;
          this.#digits = 0;
          this.#phase = this.#left === 0 ? "trailers" : "data";
          break;
        case "data": {
          this.dataBytes = Math.min(this.#left, bytes.length - i);
          this.#left -= this.dataBytes;
          if (this.#left === 0) this.#phase = "data-cr";
          return i + this.dataBytes;
        }
        case "data-cr":
          if (bytes[i] !== CR) return this.#fail("chunk-end", i);
          i += 1;
          this.#phase = "data-lf";
          break;
        case "data-lf":
          if (bytes[i] !== LF) return this.#fail("chunk-end", i);
          i += 1;
          this.#phase = "size";
          break;
        case "trailers":
          return this.#readTrailers(bytes, i);
        case "done":
        case "failed":
          return i;
      }
    }
    return i;
  }

  #readTrailers(bytes: Uint8Array, at: number): number {
    const block = this.#trailerBlock;
    const state = block.take(bytes, at);
    if (state === "need") return block.consumed;
    if (state === "bare-lf") return this.#fail("bare-lf", at);
    if (state !== "complete") return this.#fail("trailers-too-large", at);
    const consumed = block.consumed;
    if (block.end > block.start) {
      const trailers = readTrailers(block.bytes, block.start, block.end);
      if (typeof trailers === "string") return this.#fail(trailers, at);
      this.trailers = trailers;
    }
    block.reset();
    this.#phase = "done";
    return consumed;
  }

  #fail(reason: MalformedReason, at: number): number {
    this.fault = reason;
    this.#phase = "failed";
    return at;
  }
}
