import { packHeaders, unpackHeaders } from "../../wire/header-packing.ts";
import { headerValue, type RawHeaders } from "../../wire/headers.ts";
import { Memo } from "../../wire/memo.ts";
import {
  classifyStream,
  formatResponseMeta,
  parseResponseMeta,
  RESPONSE_HEADERS_HEADER,
  RESPONSE_META_HEADER,
  TCP_SOURCE_HEADER,
  UPGRADE_CONFIGURATION,
  UPGRADE_CONTROL_STREAM,
  UPGRADE_HEADER,
  UPGRADE_WEBSOCKET,
} from "../../wire/stream-kind.ts";
import { CF_TRACING } from "../../wire/trace-context.ts";
import type { StreamKind, StreamRequest, StreamResponse } from "../port.ts";

/**
 * Requests and answers as HTTP/2 fields (protocol: sections 2.2 to 2.8). Requests travel as plain fields; an origin's
 * answer travels packed in one field, beside `:status` and `content-length`.
 */

/**
 * Between our own ends: the visitor's spelling of each field name, joined by commas, in the order of the fields.
 * HTTP/2 knows lower case only, and some services behind a tunnel care.
 */
const HEADER_NAMES_HEADER = "cf-culvert-header-names";
/** Between our own ends, on the control stream: the edge passes interim answers on. */
const INFORMATIONAL_HEADER = "cf-culvert-informational";

const NAME_MEMO = { maxEntries: 2048, maxTextChars: 64 } as const;
const lowerName = new Memo((name: string) => name.toLowerCase(), NAME_MEMO);
/** `x-api-key` to `X-Api-Key`: how Go spells names, and so what services behind cloudflared are used to. */
const canonicalName = new Memo(
  (name: string) => name.toLowerCase().replace(/(^|-)[a-z]/g, (start) => start.toUpperCase()),
  NAME_MEMO,
);

// ---- edge: what is sent, what comes back ----

/** `keepCase`: the connector said that it reads the spelling of names. */
export function requestFields(request: StreamRequest, keepCase: boolean): string[] {
  const fields = [
    ":method",
    request.method,
    ":scheme",
    "http",
    ":authority",
    request.authority,
    ":path",
    request.path === "" ? "/" : request.path,
  ];
  if (request.kind === "websocket") fields.push(UPGRADE_HEADER, UPGRADE_WEBSOCKET);
  else if (request.kind === "tcp") fields.push(TCP_SOURCE_HEADER, "culvert");
  const { headers } = request;
  let canonical = true;
  for (let i = 0; i + 1 < headers.length; i += 2) {
    const name = headers[i] as string;
    if (canonicalName.get(name) !== name) canonical = false;
    fields.push(lowerName.get(name), headers[i + 1] as string);
  }
  if (keepCase && !canonical) fields.push(HEADER_NAMES_HEADER, joinNames(headers));
  return fields;
}

export function controlRequestFields(): string[] {
  return [
    ":method",
    "GET",
    ":scheme",
    "https",
    ":authority",
    "edge",
    ":path",
    "/",
    UPGRADE_HEADER,
    UPGRADE_CONTROL_STREAM,
    INFORMATIONAL_HEADER,
    "1",
  ];
}

export function configurationRequestFields(): string[] {
  return [
    ...[":method", "PUT", ":scheme", "https", ":authority", "edge", ":path", "/"],
    ...[UPGRADE_HEADER, UPGRADE_CONFIGURATION, "content-type", "application/json"],
  ];
}

/** Undefined when the packed fields are not what a connector may send. */
export function parseResponse(fields: RawHeaders, kind: StreamKind): StreamResponse | undefined {
  const status = Number(fields[1]);
  const packed = headerValue(fields, RESPONSE_HEADERS_HEADER);
  const meta = parseResponseMeta(headerValue(fields, RESPONSE_META_HEADER));
  const unpacked = unpackHeaders(packed ?? "");
  if (unpacked.kind !== "value") return undefined;
  const headers = unpacked.value;
  return {
    status: kind === "websocket" && status === 200 && isUpgradeAnswer(headers) ? 101 : status,
    headers,
    source: meta.source,
    flowRateLimited: meta.flowRateLimited,
  };
}

export function parseInformational(fields: RawHeaders): { status: number; headers: RawHeaders } {
  return { status: Number(fields[1]), headers: fields.slice(2) };
}

// ---- connector: what comes, what is sent back ----

export type ParsedRequest =
  | { readonly kind: "visitor"; readonly request: StreamRequest }
  /** `informational`: the edge passes interim answers on. */
  | { readonly kind: "control"; readonly informational: boolean }
  | { readonly kind: "configuration" };

/** The fields were validated by the codec: pseudo-header fields stand first and are complete. */
export function parseRequest(fields: RawHeaders, endStream: boolean): ParsedRequest {
  const kind = classifyStream(fields);
  if (kind === "control") return { kind, informational: headerValue(fields, INFORMATIONAL_HEADER) !== undefined };
  if (kind === "configuration") return { kind };
  let method = "";
  let authority: string | undefined;
  let path = "";
  let i = 0;
  for (; i + 1 < fields.length && (fields[i] as string).charCodeAt(0) === 0x3a; i += 2) {
    const value = fields[i + 1] as string;
    if (fields[i] === ":method") method = value;
    else if (fields[i] === ":path") path = value;
    else if (fields[i] === ":authority") authority = value;
  }
  const spelled = spelledNames(headerValue(fields, HEADER_NAMES_HEADER));
  const headers: string[] = [];
  let position = 0;
  for (; i + 1 < fields.length; i += 2) {
    const name = fields[i] as string;
    const value = fields[i + 1] as string;
    if (name === UPGRADE_HEADER || name === HEADER_NAMES_HEADER) continue;
    if (name === "host") {
      authority ??= value;
      continue;
    }
    const spelling = spelled?.[position];
    position += 1;
    // A spelling that is not of this very name would let an edge and its visitor disagree about a request.
    const trusted = spelling !== undefined && lowerName.get(spelling) === name;
    headers.push(trusted ? spelling : canonicalName.get(name), value);
  }
  return {
    kind: "visitor",
    request: { kind, method, authority: authority ?? "", path, headers, bodyless: endStream },
  };
}

export function responseFields(response: StreamResponse): string[] {
  const status = response.status === 101 ? 200 : response.status;
  const fields = [
    ":status",
    String(status),
    RESPONSE_HEADERS_HEADER,
    packHeaders(response.headers),
    RESPONSE_META_HEADER,
    formatResponseMeta(response),
  ];
  const length = headerValue(response.headers, "content-length");
  if (length !== undefined) fields.push("content-length", length);
  if (response.spans !== undefined) fields.push(CF_TRACING, response.spans);
  return fields;
}

export function informationalFields(status: number, headers: RawHeaders): string[] {
  const fields = [":status", String(status)];
  for (let i = 0; i + 1 < headers.length; i += 2) {
    fields.push(lowerName.get(headers[i] as string), headers[i + 1] as string);
  }
  return fields;
}

/** HTTP/2 refuses a whole message for one capital letter in its trailers. */
export function trailerFields(trailers: RawHeaders): RawHeaders {
  if (trailers.length === 0) return trailers;
  return trailers.map((text, index) => (index % 2 === 0 ? lowerName.get(text) : text));
}

/** A completed handshake differs from a refusal with status 200 only by these two (protocol: section 2.6). */
function isUpgradeAnswer(headers: RawHeaders): boolean {
  return headerValue(headers, "upgrade") !== undefined && headerValue(headers, "sec-websocket-accept") !== undefined;
}

function joinNames(headers: RawHeaders): string {
  let names = "";
  for (let i = 0; i + 1 < headers.length; i += 2) names += i === 0 ? headers[i] : `,${headers[i]}`;
  return names;
}

function spelledNames(joined: string | undefined): string[] | undefined {
  return joined === undefined ? undefined : joined.split(",");
}
