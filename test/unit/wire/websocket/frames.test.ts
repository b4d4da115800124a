import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { CLOSE, maskInto, OPCODE } from "../../../../src/wire/websocket/frame.ts";
import { WebSocketReader } from "../../../../src/wire/websocket/reader.ts";
import { encodeClose, encodeFrame, encodeMessages } from "../../../../src/wire/websocket/writer.ts";
import { concat } from "../vectors.ts";
import { record } from "./recorder.ts";

const text = (value: string): Uint8Array => new TextEncoder().encode(value);
const MASK = Uint8Array.of(0x37, 0xfa, 0x21, 0x3d);

describe("the examples of RFC 6455 section 5.7", () => {
  test("an unmasked and a masked text message", () => {
    const unmasked = Uint8Array.of(0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f);
    const masked = Uint8Array.of(0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58);
    expect(encodeFrame(OPCODE.text, text("Hello"))).toEqual(unmasked);
    expect(encodeFrame(OPCODE.text, text("Hello"), { mask: MASK })).toEqual(masked);
    expect(record(unmasked, false).messages).toEqual([{ text: true, bytes: text("Hello") }]);
    expect(record(masked, true).messages).toEqual([{ text: true, bytes: text("Hello") }]);
  });

  test("a fragmented message, and a ping between its fragments", () => {
    const bytes = concat([
      Uint8Array.of(0x01, 0x03, 0x48, 0x65, 0x6c),
      encodeFrame(OPCODE.ping, text("now")),
      Uint8Array.of(0x80, 0x02, 0x6c, 0x6f),
    ]);
    expect(record(bytes, false)).toMatchObject({ events: ["ping now", "text 5"], atBoundary: true });
  });

  test("lengths of 256 bytes and 64 KiB", () => {
    expect([...encodeFrame(OPCODE.binary, new Uint8Array(256)).subarray(0, 4)]).toEqual([0x82, 0x7e, 0x01, 0x00]);
    expect([...encodeFrame(OPCODE.binary, new Uint8Array(65_536)).subarray(0, 10)]).toEqual([
      0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0,
    ]);
  });
});

describe("malformed", () => {
  const cases: readonly [what: string, bytes: readonly number[], masked: boolean, event: string][] = [
    ["a reserved bit", [0xc2, 0x00], false, "malformed 1002 reserved bits are set"],
    ["a reserved data opcode", [0x83, 0x00], false, "malformed 1002 unknown opcode 3"],
    ["a reserved control opcode", [0x8b, 0x00], false, "malformed 1002 unknown opcode 11"],
    ["a fragmented ping", [0x09, 0x00], false, "malformed 1002 a control frame is fragmented"],
    ["a ping of 126 bytes", [0x89, 0x7e, 0x00, 0x7e], false, "malformed 1002 a control frame is too long"],
    ["a continuation of nothing", [0x80, 0x00], false, "malformed 1002 a continuation without a message"],
    ["a message within another", [0x02, 0x00, 0x82, 0x00], false, "malformed 1002 a message begins within another"],
    ["a client's frame without mask", [0x82, 0x00], true, "malformed 1002 a frame is not masked"],
    ["a server's frame with mask", [0x82, 0x80, 0, 0, 0, 0], false, "malformed 1002 a frame is masked"],
    ["125 as 16 bits", [0x82, 0x7e, 0x00, 0x7d], false, "malformed 1002 a length is not in its shortest form"],
    ["65535 as 64 bits", [0x82, 0x7f, 0, 0, 0, 0, 0, 0, 0xff, 0xff], false, "malformed 1002 a length is not in its"],
    ["a length with the highest bit", [0x82, 0x7f, 0x80, 0, 0, 0, 0, 0, 0, 0], false, "malformed 1002 a frame is too"],
    ["a length beyond exact numbers", [0x82, 0x7f, 0, 0x20, 0, 0, 0, 0, 0, 0], false, "malformed 1002 a frame is too"],
    ["half a close code", [0x88, 0x01, 0x03], false, "malformed 1002 a close frame has half a code"],
    ["close code 1005", [0x88, 0x02, 0x03, 0xed], false, "malformed 1002 close code 1005"],
    ["close code 999", [0x88, 0x02, 0x03, 0xe7], false, "malformed 1002 close code 999"],
    ["close code 5000", [0x88, 0x02, 0x13, 0x88], false, "malformed 1002 close code 5000"],
    ["a reason that is no UTF-8", [0x88, 0x03, 0x03, 0xe8, 0xff], false, "malformed 1007 the reason of a close is not"],
  ];
  test.each(cases)("%s", (_what, bytes, masked, event) => {
    const input = concat([Uint8Array.from(bytes), encodeFrame(OPCODE.binary, text("never read"))]);
    for (const size of [1, input.length]) {
      const { events, done } = record(input, masked, size);
      expect(events).toEqual([expect.stringContaining(event)]);
      expect(done).toBe(true);
    }
  });
});

describe("closing", () => {
  test("with a code and a reason, in bytes that are cut between characters", () => {
    const long = "ü".repeat(100);
    expect(record(encodeClose(CLOSE.normal, "bye"), false).events).toEqual(["close 1000 bye"]);
    expect(record(encodeClose(4999, long, MASK), true).events).toEqual([`close 4999 ${"ü".repeat(61)}`]);
  });

  test("without a code", () => {
    expect(record(encodeClose(CLOSE.noStatus), false).events).toEqual(["close 1005 "]);
  });

  test("ends what is read", () => {
    const bytes = concat([encodeClose(CLOSE.normal), encodeFrame(OPCODE.ping, text("late"))]);
    expect(record(bytes, false).events).toEqual(["close 1000 "]);
  });
});

const payloads = fc.oneof(
  fc.uint8Array({ maxLength: 300 }),
  fc.constantFrom(125, 126, 65_535, 65_536, 70_001).map((length) => new Uint8Array(length).fill(length & 0xff)),
);
const masks = fc.uint8Array({ minLength: 4, maxLength: 4 });
type Item = { readonly kind: "message" | "ping" | "pong"; readonly parts: readonly Uint8Array[] };
const items: fc.Arbitrary<Item> = fc.oneof(
  fc.record({ kind: fc.constant("message" as const), parts: fc.array(payloads, { minLength: 1, maxLength: 4 }) }),
  fc.record({
    kind: fc.constantFrom("ping" as const, "pong" as const),
    parts: fc.uint8Array({ maxLength: 125 }).map((payload) => [payload]),
  }),
);

describe("properties", () => {
  test("messages come back whole, in pieces of any size, with control frames anywhere", () => {
    fc.assert(
      fc.property(
        fc.array(items, { maxLength: 5 }),
        masks,
        fc.boolean(),
        fc.integer({ min: 1, max: 5_000 }),
        (list, mask, masked, size) => {
          const options = masked ? { mask } : {};
          const ping = encodeFrame(OPCODE.ping, text("between"), options);
          const frames = list.flatMap(({ kind, parts }) =>
            kind === "message"
              ? parts.flatMap((part, i) => [
                  encodeFrame(i === 0 ? OPCODE.binary : OPCODE.continuation, part, {
                    ...options,
                    fin: i === parts.length - 1,
                  }),
                  ...(i < parts.length - 1 ? [ping] : []),
                ])
              : [encodeFrame(OPCODE[kind], parts[0] as Uint8Array, options)],
          );
          const read = record(concat(frames), masked, size);
          const messages = list.filter(({ kind }) => kind === "message");
          expect(read.messages.map(({ bytes }) => bytes)).toEqual(messages.map(({ parts }) => concat(parts)));
          expect(read.events.filter((event) => event.startsWith("ping between")).length).toBe(
            messages.reduce((sum, { parts }) => sum + parts.length - 1, 0),
          );
          expect(read.atBoundary).toBe(true);
        },
      ),
      { numRuns: 200 },
    );
  });

  test("bytes split into messages are the same bytes", () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 1, maxLength: 2_000 }),
        fc.integer({ min: 1, max: 300 }),
        masks,
        (bytes, max, mask) => {
          const read = record(
            encodeMessages(bytes, max, () => mask),
            true,
            7,
          );
          expect(concat(read.messages.map((message) => message.bytes))).toEqual(bytes);
          expect(read.messages.length).toBe(Math.ceil(bytes.length / max));
        },
      ),
    );
  });

  test("masking at any alignment and offset is what the RFC's formula gives", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), masks, fc.nat(7), fc.nat(9), (bytes, mask, at, offset) => {
        const to = new Uint8Array(at + bytes.length + 3);
        maskInto(to, at, bytes, mask, offset);
        expect([...to.subarray(at, at + bytes.length)]).toEqual(
          [...bytes].map((byte, i) => byte ^ (mask[(i + offset) % 4] as number)),
        );
        expect([...to.subarray(0, at), ...to.subarray(at + bytes.length)].every((byte) => byte === 0)).toBe(true);
      }),
    );
  });

  test("any bytes in any pieces: no throw, the same events however they are cut, at most one end", () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 400 }),
        fc.boolean(),
        fc.integer({ min: 1, max: 40 }),
        (bytes, masked, size) => {
          const whole = record(bytes, masked);
          const cut = record(bytes, masked, size);
          expect(cut).toEqual(whole);
          const ends = whole.events.filter((event) => /^(close|malformed)/.test(event));
          expect(ends.length).toBe(whole.done ? 1 : 0);
          if (whole.done) expect(whole.events.at(-1)).toBe(ends[0] as string);
        },
      ),
      { numRuns: 2_000 },
    );
  });

  test("a long frame passes as it comes: nothing waits for its end", () => {
    const reader = new WebSocketReader({ masked: false });
    let got = 0;
    const handler = {
      onData: (bytes: Uint8Array): void => {
        got += bytes.length;
      },
      onMessageEnd: () => expect().fail("the frame has no end"),
      onPing: () => {},
      onPong: () => {},
      onClose: () => {},
      onMalformed: (reason: string) => expect().fail(reason),
    };
    // 2^52 bytes are announced.
    reader.receive(Uint8Array.of(0x82, 0x7f, 0, 0x10, 0, 0, 0, 0, 0, 0), handler);
    for (let i = 0; i < 100; i++) reader.receive(new Uint8Array(1_000), handler);
    expect(got).toBe(100_000);
  });
});
