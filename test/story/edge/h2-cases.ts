import { CLIENT_PREFACE, FLAG, FRAME, H2_ERROR, SETTING } from "../../../src/wire/h2/constants.ts";
import { encodeHpack, hpackBoundBytes } from "../../../src/wire/h2/hpack-encoder.ts";
import type { RawHeaders } from "../../../src/wire/headers.ts";
import { type FrameVisitor, frame, requestFields, requestFrame } from "./h2-visitor.ts";

/** What a peer must see of the edge after the last step of a case. */
export type Reaction =
  /** A GOAWAY with exactly this code, then the end of the connection. */
  | { readonly kind: "connection"; readonly code: number }
  /** A reset of this stream with exactly this code; a request on a later stream is served. */
  | { readonly kind: "stream"; readonly code: number; readonly id: number }
  /** A whole answer on this stream, with this text in its body; a request on a later stream is served too. */
  | { readonly kind: "answered"; readonly id: number; readonly status: number; readonly says?: string }
  /** Nothing but that a request on a later stream is served. */
  | { readonly kind: "tolerated" }
  /** An HTTP/1.1 answer, then the end of the connection. */
  | { readonly kind: "http1"; readonly status: number };

/** Bytes to send, or something to wait for. */
export type Step = string | { readonly until: string; readonly holds: (visitor: FrameVisitor) => boolean };

export interface H2Case {
  readonly section: string;
  readonly name: string;
  readonly steps: readonly Step[];
  readonly outcome: Reaction;
  /** The preface and SETTINGS are part of `steps`. @default false */
  readonly bare?: boolean;
  /** What the protocol asks for and the edge does otherwise, and why. */
  readonly deviation?: string;
}

const { endStream, endHeaders, padded, priority, ack } = FLAG;
const { protocolError, flowControlError, streamClosed, frameSizeError, compressionError } = H2_ERROR;

/** Path whose requests are never answered: their streams stay as they are. */
export const SILENT_PATH = "/silent";
/** Path that is answered with {@link LONG_BODY_BYTES}. */
export const LONG_PATH = "/long";
export const LONG_BODY_BYTES = 100_000;
const MOST = 0x7fff_ffff;

const connection = (code: number): Reaction => ({ kind: "connection", code });
const stream = (code: number, id = 1): Reaction => ({ kind: "stream", code, id });
const answered = (id = 1, says?: string): Reaction => ({
  ...{ kind: "answered", id, status: 200 },
  ...(says === undefined ? {} : { says }),
});
const TOLERATED: Reaction = { kind: "tolerated" };

function u32(...values: number[]): number[] {
  return values.flatMap((value) => [(value >>> 24) & 0xff, (value >>> 16) & 0xff, (value >>> 8) & 0xff, value & 0xff]);
}

function ascii(text: string): number[] {
  return [...text].map((char) => char.charCodeAt(0));
}

function blockOf(fields: RawHeaders): number[] {
  const block = new Uint8Array(hpackBoundBytes(fields));
  return [...block.subarray(0, encodeHpack(fields, block, 0))];
}

const get = (id = 1, path = "/", more: RawHeaders = []): string => requestFrame(id, requestFields(more, path), true);
/** A request whose body is to come. */
const post = (id = 1, path = "/", more: RawHeaders = []): string =>
  requestFrame(id, [":method", "POST", ...requestFields(more, path).slice(2)], false);
const data = (id: number, text: string, flags = 0): string => frame(FRAME.data, flags, id, ascii(text));
const reset = (id: number, code = 8): string => frame(FRAME.rstStream, 0, id, u32(code));
const update = (id: number, bytes: number): string => frame(FRAME.windowUpdate, 0, id, u32(bytes));
const prioritise = (id: number, on: number, weight = 15, exclusive = false): string =>
  frame(FRAME.priority, 0, id, [...u32(on + (exclusive ? 0x8000_0000 : 0)), weight]);
const settings = (...pairs: readonly (readonly [number, number])[]): string =>
  frame(
    FRAME.settings,
    0,
    0,
    pairs.flatMap(([id, value]) => [id >> 8, id & 0xff, ...u32(value)]),
  );
const ping = (flags = 0, payload = ascii("conforms")): string => frame(FRAME.ping, flags, 0, payload);
const goaway = (code: number, id = 0): string => frame(FRAME.goaway, 0, id, u32(0, code));
const headers = (id: number, flags: number, payload: readonly number[]): string =>
  frame(FRAME.headers, flags, id, payload);
const more = (id: number, flags: number, payload: readonly number[]): string =>
  frame(FRAME.continuation, flags, id, payload);

/** A GET of `/` in HPACK, and the same cut in three. */
const GET_BLOCK = blockOf(requestFields());
const PARTS = [GET_BLOCK.slice(0, 1), GET_BLOCK.slice(1, 3), GET_BLOCK.slice(3)] as const;
/** A header block followed by bytes of HPACK's own, as one request. */
const withBlock = (...bytes: number[]): string => headers(1, endHeaders | endStream, [...GET_BLOCK, ...bytes]);

const ended = (id: number): Step => ({
  until: `the end of the answer on stream ${id}`,
  holds: (visitor) => visitor.frames.some((seen) => seen.streamId === id && isEnd(seen.type, seen.flags)),
});
const acknowledged: Step = {
  until: "the edge acknowledges our SETTINGS",
  holds: (visitor) => visitor.of(FRAME.settings).some((seen) => (seen.flags & ack) !== 0),
};

function isEnd(type: number, flags: number): boolean {
  return (type === FRAME.data || type === FRAME.headers) && (flags & endStream) !== 0;
}

function dataBytes(visitor: FrameVisitor, id: number): number {
  return visitor.of(FRAME.data).reduce((sum, seen) => sum + (seen.streamId === id ? seen.payload.length : 0), 0);
}

const received = (id: number, bytes: number): Step => ({
  until: `${bytes} bytes on stream ${id}`,
  holds: (visitor) => dataBytes(visitor, id) === bytes,
});

/** Huffman codes from RFC 7541 appendix C.4.3. */
const HUFFMAN_KEY = [0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f];
const HUFFMAN_VALUE = [0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf];
const KEY = [0x0a, ...ascii("custom-key")];
const VALUE = [0x0c, ...ascii("custom-value")];
const CODED_KEY = [0x80 | HUFFMAN_KEY.length, ...HUFFMAN_KEY];
const CODED_VALUE = [0x80 | HUFFMAN_VALUE.length, ...HUFFMAN_VALUE];

/** The nine forms of a literal (RFC 7541 section 6.2), which the service must see as what they stand for. */
function literals(): H2Case[] {
  const forms = [
    { name: "kept in the table", first: 0x40, mask: 0x3f, section: "HPACK 6.2.1" },
    { name: "not kept", first: 0x00, mask: 0x0f, section: "HPACK 6.2.2" },
    { name: "never to be kept", first: 0x10, mask: 0x0f, section: "HPACK 6.2.3" },
  ] as const;
  return forms.flatMap(({ name, first, mask, section }) => {
    // user-agent is entry 58 of the static table, beyond the four-bit prefix.
    const index = 58 < mask ? [first | 58] : [first | mask, 58 - mask];
    const variants = [
      { what: "a name of the table, a plain value", bytes: [...index, ...VALUE] },
      { what: "a name of the table, a coded value", bytes: [...index, ...CODED_VALUE] },
      { what: "a new name, both plain", bytes: [first, ...KEY, ...VALUE] },
      { what: "a new name, both coded", bytes: [first, ...CODED_KEY, ...CODED_VALUE] },
      { what: "a coded name and a plain value", bytes: [first, ...CODED_KEY, ...VALUE] },
    ];
    return variants.map(({ what, bytes }) => ({
      ...{ section, name: `a literal ${name}: ${what}`, steps: [withBlock(...bytes)] },
      outcome: answered(1, "custom-value"),
    }));
  });
}

/** Requests that are malformed as messages: their stream alone is reset. */
function malformedHeads(): H2Case[] {
  const [method, , scheme, , authority, host = "", path] = requestFields() as string[];
  const pseudo = { method, scheme, authority, path } as Record<string, string>;
  const full: Record<string, string> = {
    [pseudo["method"] ?? ""]: "GET",
    [pseudo["scheme"] ?? ""]: "http",
    [pseudo["authority"] ?? ""]: host,
    [pseudo["path"] ?? ""]: "/",
  };
  const without = (name: string): RawHeaders =>
    Object.entries(full)
      .filter(([key]) => key !== name)
      .flat();
  const list: readonly (readonly [string, string, RawHeaders])[] = [
    ["8.2.1", "a name with a capital", requestFields(["X-Test", "a"])],
    ["8.2.1", "a name with a blank", requestFields(["x test", "a"])],
    ["8.2.1", "an empty name", requestFields(["", "a"])],
    ["8.2.1", "a value with a line feed", requestFields(["x-test", "a\nb"])],
    ["8.2.1", "a value with a zero byte", requestFields(["x-test", "a\0b"])],
    ["8.2.2", "Connection", requestFields(["connection", "keep-alive"])],
    ["8.2.2", "Keep-Alive", requestFields(["keep-alive", "timeout=5"])],
    ["8.2.2", "Proxy-Connection", requestFields(["proxy-connection", "keep-alive"])],
    ["8.2.2", "Transfer-Encoding", requestFields(["transfer-encoding", "chunked"])],
    ["8.2.2", "Upgrade", requestFields(["upgrade", "h2c"])],
    ["8.2.2", "TE with more than trailers", requestFields(["te", "trailers, deflate"])],
    ["8.3", "a pseudo-field nobody defined", [":test", "a", ...requestFields()]],
    ["8.3", "a pseudo-field of answers", [":status", "200", ...requestFields()]],
    [
      "8.3",
      "a pseudo-field behind a field",
      [...requestFields(["x-test", "a"]).slice(0, -4), "x-test", "a", ":path", "/"],
    ],
    ["8.3.1", "an empty :path", requestFields([], "")],
    ["8.3.1", "no :method", without(":method")],
    ["8.3.1", "no :scheme", without(":scheme")],
    ["8.3.1", "no :path", without(":path")],
    ["8.3.1", ":method twice", [":method", "GET", ...requestFields()]],
    ["8.3.1", ":scheme twice", [":scheme", "http", ...requestFields()]],
    ["8.3.1", ":path twice", [":path", "/", ...requestFields()]],
    ["8.3.1", ":authority twice", [":authority", host, ...requestFields()]],
    ["8.5", "CONNECT with :path and no :protocol", [":method", "CONNECT", ":authority", host, ":path", "/"]],
  ];
  return list.map(([section, name, fields]) => ({
    ...{ section, name: `a request with ${name}` },
    ...{ steps: [requestFrame(1, fields, true)], outcome: stream(protocolError) },
  }));
}

function badBlocks(): H2Case[] {
  const list: readonly (readonly [string, string, readonly number[]])[] = [
    ["HPACK 2.3.3", "an index beyond both tables", [0xff, 0x80, 0x01]],
    ["HPACK 2.3.3", "a literal whose name is beyond both tables", [0x7f, 0x80, 0x01, ...VALUE]],
    ["HPACK 4.2", "a change of the table's size behind a field", [0x20]],
    ["HPACK 5.1", "an integer without end", [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]],
    [
      "HPACK 5.2",
      "a Huffman code padded with more than seven bits",
      [0x00, 0x85, 0xf2, 0xb2, 0x4a, 0x84, 0xff, 0x84, 0x49, 0x50, 0x9f, 0xff],
    ],
    [
      "HPACK 5.2",
      "a Huffman code padded with zeros",
      [0x00, 0x85, 0xf2, 0xb2, 0x4a, 0x84, 0xff, 0x83, 0x49, 0x50, 0x90],
    ],
    [
      "HPACK 5.2",
      "a Huffman code with the end-of-string symbol",
      [0x00, 0x85, 0xf2, 0xb2, 0x4a, 0x87, 0xff, 0xff, 0xff, 0xfd, 0x25, 0x42, 0x7f],
    ],
    ["HPACK 5.2", "a string longer than its block", [0x00, 0x7e, ...ascii("abc")]],
    ["HPACK 6.1", "index 0", [0x80]],
  ];
  return list.map(([section, name, bytes]) => ({
    ...{ section, name, steps: [withBlock(...bytes)], outcome: connection(compressionError) },
  }));
}

const settled = {
  until: "the edge's SETTINGS",
  holds: (visitor: FrameVisitor) => visitor.of(FRAME.settings).length > 0,
};

/**
 * What RFC 9113 and RFC 7541 ask of a server, one case a rule: the ground that h2spec covers, in our words and with
 * one reaction each instead of any that will do, and what it leaves out. Names of sections are RFC 9113's.
 */
export const H2_CASES: readonly H2Case[] = [
  // Starting
  { section: "3.4", name: "the preface of a client", steps: [settled], outcome: TOLERATED },
  {
    ...{ section: "3.4", name: "no preface of HTTP/2", bare: true, outcome: { kind: "http1", status: 400 } },
    steps: ["INVALID CONNECTION PREFACE\r\n\r\n"],
    deviation: "a port without TLS speaks HTTP/1.1 too, so what is no preface is answered 400 in HTTP/1.1 and closed",
  },
  {
    ...{ section: "3.4", name: "a preface that is right up to its last bytes", bare: true },
    ...{ steps: [`${CLIENT_PREFACE.slice(0, -4)}XX\r\n`], outcome: { kind: "http1", status: 505 } },
    deviation: "as above: a request line `PRI * HTTP/2.0` is answered in HTTP/1.1",
  },
  {
    ...{ section: "3.4", name: "a preface that is not followed by SETTINGS", bare: true },
    ...{ steps: [CLIENT_PREFACE + ping()], outcome: connection(protocolError) },
  },
  // Frames
  {
    section: "4.1",
    name: "a frame of an unknown type",
    steps: [frame(0x16, 0, 0, ascii("what?"))],
    outcome: TOLERATED,
  },
  { section: "4.1", name: "a flag that nobody defined", steps: [ping(0x16)], outcome: TOLERATED },
  {
    ...{ section: "4.1", name: "the reserved bit", outcome: TOLERATED },
    steps: [frame(FRAME.ping, 0, 0x8000_0000, ascii("reserved"))],
  },
  {
    ...{ section: "4.2", name: "DATA of 16,384 bytes", outcome: answered(1, "16384 bytes") },
    steps: [post(), data(1, "a".repeat(16_384), endStream)],
  },
  {
    ...{ section: "4.2", name: "DATA over the limit", outcome: connection(frameSizeError) },
    steps: [post(), data(1, "a".repeat(16_385), endStream)],
  },
  {
    ...{ section: "4.2", name: "HEADERS over the limit", outcome: connection(frameSizeError) },
    steps: [
      headers(1, endHeaders | endStream, [...GET_BLOCK, 0, ...KEY, 0x7f, 0x83, 0x7f, ...Array(16_500).fill(0x61)]),
    ],
  },
  {
    ...{ section: "4.3", name: "a header block that cannot be decoded", outcome: connection(compressionError) },
    steps: [headers(1, endHeaders | endStream, [0x40])],
  },
  {
    ...{ section: "4.3", name: "PRIORITY within a header block", outcome: connection(protocolError) },
    steps: [headers(1, endStream, GET_BLOCK), prioritise(1, 0)],
  },
  {
    ...{ section: "4.3", name: "HEADERS of another stream within a header block", outcome: connection(protocolError) },
    steps: [headers(1, endStream, GET_BLOCK), get(3)],
  },
  // Streams
  { section: "5.1", name: "idle: DATA", steps: [data(1, "test", endStream)], outcome: connection(protocolError) },
  { section: "5.1", name: "idle: RST_STREAM", steps: [reset(1)], outcome: connection(protocolError) },
  { section: "5.1", name: "idle: WINDOW_UPDATE", steps: [update(1, 100)], outcome: connection(protocolError) },
  {
    section: "5.1",
    name: "idle: CONTINUATION",
    steps: [more(1, endHeaders, GET_BLOCK)],
    outcome: connection(protocolError),
  },
  { section: "5.1", name: "idle: PRIORITY", steps: [prioritise(1, 0)], outcome: TOLERATED },
  {
    ...{ section: "5.1", name: "half-closed: DATA", outcome: stream(streamClosed) },
    steps: [get(1, SILENT_PATH), data(1, "test")],
  },
  {
    ...{ section: "5.1", name: "half-closed: HEADERS", outcome: stream(streamClosed) },
    steps: [get(1, SILENT_PATH), get(1)],
  },
  {
    ...{ section: "5.1", name: "half-closed: CONTINUATION", outcome: connection(protocolError) },
    steps: [get(1, SILENT_PATH), more(1, endHeaders, GET_BLOCK)],
  },
  {
    ...{ section: "5.1", name: "half-closed: WINDOW_UPDATE", outcome: TOLERATED },
    steps: [get(1, SILENT_PATH), update(1, 10)],
  },
  {
    ...{ section: "5.1", name: "half-closed: PRIORITY", outcome: TOLERATED },
    steps: [get(1, SILENT_PATH), prioritise(1, 0)],
  },
  { section: "5.1", name: "half-closed: RST_STREAM", steps: [get(1, SILENT_PATH), reset(1)], outcome: TOLERATED },
  {
    ...{ section: "5.1", name: "closed by a reset: DATA", outcome: stream(streamClosed) },
    steps: [post(1, SILENT_PATH), reset(1), data(1, "test")],
  },
  {
    ...{ section: "5.1", name: "closed by a reset: HEADERS", outcome: connection(streamClosed) },
    steps: [post(1, SILENT_PATH), reset(1), get(1)],
  },
  {
    ...{ section: "5.1", name: "closed by a reset: CONTINUATION", outcome: connection(protocolError) },
    steps: [post(1, SILENT_PATH), reset(1), more(1, endHeaders, GET_BLOCK)],
  },
  {
    ...{ section: "5.1", name: "closed by both ends: DATA", outcome: stream(streamClosed) },
    steps: [get(), ended(1), data(1, "test")],
  },
  {
    ...{ section: "5.1", name: "closed by both ends: HEADERS", outcome: connection(streamClosed) },
    steps: [get(), ended(1), get()],
  },
  {
    ...{ section: "5.1", name: "closed by both ends: CONTINUATION", outcome: connection(protocolError) },
    steps: [get(), ended(1), more(1, endHeaders, GET_BLOCK)],
  },
  {
    section: "5.1",
    name: "closed by both ends: PRIORITY",
    steps: [get(), ended(1), prioritise(1, 0)],
    outcome: TOLERATED,
  },
  {
    ...{ section: "5.1", name: "closed by both ends: RST_STREAM and WINDOW_UPDATE, late", outcome: TOLERATED },
    steps: [get(), ended(1), reset(1) + update(1, 10)],
  },
  {
    ...{ section: "5.1", name: "closed by the edge: what was under way", outcome: stream(protocolError) },
    steps: [
      post(1, "/", ["content-length", "1"]),
      data(1, "two") + data(1, "more") + headers(1, endHeaders | endStream, []),
    ],
  },
  { section: "5.1.1", name: "an even number", steps: [get(2)], outcome: connection(protocolError) },
  { section: "5.1.1", name: "a number below one used", steps: [get(5), get(3)], outcome: connection(protocolError) },
  {
    ...{ section: "5.1.1", name: "numbers that are passed over", outcome: answered(9) },
    steps: [get(1), get(9)],
  },
  {
    ...{ section: "5.3.1", name: "HEADERS that depend on their own stream", outcome: connection(protocolError) },
    steps: [headers(1, endHeaders | endStream | priority, [...u32(1), 255, ...GET_BLOCK])],
  },
  {
    section: "5.3.1",
    name: "PRIORITY of a stream on itself",
    steps: [prioritise(3, 3)],
    outcome: connection(protocolError),
  },
  { section: "5.3.1", name: "PRIORITY of the least weight", steps: [prioritise(1, 0, 0) + get()], outcome: answered() },
  {
    section: "5.3.1",
    name: "PRIORITY of the greatest weight",
    steps: [prioritise(1, 0, 255) + get()],
    outcome: answered(),
  },
  {
    section: "5.3.1",
    name: "PRIORITY on another stream",
    steps: [get(), prioritise(3, 1) + get(3)],
    outcome: answered(3),
  },
  {
    ...{ section: "5.3.1", name: "PRIORITY that excludes others", outcome: answered(3) },
    steps: [get(), prioritise(3, 1, 15, true) + get(3)],
  },
  {
    section: "5.3.1",
    name: "PRIORITY of a later stream, then a request",
    steps: [prioritise(7, 0) + get()],
    outcome: answered(),
  },
  { section: "5.5", name: "an extension frame", steps: [frame(0xff, 0xff, 5, ascii("extension"))], outcome: TOLERATED },
  {
    ...{ section: "5.5", name: "an extension frame within a header block", outcome: connection(protocolError) },
    steps: [headers(1, endStream, GET_BLOCK), frame(0xff, 0, 0, ascii("extension"))],
  },
  // DATA
  { section: "6.1", name: "DATA", steps: [post(), data(1, "test", endStream)], outcome: answered(1, "4 bytes") },
  {
    ...{ section: "6.1", name: "DATA in pieces, one of them empty", outcome: answered(1, "8 bytes") },
    steps: [post(), data(1, "test") + data(1, "") + data(1, "test") + data(1, "", endStream)],
  },
  {
    ...{ section: "6.1", name: "DATA with padding", outcome: answered(1, "4 bytes") },
    steps: [post(), frame(FRAME.data, padded | endStream, 1, [6, ...ascii("test"), ...Array(6).fill(0)])],
  },
  { section: "6.1", name: "DATA of no stream", steps: [data(0, "test")], outcome: connection(protocolError) },
  {
    ...{ section: "6.1", name: "DATA with more padding than frame", outcome: connection(protocolError) },
    steps: [post(), frame(FRAME.data, padded | endStream, 1, [6, ...ascii("test")])],
  },
  // HEADERS
  { section: "6.2", name: "HEADERS", steps: [get()], outcome: answered(1, "GET / 0 bytes") },
  {
    ...{ section: "6.2", name: "HEADERS with padding", outcome: answered() },
    steps: [headers(1, endHeaders | endStream | padded, [5, ...GET_BLOCK, 0, 0, 0, 0, 0])],
  },
  {
    ...{ section: "6.2", name: "HEADERS with a priority", outcome: answered() },
    steps: [headers(1, endHeaders | endStream | priority, [...u32(0), 255, ...GET_BLOCK])],
  },
  {
    ...{ section: "6.2", name: "HEADERS with padding and a priority", outcome: answered() },
    steps: [headers(1, endHeaders | endStream | priority | padded, [2, ...u32(0), 255, ...GET_BLOCK, 0, 0])],
  },
  {
    section: "6.2",
    name: "HEADERS of no stream",
    steps: [headers(0, 5, GET_BLOCK)],
    outcome: connection(protocolError),
  },
  {
    ...{ section: "6.2", name: "HEADERS with more padding than frame", outcome: connection(protocolError) },
    steps: [headers(1, endHeaders | endStream | padded, [200, ...GET_BLOCK])],
  },
  // PRIORITY, RST_STREAM
  { section: "6.3", name: "PRIORITY of no stream", steps: [prioritise(0, 1)], outcome: connection(protocolError) },
  {
    ...{ section: "6.3", name: "PRIORITY of four bytes", outcome: connection(frameSizeError) },
    steps: [frame(FRAME.priority, 0, 1, u32(0))],
  },
  { section: "6.4", name: "RST_STREAM", steps: [post(1, SILENT_PATH), reset(1)], outcome: TOLERATED },
  { section: "6.4", name: "RST_STREAM of no stream", steps: [reset(0)], outcome: connection(protocolError) },
  {
    ...{ section: "6.4", name: "RST_STREAM of three bytes", outcome: connection(frameSizeError) },
    steps: [post(1, SILENT_PATH), frame(FRAME.rstStream, 0, 1, [0, 0, 0])],
  },
  // SETTINGS
  { section: "6.5", name: "SETTINGS", steps: [settings([SETTING.maxConcurrentStreams, 100])], outcome: TOLERATED },
  {
    ...{ section: "6.5", name: "an acknowledgement with a payload", outcome: connection(frameSizeError) },
    steps: [frame(FRAME.settings, ack, 0, [0])],
  },
  {
    ...{ section: "6.5", name: "SETTINGS of a stream", outcome: connection(protocolError) },
    steps: [frame(FRAME.settings, 0, 1, [0, 3, 0, 0, 0, 100])],
  },
  {
    ...{ section: "6.5", name: "SETTINGS of three bytes", outcome: connection(frameSizeError) },
    steps: [frame(FRAME.settings, 0, 0, [0, 3, 0])],
  },
  {
    section: "6.5.2",
    name: "push neither on nor off",
    steps: [settings([SETTING.enablePush, 2])],
    outcome: connection(protocolError),
  },
  {
    ...{ section: "6.5.2", name: "a first window over the largest", outcome: connection(flowControlError) },
    steps: [settings([SETTING.initialWindowSize, 0x8000_0000])],
  },
  {
    ...{ section: "6.5.2", name: "a frame size under the least", outcome: connection(protocolError) },
    steps: [settings([SETTING.maxFrameSize, 16_383])],
  },
  {
    ...{ section: "6.5.2", name: "a frame size over the largest", outcome: connection(protocolError) },
    steps: [settings([SETTING.maxFrameSize, 0x100_0000])],
  },
  { section: "6.5.2", name: "a setting that nobody defined", steps: [settings([0xff, 1])], outcome: TOLERATED },
  {
    ...{ section: "6.5.3", name: "one setting twice: the last one holds" },
    steps: [
      settings([SETTING.initialWindowSize, 100], [SETTING.initialWindowSize, 1]),
      get(),
      received(1, 1),
      update(1, 999),
    ],
    outcome: answered(),
  },
  { section: "6.5.3", name: "SETTINGS are acknowledged", steps: [acknowledged], outcome: TOLERATED },
  // PUSH_PROMISE, PING, GOAWAY
  {
    ...{ section: "6.6", name: "PUSH_PROMISE of a client", outcome: connection(protocolError) },
    steps: [post(1, SILENT_PATH), frame(FRAME.pushPromise, endHeaders, 1, [...u32(2), ...GET_BLOCK])],
  },
  {
    ...{ section: "6.7", name: "PING is answered with its payload", outcome: TOLERATED },
    steps: [
      ping(),
      {
        until: "the acknowledgement",
        holds: (visitor) =>
          visitor.of(FRAME.ping).some((seen) => seen.flags === ack && seen.payload.toString() === "conforms"),
      },
    ],
  },
  {
    ...{ section: "6.7", name: "an acknowledged PING is not answered", outcome: TOLERATED },
    steps: [
      ping(ack, ascii("not this")) + ping(0, ascii("but this")),
      {
        until: "one acknowledgement",
        holds: (visitor) =>
          visitor
            .of(FRAME.ping)
            .map((seen) => seen.payload.toString())
            .join() === "but this",
      },
    ],
  },
  {
    ...{ section: "6.7", name: "PING of a stream", outcome: connection(protocolError) },
    steps: [frame(FRAME.ping, 0, 1, Array(8).fill(0))],
  },
  {
    section: "6.7",
    name: "PING of six bytes",
    steps: [ping(0, Array(6).fill(0))],
    outcome: connection(frameSizeError),
  },
  { section: "6.8", name: "GOAWAY of a stream", steps: [goaway(0, 1)], outcome: connection(protocolError) },
  {
    ...{ section: "6.8", name: "GOAWAY of four bytes", outcome: connection(frameSizeError) },
    steps: [frame(FRAME.goaway, 0, 0, u32(0))],
  },
  {
    ...{ section: "6.8", name: "GOAWAY: what runs is finished, then the connection ends" },
    ...{ steps: [get() + goaway(0), ended(1)], outcome: connection(0) },
  },
  // WINDOW_UPDATE and flow control
  { section: "6.9", name: "WINDOW_UPDATE of the connection", steps: [update(0, 1)], outcome: TOLERATED },
  {
    section: "6.9",
    name: "WINDOW_UPDATE of a stream",
    steps: [post(1, SILENT_PATH), update(1, 1)],
    outcome: TOLERATED,
  },
  { section: "6.9", name: "WINDOW_UPDATE by nothing", steps: [update(0, 0)], outcome: connection(protocolError) },
  {
    ...{ section: "6.9", name: "WINDOW_UPDATE of a stream by nothing", outcome: stream(protocolError) },
    steps: [get(1, SILENT_PATH), update(1, 0)],
  },
  {
    ...{ section: "6.9", name: "WINDOW_UPDATE of three bytes", outcome: connection(frameSizeError) },
    steps: [frame(FRAME.windowUpdate, 0, 0, [0, 0, 1])],
  },
  {
    ...{ section: "6.9.1", name: "a window of one byte lets one byte through", outcome: answered() },
    steps: [settings([SETTING.initialWindowSize, 1]), get(), received(1, 1), update(1, 1000)],
  },
  {
    ...{ section: "6.9.1", name: "the connection's window beyond the largest", outcome: connection(flowControlError) },
    steps: [update(0, MOST) + update(0, MOST)],
  },
  {
    ...{ section: "6.9.1", name: "a stream's window beyond the largest", outcome: stream(flowControlError) },
    steps: [get(1, SILENT_PATH), update(1, MOST) + update(1, MOST)],
  },
  {
    ...{ section: "6.9.2", name: "a new first window opens streams that wait", outcome: answered() },
    steps: [
      settings([SETTING.initialWindowSize, 0]),
      get(),
      settings([SETTING.initialWindowSize, 1]),
      received(1, 1),
      update(1, 999),
    ],
  },
  {
    ...{ section: "6.9.2", name: "a window can be less than nothing", outcome: answered() },
    steps: [
      ...[settings([SETTING.initialWindowSize, 3]), get(), received(1, 3)],
      ...[settings([SETTING.initialWindowSize, 2]) + update(1, 2), received(1, 4), update(1, 999)],
    ],
  },
  {
    ...{ section: "6.9.2", name: "a new first window beyond the largest", outcome: connection(flowControlError) },
    steps: [get(1, SILENT_PATH), update(1, 100_000) + settings([SETTING.initialWindowSize, MOST])],
  },
  {
    ...{ section: "6.9", name: "a long answer goes as far as the windows", outcome: TOLERATED },
    steps: [
      get(1, LONG_PATH),
      received(1, 65_535),
      update(0, 1_000_000) + update(1, 1_000_000),
      received(1, LONG_BODY_BYTES),
    ],
  },
  // CONTINUATION
  {
    ...{ section: "6.10", name: "CONTINUATION", outcome: answered() },
    steps: [headers(1, endStream, PARTS[0]) + more(1, endHeaders, [...PARTS[1], ...PARTS[2]])],
  },
  {
    ...{ section: "6.10", name: "two of CONTINUATION", outcome: answered() },
    steps: [headers(1, endStream, PARTS[0]) + more(1, 0, PARTS[1]) + more(1, endHeaders, PARTS[2])],
  },
  {
    ...{ section: "6.10", name: "CONTINUATION, then something else", outcome: connection(protocolError) },
    steps: [headers(1, endStream, PARTS[0]) + more(1, 0, PARTS[1]) + data(1, "test")],
  },
  {
    ...{ section: "6.10", name: "CONTINUATION of no stream", outcome: connection(protocolError) },
    steps: [headers(1, endStream, PARTS[0]) + more(0, endHeaders, PARTS[1])],
  },
  {
    ...{ section: "6.10", name: "CONTINUATION behind the end of a block", outcome: connection(protocolError) },
    steps: [post(1, SILENT_PATH) + more(1, endHeaders, GET_BLOCK)],
  },
  {
    ...{ section: "6.10", name: "CONTINUATION behind the last one", outcome: connection(protocolError) },
    steps: [headers(1, 0, PARTS[0]) + more(1, endHeaders, [...PARTS[1], ...PARTS[2]]) + more(1, endHeaders, GET_BLOCK)],
  },
  {
    ...{ section: "6.10", name: "CONTINUATION behind DATA", outcome: connection(protocolError) },
    steps: [post(1, SILENT_PATH) + data(1, "test") + more(1, endHeaders, GET_BLOCK)],
  },
  // Error codes nobody knows
  {
    ...{ section: "7", name: "RST_STREAM with an unknown code", outcome: TOLERATED },
    steps: [post(1, SILENT_PATH), reset(1, 0xff)],
  },
  {
    ...{ section: "7", name: "GOAWAY with an unknown code", outcome: connection(0) },
    steps: [get() + goaway(0xff), ended(1)],
  },
  // Messages
  { section: "8.1", name: "GET", steps: [get(1, "/a?b=c")], outcome: answered(1, "GET /a?b=c 0 bytes") },
  {
    ...{ section: "8.1", name: "HEAD", outcome: { kind: "answered", id: 1, status: 200 } },
    steps: [requestFrame(1, [":method", "HEAD", ...requestFields().slice(2)], true)],
  },
  {
    ...{ section: "8.1", name: "POST with trailers", outcome: answered(1, "POST / 4 bytes") },
    steps: [post() + data(1, "test") + headers(1, endHeaders | endStream, blockOf(["x-sum", "7"]))],
  },
  {
    ...{ section: "8.1", name: "trailers that do not end the request", outcome: stream(protocolError) },
    steps: [post(1, SILENT_PATH) + headers(1, endHeaders, blockOf(["x-sum", "7"]))],
  },
  {
    ...{ section: "8.1", name: "trailers with a pseudo-field", outcome: stream(protocolError) },
    steps: [post(1, SILENT_PATH) + data(1, "test") + headers(1, endHeaders | endStream, blockOf([":path", "/other"]))],
  },
  {
    ...{ section: "8.1", name: "trailers with Transfer-Encoding", outcome: stream(protocolError) },
    steps: [post(1, SILENT_PATH) + headers(1, endHeaders | endStream, blockOf(["transfer-encoding", "chunked"]))],
  },
  {
    ...{ section: "8.1.1", name: "a Content-Length that is kept", outcome: answered(1, "POST / 4 bytes") },
    steps: [post(1, "/", ["content-length", "4"]) + data(1, "te") + data(1, "st", endStream)],
  },
  {
    ...{ section: "8.1.1", name: "a Content-Length below the body", outcome: stream(protocolError) },
    steps: [post(1, "/", ["content-length", "1"]) + data(1, "test", endStream)],
  },
  {
    ...{ section: "8.1.1", name: "a Content-Length below the body's pieces", outcome: stream(protocolError) },
    steps: [post(1, "/", ["content-length", "5"]) + data(1, "test") + data(1, "test", endStream)],
  },
  {
    ...{ section: "8.1.1", name: "a Content-Length above the body", outcome: stream(protocolError) },
    steps: [post(1, "/", ["content-length", "5"]) + data(1, "test", endStream)],
  },
  {
    ...{ section: "8.1.1", name: "a Content-Length above a body that trailers end", outcome: stream(protocolError) },
    steps: [
      post(1, "/", ["content-length", "5"]) +
        data(1, "test") +
        headers(1, endHeaders | endStream, blockOf(["x-sum", "7"])),
    ],
  },
  {
    ...{ section: "8.1.1", name: "a Content-Length and no body", outcome: { kind: "answered", id: 1, status: 400 } },
    steps: [get(1, "/", ["content-length", "5"])],
  },
  ...malformedHeads(),
  // HPACK
  { section: "HPACK 6.1", name: "an indexed field", steps: [withBlock(0x90)], outcome: answered() },
  ...literals(),
  {
    ...{
      section: "HPACK 2.3.2",
      name: "a field that a later request takes from the table",
      outcome: answered(3, "custom-value"),
    },
    steps: [withBlock(0x40, ...KEY, ...VALUE), headers(3, endHeaders | endStream, [...GET_BLOCK, 0xbe])],
  },
  {
    ...{ section: "HPACK 4.3", name: "a smaller table forgets", outcome: connection(compressionError) },
    steps: [withBlock(0x40, ...KEY, ...VALUE), headers(3, endHeaders | endStream, [0x20, ...GET_BLOCK, 0xbe])],
  },
  {
    ...{ section: "HPACK 6.3", name: "a change of the table's size", outcome: answered() },
    steps: [headers(1, endHeaders | endStream, [0x3f, 0x61, ...GET_BLOCK])],
  },
  {
    ...{ section: "HPACK 6.3", name: "two changes of the table's size", outcome: answered() },
    steps: [headers(1, endHeaders | endStream, [0x20, 0x3f, 0x61, ...GET_BLOCK])],
  },
  {
    ...{ section: "HPACK 6.3", name: "a table over the limit", outcome: connection(compressionError) },
    steps: [headers(1, endHeaders | endStream, [0x3f, 0xe2, 0x1f, ...GET_BLOCK])],
  },
  ...badBlocks(),
];
