import { COLON, CR, equalsIgnoringCase, HTAB, LF, SP, TOKEN, VALUE } from "./bytes.ts";
import { MAX_CONTENT_LENGTH_DIGITS } from "./limits.ts";
import type { MalformedReason } from "./malformed.ts";

/** What the fields of one head say about its body and its connection; everything else is only kept in `headers`. */
export interface FieldFacts {
  readonly headers: string[];
  /** -1 = no Content-Length. */
  contentLength: number;
  /** True for exactly `Transfer-Encoding: chunked`, once. */
  chunked: boolean;
  close: boolean;
  keepAlive: boolean;
  /** Connection lists `upgrade`. */
  upgradeListed: boolean;
  upgrade: string | undefined;
  host: string | undefined;
  expectContinue: boolean;
}

/**
 * Reads field lines `[start, end)`, each ending with CRLF (RFC 9112 section 5). `text` is the byte string of `bytes`
 * from `textStart` on. Refuses what receivers disagree about: folded lines, space before the colon, control bytes,
 * a second Content-Length, Transfer-Encoding or Host, and both kinds of framing at once.
 */
export function readFields(
  bytes: Uint8Array,
  start: number,
  end: number,
  text: string,
  textStart: number,
): FieldFacts | MalformedReason {
  const headers: string[] = [];
  const facts: FieldFacts = {
    headers,
    contentLength: -1,
    chunked: false,
    close: false,
    keepAlive: false,
    upgradeListed: false,
    upgrade: undefined,
    host: undefined,
    expectContinue: false,
  };
  let i = start;
  while (i < end) {
    const nameStart = i;
    while (TOKEN[bytes[i] as number] === 1) i += 1;
    const nameEnd = i;
    if (nameEnd === nameStart) return bytes[i] === SP || bytes[i] === HTAB ? "obs-fold" : "field-name";
    if (bytes[i] !== COLON) return "field-name";
    i += 1;
    while (bytes[i] === SP || bytes[i] === HTAB) i += 1;
    const valueStart = i;
    while (VALUE[bytes[i] as number] === 1) i += 1;
    if (bytes[i] !== CR) return "field-value";
    if (bytes[i + 1] !== LF) return "bare-cr";
    let valueEnd = i;
    while (valueEnd > valueStart && (bytes[valueEnd - 1] === SP || bytes[valueEnd - 1] === HTAB)) valueEnd -= 1;
    i += 2;
    const value = text.substring(valueStart - textStart, valueEnd - textStart);
    headers.push(text.substring(nameStart - textStart, nameEnd - textStart), value);
    const problem = note(facts, bytes, nameStart, nameEnd, value);
    if (problem !== undefined) return problem;
  }
  return facts.chunked && facts.contentLength >= 0 ? "length-and-encoding" : facts;
}

/** Names that matter here differ in length, so most fields cost one comparison of a number. */
function note(
  facts: FieldFacts,
  bytes: Uint8Array,
  nameStart: number,
  nameEnd: number,
  value: string,
): MalformedReason | undefined {
  switch (nameEnd - nameStart) {
    case 4:
      if (!equalsIgnoringCase(bytes, nameStart, nameEnd, "host")) return undefined;
      if (facts.host !== undefined) return "host-repeated";
      facts.host = value;
      return undefined;
    case 6:
      if (!equalsIgnoringCase(bytes, nameStart, nameEnd, "expect")) return undefined;
      if (value.toLowerCase() !== "100-continue") return "expectation";
      facts.expectContinue = true;
      return undefined;
    case 7:
      if (equalsIgnoringCase(bytes, nameStart, nameEnd, "upgrade")) facts.upgrade ??= value;
      return undefined;
    case 10:
      if (equalsIgnoringCase(bytes, nameStart, nameEnd, "connection")) noteConnection(facts, value);
      return undefined;
    case 14:
      return equalsIgnoringCase(bytes, nameStart, nameEnd, "content-length") ? noteLength(facts, value) : undefined;
    case 17:
      return equalsIgnoringCase(bytes, nameStart, nameEnd, "transfer-encoding")
        ? noteEncoding(facts, value)
        : undefined;
    default:
      return undefined;
  }
}

function noteConnection(facts: FieldFacts, value: string): void {
  if (value === "keep-alive") {
    facts.keepAlive = true;
    return;
  }
  for (const option of value.toLowerCase().split(",")) {
    const name = option.trim();
    if (name === "close") facts.close = true;
    else if (name === "keep-alive") facts.keepAlive = true;
    else if (name === "upgrade") facts.upgradeListed = true;
  }
}

function noteLength(facts: FieldFacts, value: string): MalformedReason | undefined {
  if (facts.contentLength >= 0) return "content-length-repeated";
  if (value.length === 0) return "content-length-invalid";
  let length = 0;
  for (let i = 0; i < value.length; i += 1) {
    const digit = value.charCodeAt(i) - 0x30;
    if (digit < 0 || digit > 9) return "content-length-invalid";
    length = length * 10 + digit;
  }
  if (value.length > MAX_CONTENT_LENGTH_DIGITS) return "content-length-too-large";
  facts.contentLength = length;
  return undefined;
}

/** RFC 9112 section 6.1 and 6.3: chunked must be last and not repeated; other codings are not ours to undo. */
function noteEncoding(facts: FieldFacts, value: string): MalformedReason | undefined {
  if (facts.chunked) return "transfer-encoding-repeated";
  const codings = value.toLowerCase();
  if (codings === "chunked") {
    facts.chunked = true;
    return undefined;
  }
  const names = codings.split(",").map((coding) => coding.trim());
  return names.indexOf("chunked") === names.length - 1 ? "transfer-encoding-unsupported" : "transfer-encoding-invalid";
}
