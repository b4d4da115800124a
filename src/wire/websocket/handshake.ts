import { decodeBytes, encodeBytes } from "../base64.ts";
import { headerValue, headerValues, type RawHeaders } from "../headers.ts";

const ACCEPT_SUFFIX = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const KEY_BYTES = 16;

/** SHA-1 of a text, as base64; injected because `wire` has no cryptography. */
export type Sha1Base64 = (text: string) => string;

/** Sec-WebSocket-Key of 16 random bytes (RFC 6455 section 4.1). */
export function webSocketKey(random: Uint8Array): string {
  return encodeBytes(random.subarray(0, KEY_BYTES));
}

/** True for the base64 of 16 bytes. */
export function isWebSocketKey(key: string): boolean {
  return key.endsWith("==") && decodeBytes(key)?.length === KEY_BYTES;
}

/** Sec-WebSocket-Accept for a key (RFC 6455 section 4.2.2). */
export function webSocketAccept(key: string, sha1: Sha1Base64): string {
  return sha1(key.trim() + ACCEPT_SUFFIX);
}

/** Fields of a client's handshake, without Host. */
export function handshakeFields(key: string): RawHeaders {
  return ["Upgrade", "websocket", "Connection", "Upgrade", "Sec-WebSocket-Key", key, "Sec-WebSocket-Version", "13"];
}

/** What is wrong with a server's answer to a handshake that offered neither protocols nor extensions; undefined = nothing. */
export function handshakeProblem(
  status: number,
  headers: RawHeaders,
  key: string,
  sha1: Sha1Base64,
): string | undefined {
  if (status !== 101) return `status ${status} instead of 101`;
  if (headerValue(headers, "upgrade")?.trim().toLowerCase() !== "websocket") return "Upgrade is not websocket";
  const connection = headerValues(headers, "connection").join(",").toLowerCase();
  if (!connection.split(",").some((token) => token.trim() === "upgrade")) return "Connection is not Upgrade";
  const accept = headerValues(headers, "sec-websocket-accept");
  if (accept.length !== 1 || accept[0]?.trim() !== webSocketAccept(key, sha1)) return "Sec-WebSocket-Accept is wrong";
  if (headerValue(headers, "sec-websocket-extensions") !== undefined) return "an extension that was not offered";
  if (headerValue(headers, "sec-websocket-protocol") !== undefined) return "a protocol that was not offered";
  return undefined;
}
