import { H2Connection, type H2Handler } from "../../../src/wire/h2/connection.ts";
import { CLIENT_PREFACE, FLAG, FRAME, SETTING } from "../../../src/wire/h2/constants.ts";
import { FrameReader } from "../../../src/wire/h2/frame-reader.ts";
import { HpackDecoder } from "../../../src/wire/h2/hpack-decoder.ts";
import { MAX_STUCK_OUTPUT_BYTES, TUNNEL_LIMITS } from "../../../src/wire/h2/limits.ts";
import type { H2Stream } from "../../../src/wire/h2/stream.ts";
import { bytesOf, chanceOf, joined, sameInPieces } from "../bytes.ts";
import { type Chance, must, type Target } from "../target.ts";
import { allocate, headerBlock, LIST_BYTES, REQUEST } from "./hpack.ts";

const FRAME_LIMITS = { frameBytes: 16_384, headerBlockBytes: 600 };
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
      busy.resume();
      const alive = busy.streams.filter(({ over }) => !over).length;
      must(busy.connection.streamCount === alive, "streams that are over are forgotten, and no others");
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
