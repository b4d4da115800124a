// Stream framing of Cap'n Proto, unpacked: u32 segments - 1, u32 words of each segment, padding to 8 bytes, segments.
// Source: protocol: section 3.1.

import type { Malformed } from "./decoded.ts";
import { Message } from "./message.ts";

/** Segments one message may have. */
export const MAX_SEGMENTS = 512;

/** Bytes one message may have, framing header included, unless the owner says less. */
export const DEFAULT_MAX_MESSAGE_BYTES = 64 * 1024 * 1024;

const WORD_BYTES = 8;
const FIRST_BUFFER_BYTES = 1024;

export type Framed = { readonly kind: "value"; readonly value: Message } | Need | Malformed;
type Need = {
  readonly kind: "need";
  /** A lower bound of the bytes still missing. */
  readonly atLeastBytes: number;
};

/**
 * Cuts a byte stream into messages. Push a chunk, then call `next` until it needs more. A message that lies whole in
 * one chunk is not copied; otherwise the buffer grows with the bytes that came, never with a length that was only
 * announced. After `malformed` the decoder stays so.
 */
export class FrameDecoder {
  readonly #maxMessageBytes: number;
  #bytes = new Uint8Array(0);
  #owned = false;
  #start = 0;
  #end = 0;
  #malformed: Malformed | undefined;

  /** @param options.maxMessageBytes default: {@link DEFAULT_MAX_MESSAGE_BYTES} */
  constructor(options: { maxMessageBytes?: number } = {}) {
    this.#maxMessageBytes = options.maxMessageBytes ?? DEFAULT_MAX_MESSAGE_BYTES;
  }

  push(chunk: Uint8Array): void {
    if (this.#malformed !== undefined || chunk.length === 0) return;
    if (this.#start === this.#end) {
      this.#bytes = chunk as Uint8Array<ArrayBuffer>;
      this.#owned = false;
      this.#start = 0;
      this.#end = chunk.length;
      return;
    }
    this.#reserve(chunk.length);
    this.#bytes.set(chunk, this.#end);
    this.#end += chunk.length;
  }

  /** The next whole message. It borrows this decoder's bytes: read it before the next `push` or `next`. */
  next(): Framed {
    if (this.#malformed !== undefined) return this.#malformed;
    const available = this.#end - this.#start;
    if (available < 4) return this.#need(WORD_BYTES - available);

    const view = new DataView(this.#bytes.buffer, this.#bytes.byteOffset + this.#start, available);
    const segmentCount = view.getUint32(0, true) + 1;
    if (segmentCount > MAX_SEGMENTS) return this.#fail("too many segments");
    const headerBytes = Math.ceil((4 + 4 * segmentCount) / WORD_BYTES) * WORD_BYTES;
    if (available < headerBytes) return this.#need(headerBytes - available);

    let totalBytes = headerBytes;
    for (let i = 0; i < segmentCount; i += 1) totalBytes += view.getUint32(4 + 4 * i, true) * WORD_BYTES;
    if (totalBytes > this.#maxMessageBytes) return this.#fail("message too large");
    if (available < totalBytes) return this.#need(totalBytes - available);

    const segments: Uint8Array[] = [];
    let at = this.#start + headerBytes;
    for (let i = 0; i < segmentCount; i += 1) {
      const length = view.getUint32(4 + 4 * i, true) * WORD_BYTES;
      segments.push(this.#bytes.subarray(at, at + length));
      at += length;
    }
    this.#start = at;
    return { kind: "value", value: new Message(segments) };
  }

  /** Takes out the bytes after the last message: the body that follows a head. The decoder is empty afterwards. */
  takeRest(): Uint8Array {
    const rest = this.#bytes.subarray(this.#start, this.#end);
    this.#bytes = new Uint8Array(0);
    this.#start = this.#end = 0;
    return rest;
  }

  #need(atLeastBytes: number): Need {
    // The owner may reuse its chunk after this answer, so what is left of it becomes ours.
    if (!this.#owned && this.#start < this.#end) this.#reserve(0);
    return { kind: "need", atLeastBytes };
  }

  #fail(reason: string): Malformed {
    this.#malformed = { kind: "malformed", reason };
    this.#bytes = new Uint8Array(0);
    this.#start = this.#end = 0;
    return this.#malformed;
  }

  /** Makes the unread bytes ours, with room for `more` behind them. */
  #reserve(more: number): void {
    const unread = this.#end - this.#start;
    if (this.#owned && this.#end + more <= this.#bytes.length) return;
    const grown = new Uint8Array(Math.max(FIRST_BUFFER_BYTES, 2 * unread, unread + more));
    grown.set(this.#bytes.subarray(this.#start, this.#end));
    this.#bytes = grown;
    this.#owned = true;
    this.#start = 0;
    this.#end = unread;
  }
}
