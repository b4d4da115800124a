import { decodeMessage } from "../../../src/wire/capnp/struct-codec.ts";
import {
  BodyFrameDecoder,
  encodeBodyEnd,
  encodeFrameStart,
  MAX_TRAILER_BYTES,
} from "../../../src/wire/quic/body-frames.ts";
import {
  encodeVersionNegotiation,
  isLongHeader,
  type LongHeader,
  mayOpenConnection,
  parseLongHeader,
  QUIC_V1,
} from "../../../src/wire/quic/packet-header.ts";
import {
  encodeDataHead,
  LEAVING_STREAM,
  RPC_PREAMBLE,
  type StreamHead,
  StreamHeadDecoder,
} from "../../../src/wire/quic/stream-head.ts";
import { encodeVarint, readVarint, varintBytes } from "../../../src/wire/quic/varint.ts";
import { connectRequest } from "../../../src/wire/schema/connect-request.ts";
import { bytesOf, joined, sameInPieces } from "../bytes.ts";
import { type Chance, must, mustEqual, type Target } from "../target.ts";

interface Fields {
  readonly first: number;
  readonly version: number;
  readonly dcid: Uint8Array;
  readonly scid: Uint8Array;
  readonly token: Uint8Array;
}

/** A long header with all its fields (RFC 9000 section 17.2). */
function encodeHeader({ first, version, dcid, scid, token }: Fields): Uint8Array {
  const number = [version >>> 24, (version >>> 16) & 0xff, (version >>> 8) & 0xff, version & 0xff];
  const head = [first, ...number, dcid.length, ...dcid, scid.length, ...scid];
  return joined(Uint8Array.from(head), encodeVarint(token.length), token, Uint8Array.of(0x41, 0, 1, 2, 3));
}

function randomFields(chance: Chance): Fields {
  return {
    first: chance.pick([0xc0, 0xc3, 0xd0, 0xe0, 0xf0, 0x80, 0x40]),
    version: chance.pick([QUIC_V1, QUIC_V1, 0, 0x6b33_43cf, 0xff00_001d]),
    dcid: chance.bytes(chance.below(24)),
    scid: chance.bytes(chance.below(24)),
    token: chance.bytes(chance.below(chance.once(4) ? 300 : 10)),
  };
}

function initial(token: Uint8Array): Uint8Array {
  return encodeHeader({ first: 0xc0, version: QUIC_V1, dcid: new Uint8Array(8), scid: new Uint8Array(4), token });
}

export const quicPackets: Target = {
  name: "quic-packets",
  words: [
    Uint8Array.of(0xc0, 0, 0, 0, 1),
    Uint8Array.of(0x40, 0x40),
    Uint8Array.of(20),
    Uint8Array.of(0xc0, 0, 0, 0, 0, 0, 0, 0),
  ],
  seeds: () => [
    initial(new Uint8Array(0)),
    initial(new Uint8Array(70)),
    joined(initial(new Uint8Array(1)), new Uint8Array(1200)),
  ],
  generate: (chance) => encodeHeader(randomFields(chance)),
  run(input) {
    // In the middle of something larger, as packets lie in what a socket read.
    const packet = joined(Uint8Array.of(9, 9, 9), input, Uint8Array.of(9, 9)).subarray(3, 3 + input.length);
    const header = parseLongHeader(packet);
    if (input.length >= 8) checkVarint(input);
    if (header === undefined) return `none ${isLongHeader(packet)}`;
    const { version, initial: isInitial, dcid, scid, token } = header;
    must(dcid.length <= 20 && scid.length <= 20 && token.length <= 256, "ids and tokens are bounded");
    must(isInitial || token.length === 0, "only Initial packets have tokens");
    const again = parseLongHeader(encodeHeader({ first: input[0] ?? 0, version, dcid, scid, token }));
    mustEqual(again, header, "a header with the same fields is read the same");
    const refusal = parseLongHeader(joined(encodeVersionNegotiation(header), new Uint8Array(1)));
    const wanted: LongHeader = { version: 0, initial: false, dcid: scid, scid: dcid, token: new Uint8Array(0) };
    mustEqual(refusal, wanted, "a refused version is answered with the ids changed over");
    return `${version === QUIC_V1} ${isInitial} ${dcid.length > 7} ${token.length > 63} ${mayOpenConnection(header, input.length)}`;
  },
};

function checkVarint(input: Uint8Array): void {
  const value = readVarint(input, 0);
  const length = varintBytes(input[0] as number);
  const wide = new DataView(input.slice(0, 8).buffer).getBigUint64(0);
  const plain = (wide >> BigInt(64 - 8 * length)) & ((1n << BigInt(8 * length - 2)) - 1n);
  must(
    value === undefined ? plain >= 1n << 30n : BigInt(value) === plain,
    "a variable-length integer is what RFC 9000 says",
  );
  if (value === undefined) return;
  mustEqual(readVarint(encodeVarint(value), 0), value, "an integer that was read can be sent and is read the same");
}

const REQUEST = encodeDataHead(connectRequest, { dest: "http://a/", type: "http", metadata: ["HttpMethod", "GET"] });

function readHead(chunks: readonly Uint8Array[]) {
  const decoder = new StreamHeadDecoder();
  let found: { kind: StreamHead["kind"]; value?: unknown } = { kind: "need" };
  const rest: Uint8Array[] = [];
  for (const chunk of chunks) {
    if (found.kind === "malformed") break;
    if (found.kind !== "need") {
      rest.push(chunk);
      continue;
    }
    decoder.push(chunk);
    const next = decoder.next();
    const value = next.kind === "data" ? decodeMessage(connectRequest, next.message) : undefined;
    found = next.kind === "malformed" ? next : { kind: next.kind, value };
    if (next.kind === "need") chunk.fill(0xee);
    else if (next.kind !== "malformed") rest.push(decoder.takeRest().slice());
  }
  return { found, rest: joined(...rest) };
}

/** The body that our own two ends send behind a head. */
function readBody(chunks: readonly Uint8Array[]) {
  const decoder = new BodyFrameDecoder();
  const body: Uint8Array[] = [];
  let trailers: readonly string[] | undefined;
  let problem: string | undefined;
  for (const chunk of chunks) {
    problem = decoder.receive(chunk, {
      onData: (bytes) => {
        must(bytes.length > 0 && trailers === undefined, "body bytes come in front of the end");
        body.push(bytes.slice());
      },
      onBodyEnd: (found) => {
        trailers = found;
      },
    })?.reason;
    if (problem !== undefined) break;
  }
  must(decoder.done === (trailers !== undefined), "a decoder is done once the body has ended");
  return { body: joined(...body), trailers, problem };
}

export const quicStreams: Target = {
  name: "quic-streams",
  words: [
    RPC_PREAMBLE,
    LEAVING_STREAM,
    REQUEST,
    REQUEST.subarray(0, 8),
    encodeBodyEnd([]),
    encodeBodyEnd(["X-A", "b"]),
  ],
  seeds: () => [
    joined(REQUEST, bytesOf("body")),
    joined(RPC_PREAMBLE, bytesOf("rest")),
    LEAVING_STREAM,
    joined(encodeFrameStart(5), bytesOf("hello"), encodeBodyEnd(["X-A", "b"])),
    joined(encodeFrameStart(100), new Uint8Array(100), encodeFrameStart(1), bytesOf("a"), encodeBodyEnd([])),
  ],
  generate: (chance) => {
    if (chance.once(2)) {
      const metadata = chance.some(6, () => chance.text("aB:\xff", 8)).slice(0, 4);
      const request = { dest: chance.text("http://[]", 12), type: chance.pick(["http", "tcp"] as const), metadata };
      return joined(encodeDataHead(connectRequest, request), chance.bytes(chance.below(9)));
    }
    const chunks = chance.some(5, () => {
      const bytes = chance.bytes(1 + chance.below(chance.once(3) ? 200 : 5));
      return joined(encodeFrameStart(bytes.length), bytes);
    });
    return joined(...chunks, encodeBodyEnd(chance.once(2) ? [] : ["x", chance.text("a,", 80)]));
  },
  open() {
    const decoder = new BodyFrameDecoder();
    return (chunk) => void decoder.receive(chunk, { onData: () => {}, onBodyEnd: () => {} });
  },
  run(input) {
    const { found, rest } = sameInPieces(input, readHead);
    if (found.kind === "data") {
      must(rest.length <= input.length - 16, "a head is not part of what follows");
    }
    const { body, trailers, problem } = sameInPieces(input, readBody);
    if (trailers !== undefined && problem === undefined) {
      const start = body.length === 0 ? new Uint8Array(0) : encodeFrameStart(body.length);
      const end = encodeBodyEnd(trailers);
      must(end.length <= MAX_TRAILER_BYTES + 8, "trailers are bounded");
      const again = readBody([joined(start, body, end)]);
      mustEqual(again, { body, trailers, problem }, "a body that was read can be sent and is read the same");
    }
    return `${found.kind} ${"reason" in found ? String(found.reason) : ""} ${problem ?? ""} ${trailers?.length ?? ""}`;
  },
};
