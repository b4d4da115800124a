// Bodies between our own two ends, where a QUIC data stream alone has no place for trailers (design: decision 1).
// A body is a sequence of frames: varint length and that many bytes; a length of 0 ends the body and is followed by a
// varint length and the trailers, packed as an HTTP/2 answer's headers are. The stream's FIN comes behind that, so an
// end is proven twice.

import type { Malformed } from "../capnp/decoded.ts";
import { packHeaders, unpackHeaders } from "../header-packing.ts";
import type { RawHeaders } from "../headers.ts";
import { decodeLatin1, writeLatin1 } from "../latin1.ts";
import { encodeVarint, readVarint, varintBytes } from "./varint.ts";

/** Bytes the packed trailers of one body may have. */
export const MAX_TRAILER_BYTES = 64 * 1024;

/** What stands before `length` bytes of body; `length` is at least 1. */
export function encodeFrameStart(length: number): Uint8Array {
  return encodeVarint(length);
}

/** The end of a body. Trailers that are too long are left out. */
export function encodeBodyEnd(trailers: RawHeaders): Uint8Array {
  const packed = trailers.length === 0 ? "" : packHeaders(trailers);
  const text = packed.length > MAX_TRAILER_BYTES ? "" : packed;
  const length = encodeVarint(text.length);
  const end = new Uint8Array(1 + length.length + text.length);
  end.set(length, 1);
  writeLatin1(text, end, 1 + length.length);
  return end;
}

export interface BodySink {
  onData(chunk: Uint8Array): void;
  /** The body is complete. Only the stream's end may follow. */
  onBodyEnd(trailers: RawHeaders): void;
}

type State = "length" | "data" | "trailer-length" | "trailers" | "done";

/** Takes frames apart. Body bytes are passed on as views of the chunk given. */
export class BodyFrameDecoder {
  #state: State = "length";
  #left = 0;
  /** An integer or trailers that came in pieces. */
  #partial: Uint8Array = new Uint8Array(0);

  /** True once the whole body was seen. */
  get done(): boolean {
    return this.#state === "done";
  }

  receive(chunk: Uint8Array, sink: BodySink): Malformed | undefined {
    let at = 0;
    while (at < chunk.length) {
      if (this.#state === "data") {
        const end = Math.min(chunk.length, at + this.#left);
        this.#left -= end - at;
        if (this.#left === 0) this.#state = "length";
        sink.onData(at === 0 && end === chunk.length ? chunk : chunk.subarray(at, end));
        at = end;
        continue;
      }
      if (this.#state === "done") return { kind: "malformed", reason: "bytes behind the end of a body" };
      const wanted = this.#wanted(chunk, at);
      const end = Math.min(chunk.length, at + wanted - this.#partial.length);
      const whole = this.#collect(chunk, at, end);
      at = end;
      if (whole.length < wanted) return undefined;
      const problem = this.#step(whole, sink);
      if (problem !== undefined) return problem;
    }
    return undefined;
  }

  /** Bytes of the item that is being read. */
  #wanted(chunk: Uint8Array, at: number): number {
    if (this.#state === "trailers") return this.#left;
    return varintBytes((this.#partial[0] ?? chunk[at]) as number);
  }

  #collect(chunk: Uint8Array, at: number, end: number): Uint8Array {
    const partial = this.#partial;
    if (partial.length === 0 && end - at === this.#wanted(chunk, at)) return chunk.subarray(at, end);
    const joined = new Uint8Array(partial.length + end - at);
    joined.set(partial);
    joined.set(chunk.subarray(at, end), partial.length);
    this.#partial = joined;
    return joined;
  }

  #step(item: Uint8Array, sink: BodySink): Malformed | undefined {
    this.#partial = new Uint8Array(0);
    if (this.#state === "trailers") return this.#finish(item, sink);
    const value = readVarint(item, 0);
    if (value === undefined) return { kind: "malformed", reason: "body frame too long" };
    if (this.#state === "length") {
      this.#left = value;
      this.#state = value === 0 ? "trailer-length" : "data";
      return undefined;
    }
    if (value > MAX_TRAILER_BYTES) return { kind: "malformed", reason: "trailers too long" };
    if (value === 0) return this.#finish(item.subarray(0, 0), sink);
    this.#left = value;
    this.#state = "trailers";
    return undefined;
  }

  #finish(packed: Uint8Array, sink: BodySink): Malformed | undefined {
    const trailers = unpackHeaders(decodeLatin1(packed, 0, packed.length));
    if (trailers.kind === "malformed") return trailers;
    this.#state = "done";
    sink.onBodyEnd(trailers.value);
    return undefined;
  }
}
