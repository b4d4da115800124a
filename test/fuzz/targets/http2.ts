import {
  H2Connection,
  type H2Handler,
  MAX_STUCK_OUTPUT_BYTES,
  TUNNEL_LIMITS,
} from "../../../src/wire/h2/connection.ts";
import { CLIENT_PREFACE, FLAG, FRAME, SETTING } from "../../../src/wire/h2/constants.ts";
import { FrameReader } from "../../../src/wire/h2/frame-reader.ts";
import { FrameWriter } from "../../../src/wire/h2/frame-writer.ts";
import { DYNAMIC_TABLE_BYTES, HpackDecoder } from "../../../src/wire/h2/hpack-decoder.ts";
import { encodeHpack, hpackBoundBytes } from "../../../src/wire/h2/hpack-encoder.ts";
import { decodeHuffman } from "../../../src/wire/h2/huffman.ts";
import { STATIC_TABLE } from "../../../src/wire/h2/static-table.ts";
import type { H2Stream } from "../../../src/wire/h2/stream.ts";
import { bytesOf, chanceOf, joined, sameInPieces, textOf } from "../bytes.ts";
import { type Chance, must, mustEqual, type Target } from "../target.ts";

const allocate = (bytes: number): Uint8Array => Buffer.allocUnsafeSlow(bytes);
const MAX_BLOCKS = 64;
const FRAME_LIMITS = { frameBytes: 16_384, headerBlockBytes: 600 };
const LIST_BYTES = 2000;
/** GET / of a.example. */
const REQUEST = [0x82, 0x86, 0x84, 0x41, 1, 0x61];
const ANSWER = [0x88, 0x5f, 1, 0x61];

function frame(type: number, flags: number, streamId: number, payload: ArrayLike<number> = []): Uint8Array {
  const bytes = new Uint8Array(9 + payload.length);
  bytes.set([payload.length >> 16, payload.length >> 8, payload.length, type, flags]);
  new DataView(bytes.buffer).setUint32(5, streamId);
  bytes.set(payload, 9);
  return bytes;
}

function u32(value: number): number[] {
  return [value >>> 24, (value >>> 16) & 0xff, (value >>> 8) & 0xff, value & 0xff];
}

function setting(id: number, value: number): number[] {
  return [0, id, ...u32(value)];
}

const SETTINGS = frame(FRAME.settings, 0, 0);
const END = FLAG.endHeaders | FLAG.endStream;

function headerBlock(chance: Chance): Uint8Array {
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

function frames(chance: Chance): Uint8Array[] {
  return chance.some(12, () => {
    const id = chance.pick([0, 1, 1, 3, 3, 5, 2, 0x7fff_ffff]);
    const flags = chance.pick([0, END, FLAG.endHeaders, FLAG.endStream, FLAG.padded, FLAG.padded | END, 0xff]);
    switch (chance.below(9)) {
      case 0:
        return frame(FRAME.headers, flags, id, REQUEST);
      case 1:
        return frame(FRAME.headers, flags, id, headerBlock(chance));
      case 2:
        return frame(FRAME.data, flags, id, chance.bytes(chance.below(40)));
      case 3:
        return frame(FRAME.continuation, flags, id, headerBlock(chance));
      case 4:
        return frame(FRAME.windowUpdate, 0, id, u32(chance.pick([0, 1, 65_535, 0x7fff_ffff, 0xffff_ffff])));
      case 5: {
        const value = chance.pick([0, 1, 16_383, 16_384, 65_535, 0x7fff_ffff, 0x8000_0000]);
        return frame(FRAME.settings, chance.below(2), 0, setting(chance.below(10), value));
      }
      case 6:
        return frame(FRAME.rstStream, 0, id, u32(chance.below(15)));
      case 7:
        return frame(FRAME.ping, chance.below(2), 0, chance.bytes(8));
      default:
        return frame(FRAME.goaway, 0, 0, [...u32(chance.below(8)), ...u32(chance.below(14))]);
    }
  });
}

const SEED_FRAMES: readonly Uint8Array[][] = [
  [SETTINGS, frame(FRAME.headers, END, 1, REQUEST)],
  [
    frame(FRAME.settings, 0, 0, [...setting(SETTING.initialWindowSize, 10), ...setting(SETTING.maxFrameSize, 16_384)]),
    frame(FRAME.headers, FLAG.endHeaders, 1, REQUEST),
    frame(FRAME.data, FLAG.padded | FLAG.endStream, 1, [2, 0x61, 0, 0]),
    frame(FRAME.windowUpdate, 0, 1, u32(1000)),
  ],
  [SETTINGS, frame(FRAME.headers, 0, 1, REQUEST.slice(0, 3)), frame(FRAME.continuation, END, 1, REQUEST.slice(3))],
  [
    SETTINGS,
    frame(FRAME.settings, 1, 0),
    frame(FRAME.ping, 0, 0, new Uint8Array(8)),
    frame(FRAME.goaway, 0, 0, new Uint8Array(8)),
  ],
  [
    SETTINGS,
    frame(FRAME.headers, FLAG.endHeaders, 1, ANSWER),
    frame(FRAME.data, FLAG.endStream, 1, [1, 2]),
    frame(FRAME.rstStream, 0, 3, u32(8)),
  ],
];
const FRAME_WORDS = [
  SETTINGS,
  frame(FRAME.headers, END, 1, REQUEST),
  frame(FRAME.headers, FLAG.endHeaders, 3, REQUEST),
  frame(FRAME.headers, FLAG.endHeaders, 1, ANSWER),
  frame(FRAME.headers, END, 1, ANSWER),
  frame(FRAME.data, 1, 1, [1]),
  frame(FRAME.continuation, 4, 1),
  frame(FRAME.rstStream, 0, 1, u32(8)),
  frame(FRAME.windowUpdate, 0, 0, u32(0x7fff_ffff)),
  frame(FRAME.settings, 0, 0, setting(SETTING.initialWindowSize, 0)),
];

interface Seen {
  readonly log: string[];
  broken: boolean;
}

function readFrames(chunks: readonly Uint8Array[]): Seen {
  const seen: Seen = { log: [], broken: false };
  let data = 0;
  const add = (line: string): void => {
    must(!seen.broken, "nothing comes behind a broken frame");
    seen.log.push(line);
  };
  const reader = new FrameReader(
    { preface: false, ...FRAME_LIMITS },
    {
      onData: (id, length, padding) => {
        data = 0;
        must(padding <= length, "padding is a part of its frame");
        add(`data ${id} ${length} ${padding}`);
      },
      onDataBytes: (chunk) => {
        must(!seen.broken, "nothing comes behind a broken frame");
        data += chunk.length;
      },
      onDataEnd: (end) => add(`data end ${data} ${end}`),
      onHeaderBlock: (id, end, bytes, from, to) => {
        must(to - from <= FRAME_LIMITS.frameBytes + FRAME_LIMITS.headerBlockBytes, "a header block is bounded");
        add(`headers ${id} ${end} ${bytes.slice(from, to).toHex()}`);
      },
      onControl: (type, flags, id, bytes, at, length) =>
        add(`control ${type} ${flags} ${id} ${bytes.slice(at, at + length).toHex()}`),
      onBroken: (code, reason) => {
        add(`broken ${code} ${reason}`);
        seen.broken = true;
      },
    },
  );
  for (const chunk of chunks) reader.read(chunk);
  return seen;
}

export const h2Frames: Target = {
  name: "h2-frames",
  words: FRAME_WORDS,
  seeds: () => SEED_FRAMES.map((seed) => joined(...seed)),
  generate: (chance) => joined(SETTINGS, ...frames(chance)),
  open() {
    const nothing = (): void => {};
    const reader = new FrameReader(
      { preface: false, frameBytes: TUNNEL_LIMITS.frameBytes, headerBlockBytes: TUNNEL_LIMITS.headerBlockBytes },
      {
        onData: nothing,
        onDataBytes: nothing,
        onDataEnd: nothing,
        onHeaderBlock: nothing,
        onControl: nothing,
        onBroken: nothing,
      },
    );
    return (chunk) => reader.read(chunk);
  },
  run(input) {
    const { log, broken } = sameInPieces(input, readFrames);
    const kinds = log.map((line) => line.split(" ", 1)[0]?.[0] ?? "").join("");
    return `${kinds.slice(0, 24)} ${broken ? (log.at(-1) ?? "") : ""}`.replace(/[0-9]{2,}/g, "#");
  },
};

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

interface StreamLog {
  readonly id: number;
  readonly events: string[];
  over: boolean;
}

class Peer {
  readonly streams: StreamLog[] = [];
  readonly connection: H2Connection;
  fatal: string | undefined;
  readonly #choose: Chance | undefined;
  readonly #paused: H2Stream[] = [];
  #awake = false;

  /** @param choose makes owners of streams that pause, answer and reset; without it they only listen */
  constructor(role: "client" | "server", choose?: Chance) {
    this.#choose = choose;
    const handler: H2Handler = {
      onRequest: (stream, fields, end) => this.#take(stream, `request ${fields.length} ${end}`),
      onOversizedRequest: (stream, end) => this.#take(stream, `oversized ${end}`),
      onGoaway: () => {},
      onPingAck: () => {},
      onReady: () => {},
      onOutput: () => {},
      onFatal: (code, reason) => {
        must(this.fatal === undefined, "a connection breaks once");
        this.fatal = `${code} ${reason}`;
      },
    };
    const limits = {
      ...TUNNEL_LIMITS,
      streams: 4,
      headerListBytes: LIST_BYTES,
      frameBytes: 16_384,
      headerBlockBytes: 600,
    };
    this.connection = new H2Connection(role, handler, allocate, limits);
    if (role === "client") {
      for (let i = 0; i < 3; i += 1) {
        const stream = this.connection.open(
          [":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a"],
          i !== 1,
        );
        if (stream !== undefined) this.#take(stream, "opened");
      }
    }
  }

  /** Lets every owner read on: what a paused one has not read yet stays, whatever becomes of the connection. */
  resume(): void {
    this.#awake = true;
    for (const stream of this.#paused) stream.resume();
  }

  #take(stream: H2Stream, first: string): void {
    const log: StreamLog = { id: stream.id, events: [first], over: false };
    let data = 0;
    this.streams.push(log);
    const add = (event: string, over = false): void => {
      must(!log.over, `nothing comes behind the end of a stream (${log.events.at(-1)}, ${event})`);
      log.events.push(event);
      log.over = over;
    };
    stream.listen({
      onInformational: (fields) => add(`1xx ${fields.length}`),
      onHead: (fields, end) => add(`head ${fields.length} ${end}`),
      onData: (chunk) => {
        data += chunk.length;
        if (!this.#awake && this.#choose?.once(3) === true) stream.pause();
      },
      onEnd: (trailers) => add(`end ${data} ${trailers.length}`),
      onDrain: () => {},
      onReset: (code, byPeer, processed) => add(`reset ${code} ${byPeer} ${processed}`, true),
      onComplete: () => add("complete", true),
    });
    const choose = this.#choose;
    if (choose === undefined) return;
    if (choose.once(2) && first !== "opened") stream.sendHeaders([":status", "200"], choose.once(4));
    if (choose.once(2)) stream.write(choose.bytes(choose.below(200)));
    this.#paused.push(stream);
    if (choose.once(3)) stream.pause();
    if (choose.once(4)) stream.resume();
    if (choose.once(4)) stream.end(choose.once(2) ? ["x", "y"] : []);
    if (choose.once(8)) stream.reset(8);
    if (choose.once(8)) stream.stopPeer();
  }
}

/** What a connection writes must be frames, whatever it was sent. */
function checkOutput(output: readonly Uint8Array[], role: "client" | "server"): void {
  const nothing = (): void => {};
  const hpackDecoder = new HpackDecoder(100_000);
  const reader = new FrameReader(
    { preface: role === "client", frameBytes: 2 ** 24, headerBlockBytes: 100_000 },
    {
      onData: nothing,
      onDataBytes: nothing,
      onDataEnd: nothing,
      onHeaderBlock: (_, __, bytes, from, to) =>
        must(hpackDecoder.decode(bytes, from, to).kind === "headers", "header blocks that are sent can be read"),
      onControl: nothing,
      onBroken: (_, reason) => must(false, `what is sent is frames: ${reason}`),
    },
  );
  for (const chunk of output) reader.read(chunk);
  must(!reader.midFrame, "what is sent ends with a frame");
}

export const h2Connection: Target = {
  name: "h2-connection",
  words: [...FRAME_WORDS, CLIENT_PREFACE],
  seeds: () => SEED_FRAMES.map((seed) => joined(...seed)),
  generate: (chance) => joined(SETTINGS, ...frames(chance)),
  open() {
    const { connection } = new Peer("server");
    connection.receive(bytesOf(CLIENT_PREFACE));
    return (chunk) => connection.receive(chunk);
  },
  run(input) {
    const outcomes = (["server", "client"] as const).map((role) => {
      const preface = role === "server" ? bytesOf(CLIENT_PREFACE) : new Uint8Array(0);
      const found = sameInPieces(input, (chunks) => {
        const peer = new Peer(role);
        peer.connection.receive(preface.slice());
        for (const chunk of chunks) peer.connection.receive(chunk);
        const output = peer.connection.takeOutput();
        const bytes = output.reduce((sum, { length }) => sum + length, 0);
        must(bytes <= MAX_STUCK_OUTPUT_BYTES + 100_000, "answers to a peer that does not read are bounded");
        checkOutput(output, role);
        return { streams: peer.streams, fatal: peer.fatal, count: peer.connection.streamCount };
      });
      must(found.count <= 4, "no more streams than were allowed");
      // Once more, with owners that do things of their own, and output taken now and then.
      const chance = chanceOf(input);
      const busy = new Peer(role, chance);
      const output: Uint8Array[] = [];
      busy.connection.receive(preface.slice());
      for (let at = 0; at < input.length; ) {
        const end = at + 1 + chance.below(40);
        busy.connection.receive(input.slice(at, end));
        at = end;
        if (!chance.once(3)) continue;
        output.push(...busy.connection.takeOutput().map((chunk) => new Uint8Array(chunk)));
        busy.connection.outputSent(chance.once(2));
      }
      output.push(...busy.connection.takeOutput().map((chunk) => new Uint8Array(chunk)));
      checkOutput(output, role);
      busy.connection.abandon();
      busy.resume();
      must(
        busy.streams.every(({ over }) => over),
        "every stream is over once its connection is",
      );
      const events = found.streams.map((stream) => stream.events.map((event) => event[0]).join("")).join(",");
      return `${events.slice(0, 40)} ${found.fatal ?? ""}`.replace(/[0-9]{2,}/g, "#");
    });
    return outcomes.join(" | ");
  },
};
