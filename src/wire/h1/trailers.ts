import type { RawHeaders } from "../headers.ts";
import { decodeLatin1 } from "../latin1.ts";
import { readFields } from "./fields.ts";
import type { MalformedReason } from "./malformed.ts";

/**
 * Fields that mean something before the body is read: framing, routing, request control, authentication, format
 * (RFC 9110 section 6.5.1), and what vouches for the visitor. A receiver that merges trailers into the head could be
 * fooled by them, so they are dropped; dropping changes nothing for a receiver that does not.
 */
const FORBIDDEN: ReadonlySet<string> = new Set([
  "age",
  "authorization",
  "cache-control",
  "connection",
  "content-encoding",
  "content-length",
  "content-range",
  "content-type",
  "cookie",
  "date",
  "expect",
  "expires",
  "forwarded",
  "host",
  "if-match",
  "if-modified-since",
  "if-none-match",
  "if-range",
  "if-unmodified-since",
  "keep-alive",
  "location",
  "max-forwards",
  "pragma",
  "proxy-authenticate",
  "proxy-authorization",
  "proxy-connection",
  "range",
  "retry-after",
  "set-cookie",
  "te",
  "trailer",
  "transfer-encoding",
  "true-client-ip",
  "upgrade",
  "vary",
  "warning",
  "www-authenticate",
  "x-real-ip",
]);
const FORBIDDEN_PREFIX = /^(?:cf-|x-forwarded-)/;

/** True when a trailer field may travel on. */
export function isTrailerAllowed(name: string): boolean {
  const lowerCase = name.toLowerCase();
  return !FORBIDDEN.has(lowerCase) && !FORBIDDEN_PREFIX.test(lowerCase);
}

/** Reads trailer lines `[start, end)`: malformed ones refuse the message, forbidden ones are dropped. */
export function readTrailers(bytes: Uint8Array, start: number, end: number): RawHeaders | MalformedReason {
  const facts = readFields(bytes, start, end, decodeLatin1(bytes, start, end), start);
  if (typeof facts === "string") return facts;
  const trailers: string[] = [];
  for (let i = 0; i + 1 < facts.headers.length; i += 2) {
    const name = facts.headers[i] as string;
    if (isTrailerAllowed(name)) trailers.push(name, facts.headers[i + 1] as string);
  }
  return trailers;
}
