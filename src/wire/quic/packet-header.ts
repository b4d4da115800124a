// The part of QUIC packets that does not depend on version or keys (RFC 8999), and the token of an Initial packet
// (RFC 9000 section 17.2.2): what a listener routes by before any connection exists.

import { varintBytes } from "./varint.ts";

/** QUIC version 1. */
export const QUIC_V1 = 1;
/** A datagram with a first Initial packet is at least this long (RFC 9000 section 14.1). */
export const MIN_INITIAL_BYTES = 1200;

const MAX_CID_BYTES = 20;
/** A client's first destination id is at least this long (RFC 9000 section 7.2). */
const MIN_INITIAL_DCID_BYTES = 8;
/** Our tokens are far shorter; a longer one is not ours. */
const MAX_TOKEN_BYTES = 256;

export type LongHeader = {
  readonly version: number;
  /** Only for version 1. */
  readonly initial: boolean;
  readonly dcid: Uint8Array;
  readonly scid: Uint8Array;
  /** Of an Initial packet of version 1; empty = none. */
  readonly token: Uint8Array;
};

const NO_BYTES = new Uint8Array(0);

export function isLongHeader(packet: Uint8Array): boolean {
  return ((packet[0] ?? 0) & 0x80) !== 0;
}

/** Reads a long header; undefined for what no peer sends. The fields are views of the packet. */
export function parseLongHeader(packet: Uint8Array): LongHeader | undefined {
  if (packet.length < 7 || !isLongHeader(packet)) return undefined;
  const version = new DataView(packet.buffer, packet.byteOffset, 5).getUint32(1);
  const dcidBytes = packet[5] as number;
  const scidLengthAt = 6 + dcidBytes;
  if (dcidBytes > MAX_CID_BYTES || packet.length <= scidLengthAt) return undefined;
  const scidBytes = packet[scidLengthAt] as number;
  const end = scidLengthAt + 1 + scidBytes;
  if (scidBytes > MAX_CID_BYTES || packet.length <= end) return undefined;
  const dcid = packet.subarray(6, scidLengthAt);
  const scid = packet.subarray(scidLengthAt + 1, end);
  const initial = version === QUIC_V1 && ((packet[0] as number) & 0x30) === 0;
  if (!initial) return { version, initial, dcid, scid, token: NO_BYTES };
  const token = readToken(packet, end);
  return token === undefined ? undefined : { version, initial, dcid, scid, token };
}

/** True when a datagram with this header may open a connection. */
export function mayOpenConnection(header: LongHeader, datagramBytes: number): boolean {
  return header.initial && datagramBytes >= MIN_INITIAL_BYTES && header.dcid.length >= MIN_INITIAL_DCID_BYTES;
}

/** The answer to a version we do not speak (RFC 9000 section 17.2.1). */
export function encodeVersionNegotiation(header: LongHeader): Uint8Array {
  const { dcid, scid } = header;
  const packet = new Uint8Array(7 + dcid.length + scid.length + 4);
  packet[0] = 0xc0;
  packet[5] = scid.length;
  packet.set(scid, 6);
  packet[6 + scid.length] = dcid.length;
  packet.set(dcid, 7 + scid.length);
  packet[packet.length - 1] = QUIC_V1;
  return packet;
}

function readToken(packet: Uint8Array, at: number): Uint8Array | undefined {
  const lengthBytes = varintBytes(packet[at] as number);
  if (lengthBytes > 2 || packet.length < at + lengthBytes) return undefined;
  const first = (packet[at] as number) & 0x3f;
  const length = lengthBytes === 1 ? first : first * 256 + (packet[at + 1] as number);
  const start = at + lengthBytes;
  if (length > MAX_TOKEN_BYTES || packet.length < start + length) return undefined;
  return packet.subarray(start, start + length);
}
