import { FrameReader } from "../../../src/wire/h2/frame-reader.ts";
import { FrameWriter } from "../../../src/wire/h2/frame-writer.ts";
import { DYNAMIC_TABLE_BYTES, HpackDecoder } from "../../../src/wire/h2/hpack-decoder.ts";
import { encodeHpack, hpackBoundBytes } from "../../../src/wire/h2/hpack-encoder.ts";
import { decodeHuffman } from "../../../src/wire/h2/huffman.ts";
import { STATIC_TABLE } from "../../../src/wire/h2/static-table.ts";
import { bytesOf, joined, textOf } from "../bytes.ts";
import { type Chance, must, mustEqual, type Target } from "../target.ts";

/** Uninitialised memory, as the real transports use it. */
export const allocate = (bytes: number): Uint8Array => Buffer.allocUnsafeSlow(bytes);
/** Of one input. */
const MAX_BLOCKS = 64;
/** Most that a list of fields may have here. */
export const LIST_BYTES = 2000;
/** GET / of a.example. */
export const REQUEST = [0x82, 0x86, 0x84, 0x41, 1, 0x61];

/** A block of fields in every form, some of them broken. */
export function headerBlock(chance: Chance): Uint8Array {
  const parts = chance.some(6, (): number[] => {
    const text = (max: number): number[] => {
      const bytes = bytesOf(chance.once(3) ? chance.text("abc:/-", max) : textOf(chance.bytes(chance.below(max))));
      return [(chance.once(3) ? 0x80 : 0) | bytes.length, ...bytes];
    };
    switch (chance.below(6)) {
      case 0:
        return [0x80 | chance.below(128)];
      case 1:
        return [0x40, ...text(20), ...text(60)];
      case 2:
        return [0x40 | (1 + chance.below(62)), ...text(60)];
      case 3:
        return [chance.below(15), ...text(20), ...text(20)];
      case 4:
        return chance.pick([
          [0x20],
          [0x3f, 0xe1, 0x1f],
          [0x3f, 0xe2, 0x1f],
          [0x3f, 0xff, 0xff, 0xff, 0xff, 0x7f],
          [0x30],
        ]);
      default:
        return [0xff, ...chance.bytes(chance.below(6))];
    }
  });
  return Uint8Array.from([...(chance.once(2) ? REQUEST : []), ...parts.flat()]);
}

/** HPACK once more, in the plainest way (RFC 7541 sections 2 to 6); undefined for what is malformed. */
class PlainHpack {
  readonly #table: [name: string, value: string][] = [];
  #limit = DYNAMIC_TABLE_BYTES;

  decode(block: Uint8Array): string[] | undefined {
    const fields: string[] = [];
    let at = 0;
    const integer = (bits: number): number => {
      const mask = 2 ** bits - 1;
      let value = (block[at++] ?? Number.NaN) & mask;
      for (let shift = 1, byte = 0x80; value >= mask && byte >= 0x80; shift *= 128) {
        byte = block[at++] ?? Number.NaN;
        // Four more bytes at most, as the decoder under test has it.
        if (Number.isNaN(byte) || shift > 128 ** 3) throw new RangeError("integer");
        value += (byte & 0x7f) * shift;
      }
      return value;
    };
    const text = (): string => {
      if (at >= block.length) throw new RangeError("text");
      const huffman = (block[at] as number) >= 0x80;
      const length = integer(7);
      const bytes = block.subarray(at, at + length);
      if (bytes.length < length) throw new RangeError("text");
      at += length;
      if (!huffman) return textOf(bytes);
      const room = new Uint8Array(2 * length);
      const written = decodeHuffman(bytes, 0, length, room);
      if (written < 0) throw new RangeError("Huffman code");
      return textOf(room.subarray(0, written));
    };
    const entry = (index: number): readonly [string, string] => {
      const found = STATIC_TABLE[index - 1] ?? this.#table[index - 1 - STATIC_TABLE.length];
      if (found === undefined) throw new RangeError("index");
      return found;
    };
    try {
      while (at < block.length) {
        const first = block[at] as number;
        if (first >= 0x80) fields.push(...entry(integer(7)));
        else if (first >= 0x20 && first < 0x40) {
          this.#limit = integer(5);
          if (this.#limit > DYNAMIC_TABLE_BYTES || fields.length > 0) return undefined;
          this.#evict();
        } else {
          const index = integer(first >= 0x40 ? 6 : 4);
          const name = index === 0 ? text() : entry(index)[0];
          const value = text();
          fields.push(name, value);
          if (first < 0x40) continue;
          this.#table.unshift([name, value]);
          this.#evict();
        }
      }
      return fields;
    } catch (error) {
      if (error instanceof RangeError) return undefined;
      throw error;
    }
  }

  #evict(): void {
    const bytes = (): number => this.#table.reduce((sum, [name, value]) => sum + name.length + value.length + 32, 0);
    while (bytes() > this.#limit) this.#table.pop();
  }
}

/** The input is header blocks, each behind its length byte, in the order in which a connection sends them. */
export const hpack: Target = {
  name: "hpack",
  words: [
    Uint8Array.from(REQUEST),
    Uint8Array.of(0x3f, 0xe1, 0x1f),
    Uint8Array.of(0xbe),
    Uint8Array.of(0x40, 1, 0x61, 1, 0x62),
  ],
  seeds: () => [
    Uint8Array.of(6, ...REQUEST),
    Uint8Array.of(5, 0x40, 1, 0x61, 1, 0x62, 1, 0xbe),
    Uint8Array.of(4, 0x41, 0x82, 0x1d, 0x7f, 2, 0x20, 0xbe),
  ],
  generate: (chance) =>
    joined(
      ...chance.some(4, () => {
        const block = headerBlock(chance).subarray(0, 255);
        return joined(Uint8Array.of(block.length), block);
      }),
    ),
  run(input) {
    const decoder = new HpackDecoder(LIST_BYTES);
    const plain = new PlainHpack();
    const outcomes: string[] = [];
    for (let at = 0; at < input.length && outcomes.length < MAX_BLOCKS; ) {
      const end = Math.min(input.length, at + 1 + (input[at] as number));
      const decoded = decoder.decode(input, at + 1, end);
      const wanted = plain.decode(input.subarray(at + 1, end));
      must(
        (wanted === undefined) === (decoded.kind === "malformed"),
        "a block is malformed to both decoders or to none",
      );
      if (decoded.kind === "headers") mustEqual(decoded.fields, wanted, "a block has the same fields to both decoders");
      at = end;
      outcomes.push(decoded.kind === "malformed" ? decoded.reason : decoded.kind);
      if (decoded.kind === "malformed") break;
      if (decoded.kind !== "headers") continue;
      const { fields } = decoded;
      const bytes = fields.reduce((sum, text) => sum + text.length, 16 * fields.length);
      must(fields.length % 2 === 0 && bytes <= LIST_BYTES, "a list of fields is bounded");
      const block = new Uint8Array(hpackBoundBytes(fields));
      const length = encodeHpack(fields, block, 0);
      must(length <= block.length, "a block is no longer than its bound");
      const again = new HpackDecoder(LIST_BYTES).decode(block, 0, length);
      mustEqual(again, decoded, "fields that were read can be sent and are read the same");
      mustEqual(throughFrames(fields), fields, "a message's fields arrive through frames");
    }
    return outcomes.join(" ");
  },
};

/** Fields written in frames, read by the reader and decoded. */
function throughFrames(fields: readonly string[]): readonly string[] {
  const writer = new FrameWriter(allocate);
  writer.maxFrameBytes = 100;
  writer.settings([]);
  writer.headers(1, fields, false);
  let arrived: readonly string[] = [];
  const nothing = (): void => {};
  const reader = new FrameReader(
    { preface: false, frameBytes: 100, headerBlockBytes: 100_000 },
    {
      onData: nothing,
      onDataBytes: nothing,
      onDataEnd: nothing,
      onHeaderBlock: (_, __, bytes, from, to) => {
        const decoded = new HpackDecoder(LIST_BYTES).decode(bytes, from, to);
        arrived = decoded.kind === "headers" ? decoded.fields : [decoded.kind];
      },
      onControl: nothing,
      onBroken: (_, reason) => {
        arrived = [reason];
      },
    },
  );
  for (const chunk of writer.take()) reader.read(chunk);
  return arrived;
}
