import type { RawHeaders } from "../headers.ts";

/**
 * Fields about one connection, which no intermediary passes on (RFC 9110 section 7.6.1); the two of proxies belong to
 * the hop as well. `TE` and `Trailer` are treated below.
 */
const CONNECTION_FIELDS: ReadonlySet<string> = new Set([
  "connection",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "proxy-connection",
  "transfer-encoding",
  "upgrade",
]);

/**
 * Fields that stay even when Connection names them. Naming them there is a known way to make a proxy drop what the
 * origin decides by: who the visitor is, which host is meant, how long the body is.
 */
const END_TO_END: ReadonlySet<string> = new Set([
  "accept",
  "authorization",
  "cache-control",
  "cdn-loop",
  "cookie",
  "date",
  "expect",
  "forwarded",
  "host",
  "location",
  "origin",
  "pragma",
  "range",
  "referer",
  "server",
  "set-cookie",
  "trailer",
  "true-client-ip",
  "user-agent",
  "vary",
  "via",
  "www-authenticate",
  "x-real-ip",
]);
const END_TO_END_PREFIX = /^(?:accept-|access-control-|cf-|content-|if-|sec-|x-forwarded-)/;

/** Every name in CONNECTION_FIELDS, and `te`, has one of these lengths: other fields need no lower-casing. */
const LENGTHS: ReadonlySet<number> = new Set([...CONNECTION_FIELDS, "te"].map((name) => name.length));

/**
 * The fields without those that concern one connection only: the fixed ones, and those that Connection lists unless
 * they are end-to-end by nature. `TE` stays as `trailers` when it says so; `Trailer` stays, because trailers are
 * passed on. Used both ways; an upgrade's fields are put back by whoever carries it.
 */
export function stripHopByHop(headers: RawHeaders): string[] {
  const nominated = nominatedFields(headers);
  const kept: string[] = [];
  for (let i = 0; i + 1 < headers.length; i += 2) {
    const name = headers[i] as string;
    const value = headers[i + 1] as string;
    if (nominated !== undefined || LENGTHS.has(name.length)) {
      const lowerCase = name.toLowerCase();
      if (lowerCase === "te") {
        if (listsToken(value, "trailers")) kept.push(name, "trailers");
        continue;
      }
      if (CONNECTION_FIELDS.has(lowerCase) || nominated?.has(lowerCase) === true) continue;
    }
    kept.push(name, value);
  }
  return kept;
}

/** True when a comma list such as Connection or TE holds this token (lower case), parameters set aside. */
export function listsToken(list: string, token: string): boolean {
  if (list === token) return true;
  return list
    .toLowerCase()
    .split(",")
    .some((member) => (member.split(";", 1)[0] as string).trim() === token);
}

/** Lower-case names that Connection lists and that may be dropped; undefined = none. */
function nominatedFields(headers: RawHeaders): Set<string> | undefined {
  let names: Set<string> | undefined;
  for (let i = 0; i + 1 < headers.length; i += 2) {
    if ((headers[i] as string).length !== 10 || (headers[i] as string).toLowerCase() !== "connection") continue;
    const value = headers[i + 1] as string;
    if (value === "keep-alive" || value === "close") continue;
    for (const option of value.toLowerCase().split(",")) {
      const name = option.trim();
      if (name === "" || name === "close" || name === "te" || END_TO_END.has(name) || END_TO_END_PREFIX.test(name)) {
        continue;
      }
      names ??= new Set();
      names.add(name);
    }
  }
  return names;
}
