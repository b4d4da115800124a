import type { RawHeaders } from "../headers.ts";
import { writeLatin1 } from "../latin1.ts";
import { CLIENT_PREFACE, FLAG, FRAME, FRAME_HEADER_BYTES } from "./constants.ts";
import { encodeHpack, hpackBoundBytes } from "./hpack-encoder.ts";

const SLAB_BYTES = 128 * 1024;
/** Slabs kept for use again. */
const MAX_FREE_SLABS = 4;

/** Gives uninitialised memory; injected because runtimes have faster ways than a zeroed array. */
export type Allocate = (bytes: number) => Uint8Array;

/**
 * Builds frames one behind the other in slabs, so that a turn of the event loop ends in one write. Whoever takes bytes
 * may keep them; a slab is used again only when `recycle` says that nobody did.
 */
export class FrameWriter {
  readonly #allocate: Allocate;
  #slab: Uint8Array;
  #start = 0;
  #at = 0;
  #full: Uint8Array[] = [];
  #fullSlabs: Uint8Array[] = [];
  #freeSlabs: Uint8Array[] = [];
  #fullBytes = 0;
  #lastData: { slab: Uint8Array; flagsAt: number; streamId: number } = {
    slab: new Uint8Array(0),
    flagsAt: 0,
    streamId: 0,
  };
  /** Largest payload the peer accepts in one frame. */
  maxFrameBytes = 16_384;

  constructor(allocate: Allocate) {
    this.#allocate = allocate;
    this.#slab = allocate(SLAB_BYTES);
  }

  /** Bytes waiting to be taken. */
  get pendingBytes(): number {
    return this.#fullBytes + this.#at - this.#start;
  }

  /** Takes everything built so far. */
  take(): Uint8Array[] {
    const taken = this.#full;
    if (this.#at > this.#start) taken.push(this.#slab.subarray(this.#start, this.#at));
    this.#start = this.#at;
    this.#full = [];
    this.#fullBytes = 0;
    this.#lastData.streamId = 0;
    return taken;
  }

  /** The bytes taken last have been sent and nobody holds them any more. */
  recycle(): void {
    if (this.#at !== this.#start || this.#full.length > 0) return;
    this.#start = 0;
    this.#at = 0;
    for (const slab of this.#fullSlabs) if (this.#freeSlabs.length < MAX_FREE_SLABS) this.#freeSlabs.push(slab);
    this.#fullSlabs = [];
  }

  /** The bytes taken last may still be held: their slabs belong to the holder. */
  release(): void {
    this.#fullSlabs = [];
  }

  preface(): void {
    this.#reserve(CLIENT_PREFACE.length);
    this.#at = writeLatin1(CLIENT_PREFACE, this.#slab, this.#at);
  }

  settings(settings: ReadonlyArray<readonly [id: number, value: number]>): void {
    this.#header(settings.length * 6, FRAME.settings, 0, 0);
    for (const [id, value] of settings) {
      this.#u16(id);
      this.#u32(value);
    }
  }

  settingsAck(): void {
    this.#header(0, FRAME.settings, FLAG.ack, 0);
  }

  ping(payload: Uint8Array, ack: boolean): void {
    this.#header(8, FRAME.ping, ack ? FLAG.ack : 0, 0);
    this.#bytes(payload);
  }

  goaway(lastStreamId: number, code: number): void {
    this.#header(8, FRAME.goaway, 0, 0);
    this.#u32(lastStreamId);
    this.#u32(code);
  }

  rstStream(streamId: number, code: number): void {
    this.#header(4, FRAME.rstStream, 0, streamId);
    this.#u32(code);
  }

  windowUpdate(streamId: number, bytes: number): void {
    this.#header(4, FRAME.windowUpdate, 0, streamId);
    this.#u32(bytes);
  }

  /** One DATA frame of `chunk[from, to)`, which must not be longer than `maxFrameBytes`. */
  data(streamId: number, chunk: Uint8Array, from: number, to: number): void {
    this.#header(to - from, FRAME.data, 0, streamId);
    this.#lastData.slab = this.#slab;
    this.#lastData.flagsAt = this.#at - FRAME_HEADER_BYTES + 4;
    this.#lastData.streamId = streamId;
    this.#bytes(from === 0 && to === chunk.length ? chunk : chunk.subarray(from, to));
  }

  /** Ends a stream: on its last DATA frame when that is still here as the newest frame, else by an empty one. */
  endStream(streamId: number): void {
    const last = this.#lastData;
    if (last.streamId === streamId && last.slab === this.#slab && last.flagsAt >= this.#start) {
      this.#slab[last.flagsAt] = (this.#slab[last.flagsAt] as number) | FLAG.endStream;
      last.streamId = 0;
      return;
    }
    this.#header(0, FRAME.data, FLAG.endStream, streamId);
  }

  /** HEADERS, with CONTINUATION when the block is longer than a frame may be. */
  headers(streamId: number, fields: RawHeaders, endStream: boolean): void {
    const bound = hpackBoundBytes(fields);
    const flags = endStream ? FLAG.endStream : 0;
    if (bound <= this.maxFrameBytes) {
      this.#reserve(FRAME_HEADER_BYTES + bound);
      const at = this.#at;
      this.#at = at + FRAME_HEADER_BYTES;
      const end = encodeHpack(fields, this.#slab, this.#at);
      const length = end - this.#at;
      this.#at = at;
      this.#header(length, FRAME.headers, flags | FLAG.endHeaders, streamId);
      this.#at = end;
      return;
    }
    const block = new Uint8Array(bound);
    const total = encodeHpack(fields, block, 0);
    for (let from = 0; from < total || from === 0; from += this.maxFrameBytes) {
      const to = Math.min(total, from + this.maxFrameBytes);
      const last = to === total ? FLAG.endHeaders : 0;
      if (from === 0) this.#header(to, FRAME.headers, flags | last, streamId);
      else this.#header(to - from, FRAME.continuation, last, streamId);
      this.#bytes(block.subarray(from, to));
    }
  }

  #header(length: number, type: number, flags: number, streamId: number): void {
    this.#reserve(FRAME_HEADER_BYTES + length);
    const slab = this.#slab;
    let at = this.#at;
    slab[at++] = length >>> 16;
    slab[at++] = length >>> 8;
    slab[at++] = length;
    slab[at++] = type;
    slab[at++] = flags;
    slab[at++] = streamId >>> 24;
    slab[at++] = streamId >>> 16;
    slab[at++] = streamId >>> 8;
    slab[at++] = streamId;
    this.#at = at;
    this.#lastData.streamId = 0;
  }

  #bytes(bytes: Uint8Array): void {
    this.#slab.set(bytes, this.#at);
    this.#at += bytes.length;
  }

  #u16(value: number): void {
    this.#slab[this.#at++] = value >>> 8;
    this.#slab[this.#at++] = value;
  }

  #u32(value: number): void {
    this.#u16(value >>> 16);
    this.#u16(value & 0xffff);
  }

  #reserve(bytes: number): void {
    if (this.#slab.length - this.#at >= bytes) return;
    if (this.#at > this.#start) {
      this.#full.push(this.#slab.subarray(this.#start, this.#at));
      this.#fullBytes += this.#at - this.#start;
    }
    if (this.#slab.length === SLAB_BYTES) this.#fullSlabs.push(this.#slab);
    this.#slab = bytes <= SLAB_BYTES ? (this.#freeSlabs.pop() ?? this.#allocate(SLAB_BYTES)) : this.#allocate(bytes);
    this.#start = 0;
    this.#at = 0;
  }
}
