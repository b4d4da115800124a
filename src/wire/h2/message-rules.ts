import type { RawHeaders } from "../headers.ts";

/**
 * What makes an HTTP/2 message malformed (RFC 9113 section 8): checked once where it enters, so that nothing behind
 * has to doubt names, values or pseudo-header fields.
 */

const CONNECTION_SPECIFIC: ReadonlySet<string> = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "transfer-encoding",
  "upgrade",
]);

/** Lower-case token: `[!#$%&'*+.^_`|~0-9a-z-]+`. */
const NAME = /^[!#$%&'*+\-.^_`|~0-9a-z]+$/;
const FORBIDDEN_IN_VALUE = /[\0\r\n]/;

/**
 * A request head: `:method`, `:scheme`, `:path` once each and not empty, `:authority` at most once. `connect` lets the
 * two forms of CONNECT pass: with `:authority` alone (section 8.5), or with all of them and `:protocol` (RFC 8441).
 */
export function validateRequest(fields: RawHeaders, connect: boolean): boolean {
  let isConnect = false;
  let protocol = 0;
  let method = 0;
  let scheme = 0;
  let path = 0;
  let authority = 0;
  let i = 0;
  for (; i + 1 < fields.length; i += 2) {
    const name = fields[i] as string;
    if (name.charCodeAt(0) !== 0x3a) break;
    const value = fields[i + 1] as string;
    if (FORBIDDEN_IN_VALUE.test(value)) return false;
    if (name === ":method" && value !== "") {
      method += 1;
      isConnect = connect && value === "CONNECT";
    } else if (name === ":scheme" && (value === "http" || value === "https")) scheme += 1;
    else if (name === ":path" && value !== "") path += 1;
    else if (name === ":authority") authority += 1;
    else if (name === ":protocol" && value !== "" && connect) protocol += 1;
    else return false;
  }
  if (protocol > (isConnect ? 1 : 0) || (isConnect && authority !== 1)) return false;
  if (isConnect && protocol === 0) return method + scheme + path === 1 && validateFields(fields, i);
  return method === 1 && scheme === 1 && path === 1 && authority <= 1 && validateFields(fields, i);
}

/** A response head: exactly one `:status` of three digits. */
export function validateResponse(fields: RawHeaders): boolean {
  return fields[0] === ":status" && /^[1-9][0-9][0-9]$/.test(fields[1] ?? "") && validateFields(fields, 2);
}

export function validateTrailers(fields: RawHeaders): boolean {
  return validateFields(fields, 0);
}

/** True for a response head with a status below 200. */
export function isInformational(fields: RawHeaders): boolean {
  return (fields[1] as string).charCodeAt(0) === 0x31;
}

function validateFields(fields: RawHeaders, from: number): boolean {
  for (let i = from; i + 1 < fields.length; i += 2) {
    const name = fields[i] as string;
    const value = fields[i + 1] as string;
    if (!NAME.test(name) || CONNECTION_SPECIFIC.has(name) || FORBIDDEN_IN_VALUE.test(value)) return false;
    if (name === "te" && value !== "trailers") return false;
  }
  return true;
}
