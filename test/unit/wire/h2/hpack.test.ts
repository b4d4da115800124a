import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { DYNAMIC_TABLE_BYTES, HpackDecoder } from "../../../../src/wire/h2/hpack-decoder.ts";
import { encodeHpack, hpackBoundBytes } from "../../../../src/wire/h2/hpack-encoder.ts";
import { decodeHuffman } from "../../../../src/wire/h2/huffman.ts";

const hex = (text: string): Uint8Array => Uint8Array.from(text.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));

function decode(decoder: HpackDecoder, text: string) {
  const block = hex(text.replaceAll(" ", ""));
  return decoder.decode(block, 0, block.length);
}

describe("Huffman code", () => {
  test.each([
    ["f1e3c2e5f23a6ba0ab90f4ff", "www.example.com"],
    ["a8eb10649cbf", "no-cache"],
    ["25a849e95ba97d7f", "custom-key"],
    ["d07abe941054d444a8200595040b8166e082a62d1bff", "Mon, 21 Oct 2013 20:13:21 GMT"],
  ])("RFC 7541 appendix C: %s is %s", (coded, want) => {
    const source = hex(coded);
    const target = new Uint8Array(source.length * 2);
    const written = decodeHuffman(source, 0, source.length, target);
    expect(new TextDecoder().decode(target.subarray(0, written))).toBe(want);
  });

  test.each([
    ["1f", "padding that is not all ones is refused: bits after 'a' are 111 but 8 more would be too long", 1],
    ["18", "padding with a zero bit", -1],
    ["1fff", "padding of more than seven bits", -1],
    ["fffffffc", "end-of-string symbol inside", -1],
  ])("%s: %s", (coded, _why, want) => {
    const source = hex(coded);
    expect(decodeHuffman(source, 0, source.length, new Uint8Array(16))).toBe(want);
  });
});

describe("HPACK decoder", () => {
  test("RFC 7541 C.3: three requests share a dynamic table", () => {
    const decoder = new HpackDecoder(4096);
    expect(decode(decoder, "828684410f7777772e6578616d706c652e636f6d")).toEqual({
      kind: "headers",
      fields: [":method", "GET", ":scheme", "http", ":path", "/", ":authority", "www.example.com"],
    });
    expect(decode(decoder, "828684be58086e6f2d6361636865")).toMatchObject({
      fields: [
        ...["GET", "http", "/", "www.example.com", "no-cache"].flatMap((value, i) => [
          [":method", ":scheme", ":path", ":authority", "cache-control"][i] as string,
          value,
        ]),
      ],
    });
    expect(decode(decoder, "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565")).toMatchObject({
      fields: [
        ...[":method", "GET", ":scheme", "https", ":path", "/index.html", ":authority", "www.example.com"],
        ...["custom-key", "custom-value"],
      ],
    });
  });

  test("RFC 7541 C.6: responses with Huffman code and eviction", () => {
    const decoder = new HpackDecoder(4096);
    const first = decode(
      decoder,
      "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3",
    );
    expect(first).toEqual({
      kind: "headers",
      fields: [
        ...[":status", "302", "cache-control", "private", "date", "Mon, 21 Oct 2013 20:13:21 GMT"],
        ...["location", "https://www.example.com"],
      ],
    });
    expect(decode(decoder, "4883640effc1c0bf")).toMatchObject({
      fields: [
        ...[":status", "307", "cache-control", "private", "date", "Mon, 21 Oct 2013 20:13:21 GMT"],
        ...["location", "https://www.example.com"],
      ],
    });
  });

  test.each([
    ["80", "index 0"],
    ["be", "index past the table"],
    ["ffffffffff7f", "integer too long"],
    ["7f", "integer cut off"],
    ["400a6375", "string cut off"],
    ["4083", "value missing"],
    ["823fe21f", "table size update behind a field"],
    ["3fe21f", "table size above the limit"],
    ["4081ff0161", "bad Huffman code in a name"],
  ])("%s: %s is malformed", (block) => {
    expect(decode(new HpackDecoder(4096), block).kind).toBe("malformed");
  });

  test("a list over the limit is told apart and leaves the table in step", () => {
    const decoder = new HpackDecoder(100);
    expect(decode(decoder, `400a637573746f6d2d6b65797f01${"61".repeat(128)}`).kind).toBe("too-large");
    expect(decode(decoder, "be").kind).toBe("too-large");
    expect(decode(decoder, "82")).toEqual({ kind: "headers", fields: [":method", "GET"] });
  });

  test("the dynamic table never holds more than its size", () => {
    const decoder = new HpackDecoder(1 << 20);
    const value = "61".repeat(100);
    for (let i = 0; i < 2000; i++)
      decode(decoder, `4003${Buffer.from(String(i % 1000).padStart(3, "0")).toString("hex")}64${value}`);
    // 3 + 100 + 32 bytes an entry: index 62 + 29 is the oldest that fits, 62 + 30 is gone.
    expect(Math.floor(DYNAMIC_TABLE_BYTES / 135)).toBe(30);
    expect(decode(decoder, "db").kind).toBe("headers");
    expect(decode(decoder, "dc").kind).toBe("malformed");
  });

  test("random bytes never throw", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (block) => {
        new HpackDecoder(4096).decode(block, 0, block.length);
      }),
      { numRuns: 2000 },
    );
  });
});

test("whatever the encoder writes, the decoder reads", () => {
  const name = fc.stringMatching(/^[a-z0-9-]{1,40}$/);
  const value = fc
    .array(fc.integer({ min: 0x20, max: 0xff }), { maxLength: 200 })
    .map((codes) => String.fromCharCode(...codes));
  const known = fc.constantFrom(
    ":status\u0000200",
    "content-length\u00005",
    "accept-encoding\u0000gzip, deflate",
    ":path\u0000/",
  );
  const field = fc.oneof(
    fc.tuple(name, value),
    known.map((pair) => pair.split("\0") as [string, string]),
  );
  fc.assert(
    fc.property(fc.array(field, { maxLength: 30 }), (pairs) => {
      const fields = pairs.flat();
      const target = new Uint8Array(hpackBoundBytes(fields));
      const end = encodeHpack(fields, target, 0);
      expect(new HpackDecoder(1 << 20).decode(target, 0, end)).toEqual({ kind: "headers", fields });
    }),
    { numRuns: 500 },
  );
});
