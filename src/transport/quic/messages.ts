import { listsToken, stripHopByHop } from "../../wire/h1/hop-by-hop.ts";
import { isControlName } from "../../wire/header-packing.ts";
import { headerValue, type RawHeaders } from "../../wire/headers.ts";
import { Memo } from "../../wire/memo.ts";
import type { ConnectRequest, ConnectResponse } from "../../wire/schema/connect-request.ts";
import type { StreamKind, StreamRequest, StreamResponse } from "../port.ts";

/**
 * Requests and answers as the metadata of ConnectRequest and ConnectResponse (protocol: section 4.3). Unlike HTTP/2
 * this keeps the spelling of field names, and an answer's fields come unfiltered.
 */

const METHOD_KEY = "HttpMethod";
const HOST_KEY = "HttpHost";
const STATUS_KEY = "HttpStatus";
const HEADER_PREFIX = "HttpHeader:";
const FLOW_LIMITED_KEY = "FlowConnectRateLimited";
/**
 * Between our own ends, on a request and its answer: bodies come in frames (`wire/quic/body-frames.ts`), and interim
 * answers may come before the final one. Others ignore the key.
 */
const FRAMES_KEY = "CulvertFrames";
/** Between our own ends: `cloudflared` = the connector made this answer itself. */
const SOURCE_KEY = "CulvertSource";

/** As cloudflared spells it (protocol: section 4.3). */
const SPANS_KEY = "HttpHeader:Cf-Int-Cloudflared-Tracing";

const NAME_MEMO = { maxEntries: 2048, maxTextChars: 64 } as const;
const FIELD_NAME = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
/** What would end a field line or a text somewhere behind us. */
const FORBIDDEN_IN_VALUE = /[\0\r\n]/;
/** No space, no control byte, no fragment. */
const TARGET = /^[!"$-~\x80-\xff]*$/;
const AUTHORITY = /^[!-~]*$/;
const STATUS = /^[1-9][0-9][0-9]$/;
/** Content-Length that means a body; the check of its digits belongs to whoever reads the body. */
const POSITIVE = /^0*[1-9][0-9]*$/;

const headerKey = new Memo((name: string) => HEADER_PREFIX + name, NAME_MEMO);
/** A valid field name of a key, or "" for a key that is none. */
const headerName = new Memo((key: string) => {
  const name = key.startsWith(HEADER_PREFIX) ? key.slice(HEADER_PREFIX.length) : "";
  return FIELD_NAME.test(name) ? name : "";
}, NAME_MEMO);
const isDropped = new Memo(isControlName, NAME_MEMO);

// ---- edge: what is sent, what comes back ----

/** `frames`: the connector said that it reads and writes framed bodies. */
export function connectRequestOf(request: StreamRequest, frames: boolean): ConnectRequest {
  const { kind, authority, headers } = request;
  if (kind === "tcp") return { dest: authority, type: "tcp", metadata: [] };
  const metadata: string[] = [METHOD_KEY, request.method, HOST_KEY, authority];
  for (let i = 0; i + 1 < headers.length; i += 2) {
    metadata.push(headerKey.get(headers[i] as string), headers[i + 1] as string);
  }
  // Without a length or this the connector drops the body.
  if (kind === "http" && sendsBody(request) && !announcesBody(headers)) {
    metadata.push(headerKey.get("Transfer-Encoding"), "chunked");
  }
  if (frames) metadata.push(FRAMES_KEY, "1");
  return { dest: `http://${authority}${request.path}`, type: kind, metadata };
}

/** False when the connector takes the request for one without a body: there is none, or its length is 0. */
export function sendsBody(request: StreamRequest): boolean {
  if (request.bodyless) return false;
  const length = request.kind === "http" ? headerValue(request.headers, "content-length") : undefined;
  return length === undefined || POSITIVE.test(length);
}

export type ParsedResponse =
  | { readonly kind: "response"; readonly response: StreamResponse; readonly frames: boolean }
  | { readonly kind: "interim"; readonly status: number; readonly headers: RawHeaders }
  | { readonly kind: "malformed" };

const MALFORMED: ParsedResponse = { kind: "malformed" };

export function parseConnectResponse(message: ConnectResponse, kind: StreamKind): ParsedResponse {
  const { metadata } = message;
  if (message.error !== "") return { kind: "response", response: failure(metadata), frames: false };
  if (kind === "tcp") {
    return { kind: "response", response: { status: 200, headers: [], source: "origin" }, frames: false };
  }
  let status = 0;
  let frames = false;
  let source: StreamResponse["source"] = "origin";
  let headers: string[] = [];
  for (let i = 0; i + 1 < metadata.length; i += 2) {
    const key = metadata[i] as string;
    const value = metadata[i + 1] as string;
    const name = headerName.get(key);
    if (name !== "") {
      if (FORBIDDEN_IN_VALUE.test(value)) return MALFORMED;
      if (!isDropped.get(name)) headers.push(name, value);
    } else if (key === STATUS_KEY) {
      if (!STATUS.test(value)) return MALFORMED;
      status = Number(value);
    } else if (key.includes("HttpHeader")) {
      return MALFORMED;
    } else if (key === FRAMES_KEY) {
      frames = true;
    } else if (key === SOURCE_KEY && value === "cloudflared") {
      source = "cloudflared";
    }
  }
  if (status === 0) return MALFORMED;
  // A switch of protocols is told by these fields; in every other answer they concern the connector's own hop.
  if (status !== 101) headers = stripHopByHop(headers);
  if (status < 200 && status !== 101) return frames ? { kind: "interim", status, headers } : MALFORMED;
  return { kind: "response", response: { status, headers, source }, frames };
}

/** An answer without a status says why there is none (protocol: section 4.3). */
function failure(metadata: readonly string[]): StreamResponse {
  const limited = metadataValue(metadata, FLOW_LIMITED_KEY) === "true";
  return { status: 502, headers: [], source: "cloudflared", ...(limited ? { flowRateLimited: true } : {}) };
}

// ---- connector: what comes, what is sent back ----

export type ParsedConnectRequest = {
  readonly request: StreamRequest;
  /** The edge reads and writes framed bodies on this stream. */
  readonly frames: boolean;
};

/** Undefined for a request that cannot be passed on; it is answered with an error. */
export function parseConnectRequest(message: ConnectRequest): ParsedConnectRequest | undefined {
  const { dest, type: kind, metadata } = message;
  if (kind === "tcp") {
    if (!AUTHORITY.test(dest)) return undefined;
    const request: StreamRequest = { kind, method: "", authority: dest, path: "", headers: [], bodyless: false };
    return { request, frames: false };
  }
  let method = "";
  let host: string | undefined;
  let frames = false;
  const headers: string[] = [];
  for (let i = 0; i + 1 < metadata.length; i += 2) {
    const key = metadata[i] as string;
    const value = metadata[i + 1] as string;
    const name = headerName.get(key);
    if (name !== "") {
      if (FORBIDDEN_IN_VALUE.test(value)) return undefined;
      headers.push(name, value);
    } else if (key === METHOD_KEY) method = value;
    else if (key === HOST_KEY) host = value;
    else if (key.includes("HttpHeader")) return undefined;
    else if (key === FRAMES_KEY) frames = kind === "http";
  }
  const target = splitUrl(dest);
  const authority = host ?? target?.authority;
  if (target === undefined || authority === undefined || !AUTHORITY.test(authority)) return undefined;
  if (!FIELD_NAME.test(method) || !TARGET.test(target.path)) return undefined;
  const bodyless = kind === "http" && !announcesBody(headers);
  const { path } = target;
  return { request: { kind, method, authority, path, headers: stripHopByHop(headers), bodyless }, frames };
}

export function connectResponseOf(response: StreamResponse, frames: boolean): ConnectResponse {
  if (!frames && response.source === "cloudflared") {
    // The only way to say that no origin answered; other statuses of ours pass for an origin's.
    if (response.flowRateLimited === true) {
      return { error: "too many flows", metadata: [FLOW_LIMITED_KEY, "true"] };
    }
    if (response.status === 502) return { error: "origin cannot be reached", metadata: [] };
  }
  const metadata = statusMetadata(response.status, response.headers);
  if (response.spans !== undefined) metadata.push(SPANS_KEY, response.spans);
  if (frames) {
    metadata.push(FRAMES_KEY, "1");
    if (response.source === "cloudflared") metadata.push(SOURCE_KEY, response.source);
  }
  return { error: "", metadata };
}

/** An answer to a stream without HTTP: connected, or not. */
export function tcpResponseOf(response: StreamResponse): ConnectResponse {
  if (response.status < 300) return { error: "", metadata: [] };
  return connectResponseOf({ ...response, status: 502, source: "cloudflared" }, false);
}

export function interimResponseOf(status: number, headers: RawHeaders): ConnectResponse {
  return { error: "", metadata: [...statusMetadata(status, headers), FRAMES_KEY, "1"] };
}

/** What a connector answers to a request it cannot read. */
export const UNREADABLE_REQUEST: ConnectResponse = { error: "malformed request", metadata: [] };

function statusMetadata(status: number, headers: RawHeaders): string[] {
  const metadata = [STATUS_KEY, String(status)];
  for (let i = 0; i + 1 < headers.length; i += 2) {
    metadata.push(headerKey.get(headers[i] as string), headers[i + 1] as string);
  }
  return metadata;
}

/** The rule by which connectors decide whether a request has a body. */
function announcesBody(headers: RawHeaders): boolean {
  const length = headerValue(headers, "content-length");
  if (length !== undefined && POSITIVE.test(length)) return true;
  const encoding = headerValue(headers, "transfer-encoding");
  return encoding !== undefined && listsToken(encoding, "chunked");
}

/** `scheme://authority/path?query`; an absent path is `/`. */
function splitUrl(url: string): { authority: string; path: string } | undefined {
  const schemeEnd = url.indexOf("://");
  if (schemeEnd <= 0) return undefined;
  const start = schemeEnd + 3;
  let end = start;
  while (end < url.length && url[end] !== "/" && url[end] !== "?") end += 1;
  const rest = url.slice(end);
  return { authority: url.slice(start, end), path: rest.startsWith("/") ? rest : `/${rest}` };
}

function metadataValue(metadata: readonly string[], key: string): string | undefined {
  for (let i = 0; i + 1 < metadata.length; i += 2) if (metadata[i] === key) return metadata[i + 1];
  return undefined;
}
