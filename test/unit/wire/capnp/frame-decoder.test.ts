import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { FrameDecoder, MAX_SEGMENTS } from "../../../../src/wire/capnp/frame-decoder.ts";
import { concat, frameInChunks, loadVector } from "../vectors.ts";

const LARGEST_HEADER_BYTES = 8 + 4 * MAX_SEGMENTS;
const REGISTER = loadVector("register-call");

function header(segmentWords: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(Math.ceil((4 + 4 * segmentWords.length) / 8) * 8);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, segmentWords.length - 1, true);
  segmentWords.forEach((words, i) => {
    view.setUint32(4 + 4 * i, words, true);
  });
  return bytes;
}

describe("FrameDecoder", () => {
  test.each([1, 7, 8, 9, 100, 552])("finds a message that comes in chunks of %d bytes", (size) => {
    const framed = frameInChunks(REGISTER, size);
    expect(framed.kind).toBe("value");
    if (framed.kind === "value") expect(framed.value.segments[0]?.bytes).toEqual(REGISTER.subarray(8));
  });

  test("every strict prefix asks for more, and never for more than is missing", () => {
    for (let cut = 0; cut < REGISTER.length; cut += 1) {
      const decoder = new FrameDecoder();
      decoder.push(REGISTER.subarray(0, cut));
      const framed = decoder.next();
      expect(framed.kind).toBe("need");
      if (framed.kind === "need") {
        expect(framed.atLeastBytes).toBeGreaterThan(0);
        expect(framed.atLeastBytes).toBeLessThanOrEqual(REGISTER.length - cut);
      }
    }
  });

  test("several messages in one chunk, and what follows them", () => {
    const decoder = new FrameDecoder();
    const body = Uint8Array.of(9, 8, 7);
    decoder.push(concat([REGISTER, REGISTER, body]));
    expect(decoder.next().kind).toBe("value");
    expect(decoder.next().kind).toBe("value");
    expect(decoder.takeRest()).toEqual(body);
    decoder.push(REGISTER);
    expect(decoder.next().kind).toBe("value");
  });

  test("a message in several segments", () => {
    const segments = [new Uint8Array(16).fill(1), new Uint8Array(0), new Uint8Array(8).fill(2)];
    const framed = frameInChunks(concat([header([2, 0, 1]), ...segments]), 5);
    expect(framed.kind).toBe("value");
    if (framed.kind === "value") expect(framed.value.segments.map((segment) => segment.bytes)).toEqual(segments);
  });

  test.each([
    { name: "too many segments", bytes: header(Array.from({ length: MAX_SEGMENTS + 1 }, () => 0)), want: "malformed" },
    {
      name: "as many segments as allowed",
      bytes: header(Array.from({ length: MAX_SEGMENTS }, () => 0)),
      want: "value",
    },
    { name: "four billion segments", bytes: new Uint8Array(8).fill(0xff), want: "malformed" },
    { name: "just over the size limit", bytes: header([128 + LARGEST_HEADER_BYTES / 8]), want: "malformed" },
    { name: "just within the size limit", bytes: header([127 + LARGEST_HEADER_BYTES / 8]), want: "need" },
    { name: "a huge announced segment", bytes: header([0xffffffff]), want: "malformed" },
  ])("$name: $want", ({ bytes, want }) => {
    const decoder = new FrameDecoder({ maxMessageBytes: 8 * 128 + LARGEST_HEADER_BYTES });
    decoder.push(bytes);
    expect(decoder.next().kind).toBe(want as "value");
  });

  test("stays malformed", () => {
    const decoder = new FrameDecoder();
    decoder.push(new Uint8Array(8).fill(0xff));
    expect(decoder.next().kind).toBe("malformed");
    decoder.push(REGISTER);
    expect(decoder.next().kind).toBe("malformed");
  });

  test("any bytes in any chunks never throw", () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 20 }), (chunks) => {
        const decoder = new FrameDecoder({ maxMessageBytes: 4096 });
        for (const chunk of chunks) {
          decoder.push(chunk);
          while (decoder.next().kind === "value");
        }
      }),
      { numRuns: 300 },
    );
  });
});
