import { CLIENT_PREFACE, FLAG, FRAME, FRAME_HEADER_BYTES, H2_ERROR } from "./constants.ts";

/** Longest frame we take of a tunnel's peer. DATA passes as it arrives, so a long one costs no memory and saves headers. */
export const MAX_FRAME_BYTES = 256 * 1024;
/** Encoded header block of one message of a tunnel's peer, HEADERS and CONTINUATION together. */
export const MAX_HEADER_BLOCK_BYTES = 1024 * 1024;

/** What a reader finds, in order. */
export interface FrameEvents {
  /** A DATA frame begins. `length`: all of its payload, as flow control counts it; `padding`: what of that is no data. */
  onData(streamId: number, length: number, padding: number): void;
  /** Bytes of that frame, in any portions. */
  onDataBytes(chunk: Uint8Array): void;
  onDataEnd(endStream: boolean): void;
  /** A header block, its CONTINUATION frames joined: `bytes[from, to)`. */
  onHeaderBlock(streamId: number, endStream: boolean, bytes: Uint8Array, from: number, to: number): void;
  /** Any other frame, whole: `bytes[at, at + length)`. */
  onControl(type: number, flags: number, streamId: number, bytes: Uint8Array, at: number, length: number): void;
  /** The bytes break the rules of framing; nothing more will be read. */
  onBroken(code: number, reason: string): void;
}

/** Cuts the bytes of one direction into frames (RFC 9113 section 4). Takes them in any pieces; never throws. */
export class FrameReader {
  readonly #events: FrameEvents;
  #stopped = false;
  #prefaceLeft: number;
  #settingsSeen = false;
  /** The start of a frame whose rest has not come yet: the first `#partialBytes` of it. */
  #partial: Uint8Array | undefined;
  #partialBytes = 0;
  #dataLeft = 0;
  #dataPadding = 0;
  #dataEnds = false;
  #block: { streamId: number; endStream: boolean; parts: Uint8Array[]; bytes: number } | undefined;

  readonly #frameBytes: number;
  readonly #headerBlockBytes: number;

  /**
   * @param options.preface the peer is a client, which speaks its preface first
   * @param options.frameBytes longest frame taken
   * @param options.headerBlockBytes longest encoded header block taken
   */
  constructor(options: { preface: boolean; frameBytes: number; headerBlockBytes: number }, events: FrameEvents) {
    this.#events = events;
    this.#frameBytes = options.frameBytes;
    this.#headerBlockBytes = options.headerBlockBytes;
    this.#prefaceLeft = options.preface ? CLIENT_PREFACE.length : 0;
  }

  /** True while the rest of a frame or header block is awaited; never within DATA, which passes as it comes. */
  get midFrame(): boolean {
    return this.#partial !== undefined || this.#block !== undefined;
  }

  /** Reads nothing any more. */
  stop(): void {
    this.#stopped = true;
    this.#partial = undefined;
    this.#block = undefined;
  }

  read(incoming: Uint8Array): void {
    const buffer = this.#joined(incoming);
    const chunk = buffer === incoming ? incoming : buffer.subarray(0, this.#partialBytes + incoming.length);
    this.#partial = undefined;
    let at = this.#prefaceLeft > 0 ? this.#readPreface(chunk) : 0;
    while (at < chunk.length && !this.#stopped) {
      const read = this.#dataLeft > 0 ? this.#readData(chunk, at) : this.#readFrame(chunk, at);
      if (read === 0) break;
      at += read;
    }
    if (at === chunk.length || this.#stopped) return;
    // With its free end only where nobody else has seen any of it.
    this.#partial = at === 0 ? buffer : chunk.subarray(at);
    this.#partialBytes = chunk.length - at;
  }

  /** The partial frame and what follows it. A frame that comes in many pieces is not copied for each of them. */
  #joined(incoming: Uint8Array): Uint8Array {
    const partial = this.#partial;
    if (partial === undefined) return incoming;
    const length = this.#partialBytes + incoming.length;
    let buffer = partial;
    if (buffer.length < length) {
      buffer = new Uint8Array(Math.max(length, 2 * this.#partialBytes));
      buffer.set(partial.subarray(0, this.#partialBytes));
    }
    buffer.set(incoming, this.#partialBytes);
    return buffer;
  }

  #readPreface(chunk: Uint8Array): number {
    const length = Math.min(this.#prefaceLeft, chunk.length);
    const from = CLIENT_PREFACE.length - this.#prefaceLeft;
    for (let i = 0; i < length; i++) {
      if (chunk[i] !== CLIENT_PREFACE.charCodeAt(from + i)) {
        this.#fail(H2_ERROR.protocolError, "no HTTP/2 preface");
        return 0;
      }
    }
    this.#prefaceLeft -= length;
    return length;
  }

  /** Bytes read; 0 = the frame is not complete yet. */
  #readFrame(chunk: Uint8Array, at: number): number {
    if (chunk.length - at < FRAME_HEADER_BYTES) return 0;
    const length = ((chunk[at] as number) << 16) | ((chunk[at + 1] as number) << 8) | (chunk[at + 2] as number);
    const type = chunk[at + 3] as number;
    const flags = chunk[at + 4] as number;
    const streamId = readU32(chunk, at + 5) & 0x7fff_ffff;
    if (length > this.#frameBytes) {
      this.#fail(H2_ERROR.frameSizeError, `frame of ${length} bytes`);
      return 0;
    }
    const padded = (flags & FLAG.padded) !== 0;
    // DATA passes as it arrives, behind the byte that says how much of it is padding; other frames are read whole.
    const needed = type === FRAME.data ? (padded && length > 0 ? 1 : 0) : length;
    const payload = at + FRAME_HEADER_BYTES;
    if (chunk.length - payload < needed) return 0;
    if (this.#block !== undefined && (type !== FRAME.continuation || streamId !== this.#block.streamId)) {
      this.#fail(H2_ERROR.protocolError, "header block interrupted");
    } else if (!this.#settingsSeen && type !== FRAME.settings) {
      this.#fail(H2_ERROR.protocolError, "first frame is not SETTINGS");
    } else if (type === FRAME.data) this.#startData(streamId, flags, chunk, payload, length);
    else if (type === FRAME.headers) this.#headers(streamId, flags, chunk, payload, payload + length);
    else if (type === FRAME.continuation) this.#continuation(flags, chunk, payload, payload + length);
    else {
      this.#settingsSeen = true;
      this.#events.onControl(type, flags, streamId, chunk, payload, length);
    }
    return FRAME_HEADER_BYTES + needed;
  }

  #startData(streamId: number, flags: number, chunk: Uint8Array, at: number, length: number): void {
    const padded = (flags & FLAG.padded) !== 0;
    const padding = padded && length > 0 ? (chunk[at] as number) : 0;
    if (padded && padding >= length) {
      this.#fail(H2_ERROR.protocolError, "padding longer than the frame");
      return;
    }
    this.#dataLeft = padded ? length - 1 : length;
    this.#dataPadding = padding;
    this.#dataEnds = (flags & FLAG.endStream) !== 0;
    this.#events.onData(streamId, length, padded ? padding + 1 : 0);
    if (this.#dataLeft === 0 && !this.#stopped) this.#events.onDataEnd(this.#dataEnds);
  }

  #readData(chunk: Uint8Array, at: number): number {
    const bytes = Math.min(this.#dataLeft, chunk.length - at);
    const payload = Math.min(bytes, Math.max(0, this.#dataLeft - this.#dataPadding));
    this.#dataLeft -= bytes;
    if (payload > 0) this.#events.onDataBytes(chunk.subarray(at, at + payload));
    if (this.#dataLeft === 0 && !this.#stopped) this.#events.onDataEnd(this.#dataEnds);
    return bytes;
  }

  #headers(streamId: number, flags: number, chunk: Uint8Array, at: number, end: number): void {
    let from = at;
    let to = end;
    if ((flags & FLAG.padded) !== 0) {
      to -= from < to ? (chunk[from] as number) : 1;
      from += 1;
    }
    const dependency = (flags & FLAG.priority) !== 0 && from + 5 <= to ? readU32(chunk, from) & 0x7fff_ffff : 0;
    if ((flags & FLAG.priority) !== 0) from += 5;
    if (from > to || streamId === 0 || dependency === streamId) {
      this.#fail(H2_ERROR.protocolError, "bad HEADERS frame");
      return;
    }
    const endStream = (flags & FLAG.endStream) !== 0;
    if ((flags & FLAG.endHeaders) !== 0) this.#events.onHeaderBlock(streamId, endStream, chunk, from, to);
    else this.#block = { streamId, endStream, parts: [chunk.slice(from, to)], bytes: to - from };
  }

  #continuation(flags: number, chunk: Uint8Array, at: number, end: number): void {
    const block = this.#block;
    if (block === undefined) {
      this.#fail(H2_ERROR.protocolError, "CONTINUATION without HEADERS");
      return;
    }
    block.parts.push(chunk.slice(at, end));
    // The frame's own cost counts too, so that empty frames cannot go on for ever.
    block.bytes += end - at + FRAME_HEADER_BYTES;
    if (block.bytes > this.#headerBlockBytes) {
      this.#fail(H2_ERROR.enhanceYourCalm, "header block too large");
      return;
    }
    if ((flags & FLAG.endHeaders) === 0) return;
    this.#block = undefined;
    const whole = join(block.parts);
    this.#events.onHeaderBlock(block.streamId, block.endStream, whole, 0, whole.length);
  }

  #fail(code: number, reason: string): void {
    this.stop();
    this.#events.onBroken(code, reason);
  }
}

export function readU32(bytes: Uint8Array, at: number): number {
  return (
    ((bytes[at] as number) * 0x100_0000 +
      ((bytes[at + 1] as number) << 16) +
      ((bytes[at + 2] as number) << 8) +
      (bytes[at + 3] as number)) >>>
    0
  );
}

function join(parts: readonly Uint8Array[]): Uint8Array {
  const joined = new Uint8Array(parts.reduce((bytes, part) => bytes + part.length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}
