import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { MessageBuilder } from "../../../../src/wire/capnp/builder.ts";
import { type Decoded, decodeTotally } from "../../../../src/wire/capnp/decoded.ts";
import { MAX_NESTING, Message, type StructReader } from "../../../../src/wire/capnp/message.ts";
import { wholeMessage } from "../vectors.ts";

/** A segment from 64-bit words. */
function segment(...words: readonly bigint[]): Uint8Array {
  const bytes = new Uint8Array(words.length * 8);
  const view = new DataView(bytes.buffer);
  words.forEach((word, i) => {
    view.setBigUint64(8 * i, BigInt.asUintN(64, word), true);
  });
  return bytes;
}

const structPointer = (offset: number, data: number, pointers: number): bigint =>
  BigInt.asUintN(32, BigInt(offset << 2)) | (BigInt(data) << 32n) | (BigInt(pointers) << 48n);
const listPointer = (offset: number, kind: number, count: number): bigint =>
  BigInt.asUintN(32, BigInt((offset << 2) | 1)) | (BigInt(kind) << 32n) | (BigInt(count) << 35n);
const farPointer = (segmentId: number, word: number, double = false): bigint =>
  BigInt((word << 3) | (double ? 4 : 0) | 2) | (BigInt(segmentId) << 32n);

function read<T>(segments: readonly Uint8Array[], reader: (root: StructReader) => T, limit?: number): Decoded<T> {
  const message = new Message(segments, limit === undefined ? {} : { traversalLimitWords: limit });
  return decodeTotally(() => reader(message.root()));
}

const HI = 0x006968n;

describe("Message", () => {
  test("fields beyond the struct and null pointers read as defaults", () => {
    const defaults = read([segment(0n)], (root) => [
      root.bool(3),
      root.bool(3, true),
      root.u8(0),
      root.u16(2),
      root.i32(4),
      root.u32(4),
      root.i64(8),
      root.u64(8),
      root.text(0),
      root.byteText(1),
      root.data(2).length,
      root.textList(3).length,
      root.struct(4).struct(0).u8(0),
      root.capability(5),
    ]);
    expect(defaults).toEqual({
      kind: "value",
      value: [false, true, 0, 0, 0, 0, 0n, 0n, "", "", 0, 0, 0, undefined],
    });
  });

  test("a far pointer to a landing pad in another segment", () => {
    const segments = [segment(farPointer(1, 1)), segment(0n, structPointer(0, 0, 1), listPointer(0, 2, 3), HI)];
    expect(read(segments, (root) => root.text(0))).toEqual({ kind: "value", value: "hi" });
  });

  test("a double far pointer, its pad apart from its target", () => {
    const segments = [
      segment(structPointer(0, 0, 1), farPointer(1, 0, true)),
      segment(farPointer(2, 1), listPointer(0, 2, 3)),
      segment(0n, HI),
    ];
    expect(read(segments, (root) => root.text(0))).toEqual({ kind: "value", value: "hi" });
  });

  test.each([
    { name: "no segment at all", segments: [] },
    { name: "empty first segment", segments: [segment()] },
    { name: "struct behind the end", segments: [segment(structPointer(1, 1, 0))] },
    { name: "struct before the start", segments: [segment(structPointer(-2, 1, 0))] },
    { name: "struct half inside", segments: [segment(structPointer(0, 1, 1), 0n)] },
    { name: "far pointer to a missing segment", segments: [segment(farPointer(7, 0))] },
    { name: "far pointer behind the end", segments: [segment(farPointer(0, 9))] },
    { name: "far pointer to itself", segments: [segment(farPointer(0, 0))] },
    { name: "double far pad cut", segments: [segment(farPointer(0, 1, true), farPointer(0, 0))] },
    { name: "double far pad to a pad", segments: [segment(farPointer(0, 1, true), farPointer(0, 0, true), 0n)] },
    { name: "double far with a capability tag", segments: [segment(farPointer(0, 1, true), farPointer(0, 0), 3n)] },
    { name: "root is a list", segments: [segment(listPointer(0, 2, 0))] },
    { name: "root is a capability", segments: [segment(3n)] },
    { name: "pointer of a reserved kind", segments: [segment(7n)] },
  ])("$name is malformed", ({ segments }) => {
    expect(read(segments, (root) => root.u8(0)).kind).toBe("malformed");
  });

  test.each([
    { name: "text behind the end", words: [listPointer(0, 2, 9), HI] },
    { name: "text without NUL", words: [listPointer(0, 2, 2), HI] },
    { name: "text of no bytes", words: [listPointer(0, 2, 0)] },
    { name: "text as a list of words", words: [listPointer(0, 5, 1), HI] },
    { name: "text as a struct", words: [structPointer(0, 1, 0), HI] },
  ])("$name is malformed", ({ words }) => {
    expect(read([segment(structPointer(0, 0, 1), ...words)], (root) => root.text(0)).kind).toBe("malformed");
    expect(read([segment(structPointer(0, 0, 1), ...words)], (root) => root.byteText(0)).kind).toBe("malformed");
  });

  test.each([
    { name: "more elements than words", words: [listPointer(0, 7, 1), structPointer(2, 1, 0), 0n] },
    { name: "tag is no struct pointer", words: [listPointer(0, 7, 1), listPointer(1, 1, 0), 0n] },
    { name: "list behind the end", words: [listPointer(0, 7, 4), structPointer(1, 1, 0), 0n] },
    { name: "a billion elements without size", words: [listPointer(0, 7, 0), structPointer(0x1fffffff, 0, 0)] },
  ])("struct list: $name is malformed", ({ words }) => {
    let visited = 0;
    const result = read([segment(structPointer(0, 0, 1), ...words)], (root) =>
      root.forEachStruct(0, () => {
        visited += 1;
      }),
    );
    expect(result.kind).toBe("malformed");
    expect(visited).toBe(0);
  });

  test("a struct that points to itself ends at the nesting limit", () => {
    let depth = 0;
    const result = read(
      [segment(structPointer(0, 0, 1), structPointer(-1, 0, 1))],
      (root) => {
        for (let view = root; ; depth += 1) view = view.struct(0);
      },
      1_000_000,
    );
    expect(result.kind).toBe("malformed");
    expect(depth).toBe(MAX_NESTING - 1);
  });

  test("reading one target again and again ends at the traversal limit", () => {
    const bytes = segment(structPointer(0, 0, 1), listPointer(0, 2, 3), HI);
    const readTimes = (times: number) =>
      read([bytes], (root) => {
        for (let i = 0; i < times; i += 1) root.text(0);
      });
    expect(readTimes(8).kind).toBe("value");
    expect(readTimes(1000).kind).toBe("malformed");
  });

  test("data is copied, so the buffer may be used again", () => {
    const bytes = segment(structPointer(0, 0, 1), listPointer(0, 2, 3), HI);
    const data = read([bytes], (root) => root.data(0));
    bytes.fill(0);
    expect(data).toEqual({ kind: "value", value: Uint8Array.of(0x68, 0x69, 0) });
  });
});

describe("MessageBuilder", () => {
  test("what it writes reads back", () => {
    const value = fc.record({
      bit: fc.boolean(),
      byte: fc.nat(255),
      signed: fc.integer(),
      wide: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
      text: fc.string({ unit: "binary" }),
      bytes: fc.string({ unit: fc.nat(255).map((code) => String.fromCharCode(code)), maxLength: 9000 }),
      data: fc.uint8Array(),
      texts: fc.array(fc.string()),
    });
    fc.assert(
      fc.property(value, fc.nat(600), (want, capacity) => {
        const builder = new MessageBuilder(capacity);
        const root = builder.root(3, 4);
        root.setBool(9, want.bit, true);
        root.setU8(0, want.byte);
        root.setI32(4, want.signed);
        root.setI64(8, want.wide);
        root.setText(0, want.text);
        root.setByteText(1, want.bytes);
        root.setData(2, want.data);
        root.setTextList(3, want.texts);
        const view = wholeMessage(builder.finish()).root();
        const got = {
          bit: view.bool(9, true),
          byte: view.u8(0),
          signed: view.i32(4),
          wide: view.i64(8),
          text: view.text(0),
          bytes: view.byteText(1),
          data: view.data(2),
          texts: view.textList(3),
        };
        expect(got).toEqual({
          ...want,
          text: want.text.toWellFormed(),
          texts: want.texts.map((t) => t.toWellFormed()),
        });
      }),
      { numRuns: 200 },
    );
  });

  test("a char without a byte cannot forge a line break", () => {
    const builder = new MessageBuilder();
    builder.root(0, 1).setByteText(0, "a\u010ab\u00e9");
    expect(wholeMessage(builder.finish()).root().byteText(0)).toBe("a?b\u00e9");
  });
});
