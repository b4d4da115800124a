// Variable-length integers (RFC 9000 section 16), for values below 2^30: lengths here never need more.

/** The greatest value {@link encodeVarint} takes. */
export const MAX_VARINT = 0x3fff_ffff;

export function encodeVarint(value: number): Uint8Array {
  if (value < 0x40) return Uint8Array.of(value);
  if (value < 0x4000) return Uint8Array.of(0x40 | (value >>> 8), value & 0xff);
  return Uint8Array.of(0x80 | (value >>> 24), (value >>> 16) & 0xff, (value >>> 8) & 0xff, value & 0xff);
}

/** Bytes of the integer that starts with this byte: 1, 2, 4 or 8. */
export function varintBytes(first: number): number {
  return 1 << (first >>> 6);
}

/** Reads a whole integer at `offset`; undefined for one of 2^30 and above. The bytes must be there. */
export function readVarint(bytes: Uint8Array, offset: number): number | undefined {
  const first = bytes[offset] as number;
  const length = varintBytes(first);
  let value = first & 0x3f;
  for (let i = 1; i < length; i += 1) value = value * 256 + (bytes[offset + i] as number);
  return value <= MAX_VARINT ? value : undefined;
}
