import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { RawHeaders } from "../../../../src/wire/headers.ts";
import {
  BodyFrameDecoder,
  encodeBodyEnd,
  encodeFrameStart,
  MAX_TRAILER_BYTES,
} from "../../../../src/wire/quic/body-frames.ts";
import { encodeVarint, MAX_VARINT, readVarint, varintBytes } from "../../../../src/wire/quic/varint.ts";
import { concat } from "../vectors.ts";

function encode(chunks: readonly Uint8Array[], trailers: RawHeaders): Uint8Array {
  const parts = chunks.filter((chunk) => chunk.length > 0).flatMap((chunk) => [encodeFrameStart(chunk.length), chunk]);
  return concat([...parts, encodeBodyEnd(trailers)]);
}

function decode(bytes: Uint8Array, size: number) {
  const decoder = new BodyFrameDecoder();
  const parts: Uint8Array[] = [];
  let trailers: RawHeaders | undefined;
  for (let at = 0; at < bytes.length; at += size) {
    const chunk = bytes.slice(at, at + size);
    const problem = decoder.receive(chunk, {
      onData: (part) => void parts.push(part.slice()),
      onBodyEnd: (given) => {
        trailers = given;
      },
    });
    chunk.fill(0xee);
    if (problem !== undefined) return { problem: problem.reason, body: concat(parts), trailers, done: decoder.done };
  }
  return { problem: undefined, body: concat(parts), trailers, done: decoder.done };
}

const bodies = fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 6 });

describe("framed bodies", () => {
  test("come back whole, in pieces of any size", () => {
    fc.assert(
      fc.property(bodies, fc.integer({ min: 1, max: 400 }), (chunks, size) => {
        const trailers = ["grpc-status", "0", "X-Sum", "4 2"];
        const decoded = decode(encode(chunks, trailers), size);
        expect(decoded).toEqual({ problem: undefined, body: concat(chunks), trailers, done: true });
      }),
    );
  });

  test("are not done as long as a byte is missing", () => {
    fc.assert(
      fc.property(bodies, fc.nat(), (chunks, cut) => {
        const bytes = encode(chunks, ["a", "b"]);
        expect(decode(bytes.subarray(0, cut % bytes.length), 64).done).toBe(false);
      }),
    );
  });

  test("that are empty end with two bytes", () => {
    expect([...encodeBodyEnd([])]).toEqual([0, 0]);
  });

  test.each([
    { name: "bytes behind the end", bytes: [0, 0, 1] },
    { name: "a frame of 2^40 bytes", bytes: [0xc0, 0, 1, 0, 0, 0, 0, 0] },
    { name: "trailers beyond their limit", bytes: [0, ...encodeVarint(MAX_TRAILER_BYTES + 1)] },
    {
      name: "trailers that could split a response",
      bytes: [0, 9, ..."YQ:YQ0KYg".split("").map((c) => c.charCodeAt(0))],
    },
  ])("$name are refused", ({ bytes }) => {
    for (const size of [1, bytes.length]) expect(decode(Uint8Array.from(bytes), size).problem).toBeString();
  });

  test("trailers that are too long are left out", () => {
    const decoded = decode(encodeBodyEnd(["x", "y".repeat(MAX_TRAILER_BYTES)]), 100);
    expect(decoded).toMatchObject({ trailers: [], done: true });
  });

  test("random bytes never throw", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), fc.integer({ min: 1, max: 50 }), (bytes, size) => {
        decode(bytes, size);
      }),
    );
  });
});

test("varints have the shortest form and come back", () => {
  for (const [value, length] of [
    [0, 1],
    [63, 1],
    [64, 2],
    [16_383, 2],
    [16_384, 4],
    [MAX_VARINT, 4],
  ] as const) {
    const bytes = encodeVarint(value);
    expect([bytes.length, varintBytes(bytes[0] as number), readVarint(bytes, 0)]).toEqual([length, length, value]);
  }
  // RFC 9000, appendix A.1.
  expect(readVarint(Uint8Array.of(0x9d, 0x7f, 0x3e, 0x7d), 0)).toBe(494_878_333);
  expect(readVarint(Uint8Array.of(0x40, 0x25), 0)).toBe(37);
});
