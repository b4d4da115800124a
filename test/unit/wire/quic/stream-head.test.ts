import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { decodeMessage } from "../../../../src/wire/capnp/struct-codec.ts";
import {
  encodeDataHead,
  MAX_HEAD_BYTES,
  RPC_PREAMBLE,
  type StreamHead,
  StreamHeadDecoder,
} from "../../../../src/wire/quic/stream-head.ts";
import { connectRequest, connectResponse } from "../../../../src/wire/schema/connect-request.ts";
import { concat, hex, loadVector } from "../vectors.ts";

const PREAMBLE = Uint8Array.of(0x0a, 0x36, 0xcd, 0x12, 0xa1, 0x3e, 0x30, 0x31);

/** Gives `bytes` in chunks of `size`, overwriting each afterwards; the first answer that is not `need`, and the rest. */
function decode(bytes: Uint8Array, size: number): { head: StreamHead; rest: Uint8Array; used: number } {
  const decoder = new StreamHeadDecoder();
  let head: StreamHead = { kind: "need" };
  for (let at = 0; at < bytes.length; at += size) {
    const chunk = bytes.slice(at, at + size);
    decoder.push(chunk);
    head = decoder.next();
    if (head.kind !== "need") return { head, rest: decoder.takeRest(), used: at + chunk.length };
    chunk.fill(0xee);
  }
  return { head, rest: decoder.takeRest(), used: bytes.length };
}

describe("the heads that cloudflared's own code wrote", () => {
  test.each([
    { name: "connect-request-get", codec: connectRequest },
    { name: "connect-request-tcp", codec: connectRequest },
    { name: "connect-response-ok", codec: connectResponse },
    { name: "connect-response-limited", codec: connectResponse },
  ] as const)("$name is read in pieces of any size and written byte for byte", ({ name, codec }) => {
    const bytes = concat([PREAMBLE, loadVector(name)]);
    for (const size of [1, 3, 7, 8, 9, 64, bytes.length]) {
      const { head, rest, used } = decode(concat([bytes, Uint8Array.of(1, 2, 3)]), size);
      if (head.kind !== "data") throw new Error(`read as ${head.kind}`);
      const value = decodeMessage(codec as typeof connectRequest, head.message);
      if (value.kind !== "value") throw new Error(value.reason);
      expect(hex(encodeDataHead(codec as typeof connectRequest, value.value))).toBe(hex(bytes));
      expect(rest.length).toBe(used - bytes.length);
    }
  });
});

test("an RPC stream has a signature and no version", () => {
  expect(hex(RPC_PREAMBLE)).toBe("52bb825cdb65");
  const bytes = concat([RPC_PREAMBLE, Uint8Array.of(9, 8, 7)]);
  for (const size of [1, 4, 6, 9]) {
    const { head, rest, used } = decode(bytes, size);
    expect(head.kind).toBe("rpc");
    expect(hex(rest)).toBe("090807".slice(0, 2 * (used - 6)));
  }
});

test.each([
  { name: "another protocol", bytes: [0x47, 0x45, 0x54] },
  { name: "one wrong byte of a signature", bytes: [0x0a, 0x36, 0xcd, 0x12, 0xa1, 0x3f] },
])("$name is refused at once", ({ bytes }) => {
  expect(decode(Uint8Array.from(bytes), 1).head.kind).toBe("malformed");
});

test("a head that announces too much is refused before it is there", () => {
  const announced = new Uint8Array(8);
  new DataView(announced.buffer).setUint32(4, MAX_HEAD_BYTES / 8, true);
  expect(decode(concat([PREAMBLE, announced]), 16).head.kind).toBe("malformed");
});

test("every strict prefix of a head asks for more", () => {
  const bytes = concat([PREAMBLE, loadVector("connect-request-get")]);
  fc.assert(
    fc.property(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 300 }), (cut, size) => {
      expect(decode(bytes.subarray(0, cut), size).head.kind).toBe("need");
    }),
  );
});

test("random bytes never throw", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.boolean(), (bytes, withPreamble) => {
      decode(withPreamble ? concat([PREAMBLE, bytes]) : bytes, 5);
    }),
  );
});
