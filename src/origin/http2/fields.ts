import { TunnelError } from "../../core/errors.ts";
import { listsToken } from "../../wire/h1/hop-by-hop.ts";
import { validateRequest } from "../../wire/h2/message-rules.ts";
import { headerValues, type RawHeaders } from "../../wire/headers.ts";
import { Memo } from "../../wire/memo.ts";
import type { OriginRequest } from "../port.ts";

/** Fields about one HTTP/1.1 connection, which HTTP/2 forbids (RFC 9113 section 8.2.2); Host becomes `:authority`. */
const LEFT_OUT: ReadonlySet<string> = new Set([
  "connection",
  "host",
  "keep-alive",
  "proxy-connection",
  "transfer-encoding",
  "upgrade",
]);

/** Methods whose empty body is said to be empty, as HTTP/1.1 does. */
const BODY_EXPECTED: ReadonlySet<string> = new Set(["POST", "PUT", "PATCH"]);

const lowerName = new Memo((name: string) => name.toLowerCase(), { maxEntries: 2048, maxTextChars: 64 });

/**
 * The request as HTTP/2 fields, pseudo-header fields first (RFC 9113 section 8.3.1). `te: trailers` stays, and nothing
 * else of TE: servers of gRPC insist on it. Errors: `origin.unsupported`, `request.malformed`.
 */
export function requestFields(request: OriginRequest, scheme: "http" | "https"): string[] | TunnelError {
  const { method, target, headers, body } = request;
  if (method === "CONNECT") return new TunnelError("origin.unsupported", "Origin takes no CONNECT requests");
  const fields = [":method", method, ":scheme", scheme, ":authority", "", ":path", target];
  for (let i = 0; i + 1 < headers.length; i += 2) {
    const name = lowerName.get(headers[i] as string);
    const value = headers[i + 1] as string;
    if (name === "content-length") {
      return new TunnelError("request.malformed", "Request fields must not frame the body");
    }
    if (name === "host") fields[5] = value;
    else if (name === "te") {
      if (listsToken(value, "trailers")) fields.push(name, "trailers");
    } else if (!LEFT_OUT.has(name)) fields.push(name, value);
  }
  if (typeof body === "number") fields.push("content-length", String(body));
  else if (body === "none" && BODY_EXPECTED.has(method)) fields.push("content-length", "0");
  return validateRequest(fields, false) ? fields : new TunnelError("request.malformed", "Request head cannot be sent");
}

/**
 * Bytes of body an answer has to have (RFC 9113 section 8.1.1); undefined = nobody said. `malformed` = lengths that are
 * none or contradict each other.
 */
export function expectedBodyBytes(
  method: string,
  status: number,
  fields: RawHeaders,
): number | undefined | "malformed" {
  const lengths = headerValues(fields, "content-length");
  const first = lengths[0];
  if (first !== undefined && (!/^[0-9]{1,15}$/.test(first) || lengths.some((length) => length !== first))) {
    return "malformed";
  }
  if (method === "HEAD" || status === 204 || status === 304) return 0;
  return first === undefined ? undefined : Number(first);
}
