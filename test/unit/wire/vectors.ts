import { readFileSync } from "node:fs";
import { FrameDecoder, type Framed } from "../../../src/wire/capnp/frame-decoder.ts";
import type { Message } from "../../../src/wire/capnp/message.ts";

/** The bytes of test/vectors/rpc/NAME.hex. */
export function loadVector(name: string): Uint8Array {
  const hex = readFileSync(new URL(`../../vectors/rpc/${name}.hex`, import.meta.url), "utf8").replace(/\s/g, "");
  return Uint8Array.from({ length: hex.length / 2 }, (_, i) => Number.parseInt(hex.slice(2 * i, 2 * i + 2), 16));
}

export function concat(parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

export function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Pushes `bytes` in chunks of `size`; the answer to the last `next`. The chunk is overwritten after each push. */
export function frameInChunks(bytes: Uint8Array, size: number): Framed {
  const decoder = new FrameDecoder();
  let last: Framed = { kind: "need", atLeastBytes: 8 };
  for (let at = 0; at < bytes.length; at += size) {
    const chunk = bytes.slice(at, at + size);
    decoder.push(chunk);
    last = decoder.next();
    if (last.kind !== "need") return last;
    chunk.fill(0xee);
  }
  return last;
}

export function wholeMessage(bytes: Uint8Array): Message {
  const framed = frameInChunks(bytes, bytes.length);
  if (framed.kind !== "value") throw new Error(`not a whole message: ${framed.kind}`);
  return framed.value;
}
