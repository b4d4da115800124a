import { decodeLatin1 } from "../latin1.ts";
import { CR, LF, SP, VALUE } from "./bytes.ts";
import { type FieldFacts, readFields } from "./fields.ts";
import type { MalformedReason } from "./malformed.ts";
import { type BodyFraming, CHUNKED, NO_BODY, type ResponseHead, TUNNEL, UNTIL_CLOSE } from "./message.ts";
import { readVersion } from "./request-head.ts";

/** What a response's framing depends on. */
export interface RequestContext {
  readonly method: string;
  /** The request offered an upgrade; without it 101 is refused. */
  readonly upgrade: boolean;
}

const DIGIT_0 = 0x30;
const DIGIT_9 = 0x39;

/**
 * Reads a response head `[start, end)`, each line ending with CRLF and the empty line left out (RFC 9112 section 4
 * and 6.3). The space behind the status may be missing together with the reason, as many servers send it.
 */
export function readResponseHead(
  bytes: Uint8Array,
  start: number,
  end: number,
  request: RequestContext,
): ResponseHead | MalformedReason {
  const minorVersion = readVersion(bytes, start);
  if (typeof minorVersion === "string") return minorVersion;
  if (bytes[start + 8] !== SP) return "start-line";
  let status = 0;
  for (let k = start + 9; k < start + 12; k += 1) {
    const byte = bytes[k] as number;
    if (byte < DIGIT_0 || byte > DIGIT_9) return "start-line";
    status = status * 10 + byte - DIGIT_0;
  }
  if (status < 100) return "start-line";
  let i = start + 12;
  const reasonStart = bytes[i] === SP ? i + 1 : i;
  if (bytes[i] === SP) while (VALUE[bytes[i] as number] === 1) i += 1;
  if (bytes[i] !== CR) return "start-line";
  if (bytes[i + 1] !== LF) return "bare-cr";

  const text = decodeLatin1(bytes, start, end);
  const facts = readFields(bytes, i + 2, end, text, start);
  if (typeof facts === "string") return facts;
  if (minorVersion === 0 && facts.chunked) return "transfer-encoding-in-1.0";
  const framing = responseFraming(status, facts, request);
  if (typeof framing === "string") return framing;
  return {
    status,
    reason: text.substring(reasonStart - start, i - start),
    minorVersion,
    headers: facts.headers,
    framing,
    keepAlive:
      !facts.close &&
      (minorVersion === 1 || facts.keepAlive) &&
      framing.kind !== "until-close" &&
      framing.kind !== "tunnel" &&
      // A body where none may be would be read as the next answer: this origin is not to be trusted with another.
      !(status === 204 && announcesBody(facts)),
    upgrade: facts.upgradeListed ? facts.upgrade : undefined,
  };
}

function responseFraming(status: number, facts: FieldFacts, request: RequestContext): BodyFraming | MalformedReason {
  if (status === 101) {
    if (!request.upgrade) return "unexpected-upgrade";
    return announcesBody(facts) ? "informational-body" : TUNNEL;
  }
  if (status < 200) return announcesBody(facts) ? "informational-body" : NO_BODY;
  if (request.method === "CONNECT" && status < 300) return TUNNEL;
  if (request.method === "HEAD" || status === 204 || status === 304) return NO_BODY;
  if (facts.chunked) return CHUNKED;
  return facts.contentLength < 0 ? UNTIL_CLOSE : { kind: "length", bytes: facts.contentLength };
}

function announcesBody(facts: FieldFacts): boolean {
  return facts.chunked || facts.contentLength > 0;
}
