import type { RawHeaders } from "../headers.ts";
import { COLON, CR, LF, SP, TARGET, TOKEN, VALUE } from "./bytes.ts";

/** The part of a head that cannot be sent as it is, because a receiver would read something else from it. */
export interface Unencodable {
  readonly kind: "unencodable";
  readonly part: "method" | "target" | "status" | "reason" | "field-name" | "field-value" | "size";
  /** Name of the field it is about. */
  readonly field?: string;
}

const HTTP_1_1 = "HTTP/1.1";
const HEAD_END_BYTES = 2;

/**
 * A request head, followed by `body` so that both leave in one write. Every char stands for one byte; anything that
 * is not allowed where it stands is refused, so no value can add a line of its own.
 */
export function encodeRequestHead(
  request: { readonly method: string; readonly target: string; readonly headers: RawHeaders },
  body: Uint8Array = EMPTY,
): Uint8Array | Unencodable {
  const { method, target, headers } = request;
  const bytes = new Uint8Array(method.length + target.length + 12 + fieldBytes(headers) + HEAD_END_BYTES + body.length);
  let at = method === "" ? -1 : writeChecked(bytes, 0, method, TOKEN);
  if (at < 0) return unencodable("method");
  bytes[at] = SP;
  at = target === "" ? -1 : writeChecked(bytes, at + 1, target, TARGET);
  if (at < 0) return unencodable("target");
  bytes[at] = SP;
  at = writeLineEnd(bytes, writeChecked(bytes, at + 1, HTTP_1_1, VALUE));
  return writeFieldsAndBody(bytes, at, headers, body);
}

/** A response head (status 100 to 999), followed by `body`; same rules as {@link encodeRequestHead}. */
export function encodeResponseHead(
  response: { readonly status: number; readonly reason: string; readonly headers: RawHeaders },
  body: Uint8Array = EMPTY,
): Uint8Array | Unencodable {
  const { status, reason, headers } = response;
  if (!Number.isInteger(status) || status < 100 || status > 999) return unencodable("status");
  const bytes = new Uint8Array(15 + reason.length + fieldBytes(headers) + HEAD_END_BYTES + body.length);
  let at = writeChecked(bytes, 0, HTTP_1_1, VALUE);
  bytes[at] = SP;
  at = writeChecked(bytes, at + 1, String(status), VALUE);
  bytes[at] = SP;
  at = writeChecked(bytes, at + 1, reason, VALUE);
  if (at < 0) return unencodable("reason");
  return writeFieldsAndBody(bytes, writeLineEnd(bytes, at), headers, body);
}

/**
 * One chunk of the chunked coding: size, bytes and line end in one piece. The copy is cheaper than the two more
 * writes, and TLS records, that it saves. `data` must not be empty: that would end the body.
 */
export function encodeChunk(data: Uint8Array): Uint8Array {
  const size = data.length.toString(16);
  const chunk = new Uint8Array(size.length + data.length + 4);
  let at = writeLineEnd(chunk, writeChecked(chunk, 0, size, VALUE));
  chunk.set(data, at);
  at += data.length;
  writeLineEnd(chunk, at);
  return chunk;
}

/** The end of a chunked body, with trailers. Their names are the caller's business (see `isTrailerAllowed`). */
export function encodeLastChunk(trailers: RawHeaders): Uint8Array | Unencodable {
  if (trailers.length === 0) return LAST_CHUNK;
  const bytes = new Uint8Array(3 + fieldBytes(trailers) + HEAD_END_BYTES);
  bytes[0] = 0x30;
  return writeFieldsAndBody(bytes, writeLineEnd(bytes, 1), trailers, EMPTY);
}

const EMPTY = new Uint8Array(0);
const LAST_CHUNK = Uint8Array.of(0x30, CR, LF, CR, LF);

function unencodable(part: Unencodable["part"], field?: string): Unencodable {
  return field === undefined ? { kind: "unencodable", part } : { kind: "unencodable", part, field };
}

/** Bytes of all field lines. */
function fieldBytes(headers: RawHeaders): number {
  let count = 0;
  for (let i = 0; i + 1 < headers.length; i += 2) {
    count += (headers[i] as string).length + (headers[i + 1] as string).length + 4;
  }
  return count;
}

function writeFieldsAndBody(
  bytes: Uint8Array,
  at: number,
  headers: RawHeaders,
  body: Uint8Array,
): Uint8Array | Unencodable {
  for (let i = 0; i + 1 < headers.length; i += 2) {
    const name = headers[i] as string;
    const value = headers[i + 1] as string;
    at = name === "" ? -1 : writeChecked(bytes, at, name, TOKEN);
    if (at < 0) return unencodable("field-name", name);
    bytes[at] = COLON;
    bytes[at + 1] = SP;
    at = writeChecked(bytes, at + 2, value, VALUE);
    if (at < 0) return unencodable("field-value", name);
    at = writeLineEnd(bytes, at);
  }
  at = writeLineEnd(bytes, at);
  if (body.length > 0) bytes.set(body, at);
  return bytes;
}

/** Writes chars that are members of `allowed` as bytes; the offset behind, or -1 when one is not. */
function writeChecked(bytes: Uint8Array, at: number, text: string, allowed: Uint8Array): number {
  for (let i = 0; i < text.length; i += 1) {
    const char = text.charCodeAt(i);
    if (char > 0xff || allowed[char] !== 1) return -1;
    bytes[at + i] = char;
  }
  return at + text.length;
}

function writeLineEnd(bytes: Uint8Array, at: number): number {
  bytes[at] = CR;
  bytes[at + 1] = LF;
  return at + 2;
}
