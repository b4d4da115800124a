// How a QUIC stream begins (protocol: sections 4.2 and 4.3): a signature, on data streams a version, then messages.

import type { Malformed } from "../capnp/decoded.ts";
import { FrameDecoder } from "../capnp/frame-decoder.ts";
import type { Message } from "../capnp/message.ts";
import { encodeMessage, type StructCodec } from "../capnp/struct-codec.ts";

const DATA_SIGNATURE = [0x0a, 0x36, 0xcd, 0x12, 0xa1, 0x3e] as const;
const RPC_BYTES = [0x52, 0xbb, 0x82, 0x5c, 0xdb, 0x65] as const;
/** Ours ("CulvGO"): an edge that will go says so with a stream that has nothing else in it. Others reset it. */
const LEAVING_BYTES = [0x43, 0x75, 0x6c, 0x76, 0x47, 0x4f] as const;
/** "01"; readers ignore it. */
const VERSION = [0x30, 0x31] as const;
const SIGNATURE_BYTES = 6;
/** Signature and version of a data stream. */
export const DATA_PREAMBLE_BYTES = 8;

/** What an RPC stream starts with; it has no version. */
export const RPC_PREAMBLE: Uint8Array = Uint8Array.from(RPC_BYTES);

/** The whole content of the stream with which an edge says that it will go. */
export const LEAVING_STREAM: Uint8Array = Uint8Array.from(LEAVING_BYTES);

/** Bytes one ConnectRequest or ConnectResponse may have; as much as the packed headers of an HTTP/2 answer. */
export const MAX_HEAD_BYTES = 1024 * 1024;

/** Signature, version and the first message of a data stream, to be sent in one piece. */
export function encodeDataHead<T>(codec: StructCodec<T>, value: T): Uint8Array {
  const message = encodeMessage(codec, value);
  const head = new Uint8Array(DATA_PREAMBLE_BYTES + message.length);
  head.set(DATA_SIGNATURE);
  head.set(VERSION, SIGNATURE_BYTES);
  head.set(message, DATA_PREAMBLE_BYTES);
  return head;
}

export type StreamHead =
  | { readonly kind: "need" }
  /** A message of a data stream; read it before the next call. */
  | { readonly kind: "data"; readonly message: Message }
  /** An RPC stream; its bytes are what `takeRest` gives and what follows. */
  | { readonly kind: "rpc" }
  /** The edge will go (between our own ends). */
  | { readonly kind: "leaving" }
  | Malformed;

const NEED: StreamHead = { kind: "need" };
const RPC: StreamHead = { kind: "rpc" };
const LEAVING: StreamHead = { kind: "leaving" };

/** Reads the head of a stream from chunks. Push a chunk, then call `next`; after anything but `need` call `takeRest`. */
export class StreamHeadDecoder {
  readonly #frames = new FrameDecoder({ maxMessageBytes: MAX_HEAD_BYTES });
  #early: Uint8Array | undefined;
  #kind: "unknown" | "data" | "rpc" | "leaving" = "unknown";

  push(chunk: Uint8Array): void {
    if (this.#kind === "data") {
      this.#frames.push(chunk);
      return;
    }
    this.#early = this.#early === undefined ? chunk : joined(this.#early, chunk);
  }

  next(): StreamHead {
    if (this.#kind === "unknown") {
      const early = this.#early;
      if (early === undefined || early.length === 0) return NEED;
      if (startsLike(early, RPC_BYTES)) {
        if (early.length < SIGNATURE_BYTES) return this.#wait(early);
        this.#kind = "rpc";
        this.#early = early.subarray(SIGNATURE_BYTES);
      } else if (startsLike(early, LEAVING_BYTES)) {
        if (early.length < SIGNATURE_BYTES) return this.#wait(early);
        this.#kind = "leaving";
        this.#early = early.subarray(SIGNATURE_BYTES);
      } else if (startsLike(early, DATA_SIGNATURE)) {
        if (early.length < DATA_PREAMBLE_BYTES) return this.#wait(early);
        this.#kind = "data";
        this.#early = undefined;
        this.#frames.push(early.subarray(DATA_PREAMBLE_BYTES));
      } else {
        return { kind: "malformed", reason: "unknown stream signature" };
      }
    }
    if (this.#kind === "rpc") return RPC;
    if (this.#kind === "leaving") return LEAVING;
    const framed = this.#frames.next();
    if (framed.kind === "value") return { kind: "data", message: framed.value };
    return framed.kind === "need" ? NEED : framed;
  }

  /** The bytes behind what `next` gave; the decoder holds nothing afterwards. */
  takeRest(): Uint8Array {
    if (this.#kind === "data") return this.#frames.takeRest();
    const rest = this.#early ?? new Uint8Array(0);
    this.#early = undefined;
    return rest;
  }

  /** A chunk is the caller's again after `next`, so what is kept of it is copied. */
  #wait(early: Uint8Array): StreamHead {
    this.#early = early.slice();
    return NEED;
  }
}

function startsLike(bytes: Uint8Array, signature: readonly number[]): boolean {
  const length = Math.min(bytes.length, SIGNATURE_BYTES);
  for (let i = 0; i < length; i += 1) if (bytes[i] !== signature[i]) return false;
  return true;
}

function joined(first: Uint8Array, second: Uint8Array): Uint8Array {
  const all = new Uint8Array(first.length + second.length);
  all.set(first);
  all.set(second, first.length);
  return all;
}
