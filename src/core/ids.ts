declare const brand: unique symbol;
type Brand<T, B extends string> = T & { readonly [brand]: B };

/** A tunnel: canonical lower-case UUID text. */
export type TunnelId = Brand<string, "TunnelId">;
/** One connector process, the same for all its connections; `clientId` on the wire (protocol: section 3.6). */
export type ConnectorId = Brand<string, "ConnectorId">;
/** One registered connection, given by the edge (protocol: section 3.6). */
export type ConnectionId = Brand<string, "ConnectionId">;

type Uuid = TunnelId | ConnectorId | ConnectionId;

/** Bytes of a UUID on the wire. */
export const UUID_BYTES = 16;

const UUID_TEXT = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** Reads `8-4-4-4-12` hex text in any case; undefined when it is anything else. */
export function parseTunnelId(text: string): TunnelId | undefined {
  return parseUuid(text) as TunnelId | undefined;
}

export function parseConnectorId(text: string): ConnectorId | undefined {
  return parseUuid(text) as ConnectorId | undefined;
}

export function parseConnectionId(text: string): ConnectionId | undefined {
  return parseUuid(text) as ConnectionId | undefined;
}

/** Reads the 16 raw bytes; undefined for any other length. */
export function tunnelIdFromBytes(bytes: Uint8Array): TunnelId | undefined {
  return formatUuid(bytes) as TunnelId | undefined;
}

export function connectorIdFromBytes(bytes: Uint8Array): ConnectorId | undefined {
  return formatUuid(bytes) as ConnectorId | undefined;
}

export function connectionIdFromBytes(bytes: Uint8Array): ConnectionId | undefined {
  return formatUuid(bytes) as ConnectionId | undefined;
}

/** A new random identity; `randomUuid` is replaced in tests. */
export function newTunnelId(randomUuid: () => string = () => crypto.randomUUID()): TunnelId {
  return randomUuid() as TunnelId;
}

export function newConnectorId(randomUuid: () => string = () => crypto.randomUUID()): ConnectorId {
  return randomUuid() as ConnectorId;
}

export function newConnectionId(randomUuid: () => string = () => crypto.randomUUID()): ConnectionId {
  return randomUuid() as ConnectionId;
}

/** The 16 raw bytes in text order (big-endian), a new array. */
export function uuidToBytes(id: Uuid): Uint8Array {
  const digits = id.replaceAll("-", "");
  const bytes = new Uint8Array(UUID_BYTES);
  for (let i = 0; i < UUID_BYTES; i += 1) bytes[i] = Number.parseInt(digits.slice(2 * i, 2 * i + 2), 16);
  return bytes;
}

function parseUuid(text: string): string | undefined {
  const lower = text.toLowerCase();
  return UUID_TEXT.test(lower) ? lower : undefined;
}

function formatUuid(bytes: Uint8Array): string | undefined {
  if (bytes.length !== UUID_BYTES) return undefined;
  let hex = "";
  for (const byte of bytes) hex += byte.toString(16).padStart(2, "0");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}
