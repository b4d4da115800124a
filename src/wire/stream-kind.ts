// How HTTP/2 streams say what they are, and who answered (protocol: sections 2.2 and 2.5).

import { headerValue, type RawHeaders } from "./headers.ts";

/** Request: the kind of a stream that is not plain HTTP. */
export const UPGRADE_HEADER = "cf-cloudflared-proxy-connection-upgrade";
/** Request: present and not empty on a TCP stream; its value says nothing. */
export const TCP_SOURCE_HEADER = "cf-cloudflared-proxy-src";
/** Response: the origin's fields, packed. */
export const RESPONSE_HEADERS_HEADER = "cf-cloudflared-response-headers";
/** Response: who answered. */
export const RESPONSE_META_HEADER = "cf-cloudflared-response-meta";

export const UPGRADE_CONTROL_STREAM = "control-stream";
export const UPGRADE_WEBSOCKET = "websocket";
export const UPGRADE_CONFIGURATION = "update-configuration";

/** The three values of {@link RESPONSE_META_HEADER}, as cloudflared writes them. */
export const META_ORIGIN = '{"src":"origin"}';
export const META_CLOUDFLARED = '{"src":"cloudflared"}';
export const META_FLOW_LIMITED = '{"src":"cloudflared","flow_rate_limited":true}';

/** Chars of a meta value that are looked at. */
const MAX_META_CHARS = 4096;

export type WireStreamKind = "configuration" | "websocket" | "tcp" | "control" | "http";

/** What a request opens. Values compare exactly; an unknown upgrade is plain HTTP. */
export function classifyStream(headers: RawHeaders): WireStreamKind {
  const upgrade = headerValue(headers, UPGRADE_HEADER);
  if (upgrade === UPGRADE_CONFIGURATION) return "configuration";
  if (upgrade === UPGRADE_WEBSOCKET) return "websocket";
  const source = headerValue(headers, TCP_SOURCE_HEADER);
  if (source !== undefined && source !== "") return "tcp";
  return upgrade === UPGRADE_CONTROL_STREAM ? "control" : "http";
}

export type ResponseMeta = { readonly source: "origin" | "cloudflared"; readonly flowRateLimited: boolean };

const FROM_ORIGIN: ResponseMeta = { source: "origin", flowRateLimited: false };
const FROM_CLOUDFLARED: ResponseMeta = { source: "cloudflared", flowRateLimited: false };
const FLOW_LIMITED: ResponseMeta = { source: "cloudflared", flowRateLimited: true };

/** Reads the meta value. Missing or unreadable = cloudflared: its HTTP/2 stack answers some requests on its own. */
export function parseResponseMeta(text: string | undefined): ResponseMeta {
  switch (text) {
    case META_ORIGIN:
      return FROM_ORIGIN;
    case META_FLOW_LIMITED:
      return FLOW_LIMITED;
    case META_CLOUDFLARED:
    case undefined:
      return FROM_CLOUDFLARED;
    default:
      return text.length > MAX_META_CHARS ? FROM_CLOUDFLARED : parseUnusualMeta(text);
  }
}

/** The value to send. */
export function formatResponseMeta(meta: { source: "origin" | "cloudflared"; flowRateLimited?: boolean }): string {
  if (meta.source === "origin") return META_ORIGIN;
  return meta.flowRateLimited === true ? META_FLOW_LIMITED : META_CLOUDFLARED;
}

function parseUnusualMeta(text: string): ResponseMeta {
  try {
    const meta: unknown = JSON.parse(text);
    if (typeof meta !== "object" || meta === null) return FROM_CLOUDFLARED;
    if ("src" in meta && meta.src === "origin") return FROM_ORIGIN;
    return "flow_rate_limited" in meta && meta.flow_rate_limited === true ? FLOW_LIMITED : FROM_CLOUDFLARED;
  } catch {
    return FROM_CLOUDFLARED;
  }
}
