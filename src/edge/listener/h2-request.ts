import { HTAB, SP, TARGET, TOKEN, VALUE } from "../../wire/h1/bytes.ts";
import { isHost } from "../../wire/h1/host.ts";
import { MAX_CONTENT_LENGTH_DIGITS, REQUEST_HEAD_LIMITS } from "../../wire/h1/limits.ts";
import type { RawHeaders } from "../../wire/headers.ts";
import { Memo } from "../../wire/memo.ts";
import type { VisitorRequest } from "./visitor-exchange.ts";

/** A request head of HTTP/2 as the edge serves it, or the status to refuse it with. */
export type H2Request =
  | { readonly kind: "request"; readonly request: VisitorRequest; readonly contentLength: number | undefined }
  | { readonly kind: "refused"; readonly status: number };

/**
 * `x-api-key` to `X-Api-Key`: HTTP/2 has lower case only, and services that speak HTTP/1.1 expect the spelling that
 * its clients use.
 */
const spelled = new Memo((name: string) => name.replace(/(^|-)[a-z]/g, (start) => start.toUpperCase()), {
  maxEntries: 1024,
  maxTextChars: 64,
});

/** What the pseudo-fields say, and the fields that need an answer before the body. */
interface Facts {
  method: string;
  path: string;
  protocol: string | undefined;
  authority: string | undefined;
  host: string | undefined;
  contentLength: number | undefined;
  expectContinue: boolean;
  grpc: boolean;
  readonly cookies: string[];
}

/**
 * Reads a head that the codec found well-formed, and refuses what HTTP/1.1 would refuse: the services behind speak it.
 * Crumbs of Cookie become one field (RFC 9113 section 8.2.3). `websocketKey` gives the key of a handshake, which
 * RFC 8441 leaves out and services ask for.
 */
export function readH2Request(fields: RawHeaders, endStream: boolean, websocketKey: () => string): H2Request {
  const facts: Facts = {
    method: "",
    path: "",
    protocol: undefined,
    authority: undefined,
    host: undefined,
    contentLength: undefined,
    expectContinue: false,
    grpc: false,
    cookies: [],
  };
  const headers: string[] = [];
  let cookieAt = -1;
  for (let i = 0; i + 1 < fields.length; i += 2) {
    const name = fields[i] as string;
    const value = fields[i + 1] as string;
    const problem = isValue(value) ? note(facts, name, value) : 400;
    if (problem !== undefined) return { kind: "refused", status: problem };
    if (name.charCodeAt(0) === 0x3a || name === "host") continue;
    if (name === "cookie") {
      if (cookieAt < 0) {
        cookieAt = headers.length + 1;
        headers.push("Cookie", "");
      }
      facts.cookies.push(value);
    } else headers.push(spelled.get(name), value);
  }
  if (cookieAt >= 0) headers[cookieAt] = facts.cookies.join("; ");
  const status = judge(facts, headers, endStream);
  if (status !== undefined) return { kind: "refused", status };
  const handshake = facts.protocol !== undefined;
  if (handshake) headers.push("Sec-WebSocket-Key", websocketKey());
  return {
    kind: "request",
    contentLength: facts.contentLength,
    request: {
      kind: handshake ? "websocket" : "http",
      method: handshake ? "GET" : facts.method,
      target: facts.path,
      host: facts.authority ?? facts.host ?? "",
      headers,
      hasBody: !endStream && !handshake,
      // The silences of a call belong to its two ends; a visitor that is gone shows by its connection.
      patientBody: facts.grpc,
      protocol: "HTTP/2.0",
      expectContinue: facts.expectContinue && !endStream,
    },
  };
}

/** Writes down a field that decides something; a status when it cannot stand. */
function note(facts: Facts, name: string, value: string): number | undefined {
  switch (name) {
    case ":method":
      facts.method = value;
      return undefined;
    case ":path":
      facts.path = value;
      return undefined;
    case ":protocol":
      facts.protocol = value;
      return undefined;
    case ":authority":
      facts.authority = value;
      return undefined;
    case "host":
      if (facts.host !== undefined) return 400;
      facts.host = value;
      return undefined;
    case "expect":
      if (value.toLowerCase() !== "100-continue") return 417;
      facts.expectContinue = true;
      return undefined;
    case "content-length":
      if (facts.contentLength !== undefined || !/^[0-9]+$/.test(value)) return 400;
      if (value.length > MAX_CONTENT_LENGTH_DIGITS) return 413;
      facts.contentLength = Number(value);
      return undefined;
    case "content-type":
      facts.grpc = value.startsWith("application/grpc");
      return undefined;
    default:
      return undefined;
  }
}

/** The status to refuse the head with, if it is to be. */
function judge(facts: Facts, headers: RawHeaders, endStream: boolean): number | undefined {
  const { method, path, protocol, authority, host, contentLength } = facts;
  if (!isAll(method, TOKEN)) return 400;
  // A CONNECT names a peer to connect to; this is no forward proxy. With a protocol it is a handshake.
  if (method === "CONNECT" && protocol?.toLowerCase() !== "websocket") return 501;
  if (path.length > REQUEST_HEAD_LIMITS.startLineBytes) return 414;
  if (headers.length > 2 * REQUEST_HEAD_LIMITS.fields) return 431;
  if (!isAll(path, TARGET) || (!path.startsWith("/") && !(path === "*" && method === "OPTIONS"))) return 400;
  // RFC 9113 section 8.3.1: two readers could route them apart.
  if (authority !== undefined && host !== undefined && authority.toLowerCase() !== host.toLowerCase()) return 400;
  if (!isHost(authority ?? host ?? "")) return 400;
  if (protocol !== undefined) return endStream || contentLength !== undefined ? 400 : undefined;
  return endStream && contentLength !== undefined && contentLength > 0 ? 400 : undefined;
}

function isAll(text: string, allowed: Uint8Array): boolean {
  for (let i = 0; i < text.length; i += 1) if (allowed[text.charCodeAt(i)] !== 1) return false;
  return true;
}

/** No control byte, and no blank at either end (RFC 9113 section 8.2.1). */
function isValue(value: string): boolean {
  if (value === "") return true;
  const first = value.charCodeAt(0);
  const last = value.charCodeAt(value.length - 1);
  if (first === SP || first === HTAB || last === SP || last === HTAB) return false;
  return isAll(value, VALUE);
}
