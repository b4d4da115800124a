import { maskInto, OPCODE, type Opcode } from "../../../src/wire/websocket/frame.ts";
import { handshakeProblem, isWebSocketKey } from "../../../src/wire/websocket/handshake.ts";
import { type WebSocketHandler, WebSocketReader } from "../../../src/wire/websocket/reader.ts";
import { encodeClose, encodeFrame, encodeMessages } from "../../../src/wire/websocket/writer.ts";
import { bytesOf, chanceOf, joined, sameInPieces, textOf } from "../bytes.ts";
import { type Chance, must, mustEqual, type Target } from "../target.ts";

const OPCODES = Object.values(OPCODE);

type Event =
  | { readonly kind: "message"; readonly text: boolean; readonly bytes: Uint8Array }
  | { readonly kind: "ping" | "pong"; readonly bytes: Uint8Array }
  | { readonly kind: "close"; readonly code: number; readonly reason: string }
  | { readonly kind: "malformed"; readonly code: number; readonly reason: string };

interface Read {
  readonly events: readonly Event[];
  /** Of a message that has not ended. */
  readonly unfinished: Uint8Array;
  readonly boundary: boolean;
}

/** @param wipe overwrites each piece once it was read, so that a view that was kept shows */
function read(chunks: readonly Uint8Array[], masked: boolean, wipe: boolean): Read {
  const events: Event[] = [];
  let parts: Uint8Array[] = [];
  const add = (event: Event): void => {
    const before = events.at(-1)?.kind;
    must(before !== "close" && before !== "malformed", "nothing follows the end");
    events.push(event);
  };
  const handler: WebSocketHandler = {
    onData: (bytes) => void parts.push(bytes.slice()),
    onMessageEnd: (text) => {
      add({ kind: "message", text, bytes: joined(...parts) });
      parts = [];
    },
    onPing: (bytes) => add({ kind: "ping", bytes: bytes.slice() }),
    onPong: (bytes) => add({ kind: "pong", bytes: bytes.slice() }),
    onClose: (code, reason) => add({ kind: "close", code, reason }),
    onMalformed: (reason, code) => add({ kind: "malformed", reason, code }),
  };
  const reader = new WebSocketReader({ masked });
  for (const chunk of chunks) {
    reader.receive(chunk, handler);
    if (wipe) chunk.fill(0xee);
  }
  return { events, unfinished: joined(...parts), boundary: reader.atBoundary };
}

/** The mask, a byte at a time, as RFC 6455 section 5.3 has it. */
function plainMask(bytes: Uint8Array, mask: Uint8Array, offset: number): Uint8Array {
  return bytes.map((byte, i) => byte ^ (mask[(i + offset) % 4] as number));
}

function checkMask(input: Uint8Array, chance: Chance): void {
  const [mask, at, offset, behind] = [chance.bytes(4), chance.below(9), chance.below(9), chance.below(9)];
  const from = input.subarray(chance.below(input.length + 1));
  const room = new Uint8Array(at + from.length + behind).fill(0xaa);
  const target = room.subarray(chance.below(at + 1));
  const place = at - target.byteOffset;
  maskInto(target, place, from, mask, offset);
  const wanted = new Uint8Array(room.length).fill(0xaa);
  wanted.set(plainMask(from, mask, offset), at);
  mustEqual(room, wanted, "a mask is laid over these bytes and no others");
}

/** Sends what was read, and reads it again. */
function checkRoundTrip(events: readonly Event[], masked: boolean, chance: Chance): void {
  const mask = (): Uint8Array | undefined => (masked ? chance.bytes(4) : undefined);
  const sent = events.map((event) => {
    switch (event.kind) {
      case "message": {
        const opcode = event.text ? OPCODE.text : OPCODE.binary;
        const cut = chance.below(event.bytes.length + 1);
        return chance.once(2)
          ? encodeFrame(opcode, event.bytes, { mask: mask() })
          : joined(
              encodeFrame(opcode, event.bytes.subarray(0, cut), { mask: mask(), fin: false }),
              encodeFrame(OPCODE.continuation, event.bytes.subarray(cut), { mask: mask() }),
            );
      }
      case "ping":
      case "pong":
        return encodeFrame(OPCODE[event.kind], event.bytes, { mask: mask() });
      case "close":
        return encodeClose(event.code, event.reason, mask());
      default:
        return new Uint8Array(0);
    }
  });
  const wanted = events.filter(({ kind }) => kind !== "malformed");
  mustEqual(read([joined(...sent)], masked, false).events, wanted, "what was read can be sent and is read the same");
}

function checkMessages(input: Uint8Array, masked: boolean, chance: Chance): void {
  const size = 1 + chance.below(300);
  const frames = encodeMessages(input, size, masked ? () => chance.bytes(4) : undefined);
  const { events, boundary } = read([frames], masked, false);
  const bytes = events.map((event) => (event.kind === "message" ? event.bytes : new Uint8Array(0)));
  mustEqual(joined(...bytes), input, "bytes sent as messages arrive");
  must(boundary && bytes.every(({ length }) => length <= size), "messages are no longer than asked for");
}

export const webSocket: Target = {
  name: "websocket",
  words: [
    Uint8Array.of(0x81, 0x85, 1, 2, 3, 4),
    Uint8Array.of(0x88, 0x82, 0, 0, 0, 0, 3, 0xe8),
    Uint8Array.of(0x82, 0xfe, 0, 126),
    Uint8Array.of(0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0),
    Uint8Array.of(0x89, 0),
    Uint8Array.of(0x0a, 0x80),
  ],
  seeds: () => {
    const mask = Uint8Array.of(1, 2, 3, 4);
    const both = (make: (mask: Uint8Array | undefined) => Uint8Array): Uint8Array[] => [make(mask), make(undefined)];
    return [
      ...both((m) => encodeFrame(OPCODE.text, bytesOf("hello"), { mask: m })),
      ...both((m) => encodeFrame(OPCODE.binary, new Uint8Array(300), { mask: m })),
      ...both((m) => joined(encodeFrame(OPCODE.ping, bytesOf("a"), { mask: m }), encodeClose(1000, "bye", m))),
      ...both((m) =>
        joined(
          encodeFrame(OPCODE.text, bytesOf("a"), { mask: m, fin: false }),
          encodeFrame(OPCODE.pong, bytesOf("b"), { mask: m }),
          encodeFrame(OPCODE.continuation, bytesOf("c"), { mask: m }),
        ),
      ),
    ];
  },
  generate: (chance) => {
    const masked = chance.once(2);
    const frame = (): Uint8Array => {
      const opcode = chance.pick<Opcode>(OPCODES);
      const length = chance.once(8) ? chance.pick([0, 1, 124, 125, 126, 127, 300]) : chance.below(12);
      if (opcode === OPCODE.close && chance.once(2))
        return encodeClose(chance.pick([1000, 1001, 3000, 1005]), "é", mask());
      return encodeFrame(opcode, chance.bytes(length), { mask: mask(), fin: !chance.once(3) });
    };
    const mask = (): Uint8Array | undefined => (masked !== chance.once(40) ? chance.bytes(4) : undefined);
    return joined(...chance.some(8, frame));
  },
  open() {
    const reader = new WebSocketReader({ masked: false });
    const nothing = (): void => {};
    const handler: WebSocketHandler = {
      onData: nothing,
      onMessageEnd: nothing,
      onPing: nothing,
      onPong: nothing,
      onClose: nothing,
      onMalformed: nothing,
    };
    return (chunk) => reader.receive(chunk, handler);
  },
  run(input) {
    const chance = chanceOf(input);
    const outcomes = [true, false].map((masked) => {
      const found = sameInPieces(input, (chunks) => read(chunks, masked, true));
      checkRoundTrip(found.events, masked, chance);
      const last = found.events.at(-1);
      if (last?.kind === "close")
        must(new TextEncoder().encode(last.reason).length <= 123, "a reason fits into its frame");
      checkMessages(input, masked, chance);
      return `${found.events.map(({ kind }) => kind[1]).join("")}${last?.kind === "malformed" ? last.reason : ""}`;
    });
    checkMask(input, chance);
    isWebSocketKey(textOf(input));
    handshakeProblem(101, ["Upgrade", textOf(input)], "a", (text) => text);
    return outcomes.join("|");
  },
};
