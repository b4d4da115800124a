import { decodeLatin1 } from "../latin1.ts";
import { CR, LF, SP, TARGET, TOKEN } from "./bytes.ts";
import { type FieldFacts, readFields } from "./fields.ts";
import { isHost } from "./host.ts";
import type { MalformedReason } from "./malformed.ts";
import { type BodyFraming, CHUNKED, NO_BODY, type RequestHead } from "./message.ts";

/** `HTTP/` */
const VERSION_PREFIX = Uint8Array.of(0x48, 0x54, 0x54, 0x50, 0x2f);
/** `HTTP/1.1` and the line end. */
const VERSION_BYTES = 8;
const DOT = 0x2e;
const DIGIT_0 = 0x30;

/**
 * Reads a request head `[start, end)`, each line ending with CRLF and the empty line left out (RFC 9112 section 2
 * and 3). Answers why when anything about it is not exactly as it must be.
 */
export function readRequestHead(bytes: Uint8Array, start: number, end: number): RequestHead | MalformedReason {
  const text = decodeLatin1(bytes, start, end);
  let i = start;
  while (TOKEN[bytes[i] as number] === 1) i += 1;
  if (i === start) return "method";
  if (bytes[i] !== SP) return bytes[i] === CR ? "start-line" : "method";
  const method = text.substring(0, i - start);
  i += 1;
  const targetStart = i;
  while (TARGET[bytes[i] as number] === 1) i += 1;
  if (i === targetStart) return "target";
  if (bytes[i] !== SP) return bytes[i] === CR ? "start-line" : "target";
  const rawTarget = text.substring(targetStart - start, i - start);
  i += 1;
  const minorVersion = readVersion(bytes, i);
  if (typeof minorVersion === "string") {
    return minorVersion === "version" && method === "PRI" && rawTarget === "*" ? "http2-preface" : minorVersion;
  }
  i += VERSION_BYTES;
  if (bytes[i] !== CR || bytes[i + 1] !== LF) return bytes[i] === CR ? "bare-cr" : "start-line";
  // A CONNECT names a peer to connect to; this is no forward proxy.
  if (method === "CONNECT") return "method-unsupported";

  const facts = readFields(bytes, i + 2, end, text, start);
  if (typeof facts === "string") return facts;
  if (facts.host === undefined) {
    if (minorVersion === 1) return "host-missing";
  } else if (!isHost(facts.host)) return "host-invalid";
  if (minorVersion === 0 && facts.chunked) return "transfer-encoding-in-1.0";
  const target = originForm(method, rawTarget, facts.host);
  if (target.kind === "refused") return target.reason;
  const framing = requestFraming(facts);
  return {
    method,
    target: target.value,
    rawTarget,
    minorVersion,
    headers: facts.headers,
    framing,
    keepAlive: !facts.close && (minorVersion === 1 || facts.keepAlive),
    upgrade: minorVersion === 1 && facts.upgradeListed ? facts.upgrade : undefined,
    // An HTTP/1.0 peer cannot have meant it (RFC 9110 section 10.1.1); without a body there is nothing to wait for.
    expectContinue: facts.expectContinue && minorVersion === 1 && framing.kind !== "none",
    host: facts.host,
  };
}

/** Minor version of `HTTP/1.x` at `at`. */
export function readVersion(bytes: Uint8Array, at: number): 0 | 1 | MalformedReason {
  for (let k = 0; k < VERSION_PREFIX.length; k += 1) if (bytes[at + k] !== VERSION_PREFIX[k]) return "start-line";
  const major = (bytes[at + 5] as number) - DIGIT_0;
  const minor = (bytes[at + 7] as number) - DIGIT_0;
  if (bytes[at + 6] !== DOT || !isDigit(major) || !isDigit(minor)) return "start-line";
  return major === 1 && (minor === 0 || minor === 1) ? minor : "version";
}

function isDigit(value: number): boolean {
  return value >= 0 && value <= 9;
}

function requestFraming(facts: FieldFacts): BodyFraming {
  if (facts.chunked) return CHUNKED;
  return facts.contentLength < 0 ? NO_BODY : { kind: "length", bytes: facts.contentLength };
}

type OriginForm =
  | { readonly kind: "value"; readonly value: string }
  | { readonly kind: "refused"; readonly reason: MalformedReason };

const ABSOLUTE = /^https?:\/\/([^/?]*)(.*)$/i;

/** RFC 9112 section 3.2. An absolute target must name the same authority as Host, or two readers would route it apart. */
function originForm(method: string, target: string, host: string | undefined): OriginForm {
  if (target.charCodeAt(0) === 0x2f) return { kind: "value", value: target };
  if (target === "*") {
    return method === "OPTIONS" ? { kind: "value", value: target } : { kind: "refused", reason: "target" };
  }
  const absolute = ABSOLUTE.exec(target);
  if (absolute === null) return { kind: "refused", reason: "target" };
  const [, authority = "", rest = ""] = absolute;
  if (host === undefined || authority.toLowerCase() !== host.toLowerCase()) {
    return { kind: "refused", reason: "host-mismatch" };
  }
  if (rest === "") return { kind: "value", value: method === "OPTIONS" ? "*" : "/" };
  return { kind: "value", value: rest.startsWith("/") ? rest : `/${rest}` };
}
