import type { RawHeaders } from "../headers.ts";
import { writeLatin1 } from "../latin1.ts";
import { STATIC_NAME_INDEX, STATIC_PAIR_INDEX } from "./static-table.ts";

/** An upper bound on the size of the encoded block, in bytes. */
export function hpackBoundBytes(fields: RawHeaders): number {
  let bytes = 0;
  for (let i = 0; i < fields.length; i++) bytes += (fields[i] as string).length + 6;
  return bytes;
}

/**
 * Encodes fields at `offset` and returns the offset behind them. Uses the static table and plain literals only: no
 * dynamic table, so nothing to keep in step with the peer's settings, and no Huffman code, which saves a few bytes on
 * a link that carries bodies and costs time on each request.
 */
export function encodeHpack(fields: RawHeaders, target: Uint8Array, offset: number): number {
  for (let i = 0; i + 1 < fields.length; i += 2) {
    const name = fields[i] as string;
    const value = fields[i + 1] as string;
    const nameIndex = STATIC_NAME_INDEX.get(name) ?? 0;
    const pairIndex = nameIndex === 0 || value.length > 13 ? undefined : STATIC_PAIR_INDEX.get(`${name}\0${value}`);
    if (pairIndex !== undefined) {
      target[offset++] = 0x80 | pairIndex;
      continue;
    }
    offset = writeInteger(nameIndex, 4, target, offset);
    if (nameIndex === 0) {
      offset = writeInteger(name.length, 7, target, offset);
      offset = writeLatin1(name, target, offset);
    }
    offset = writeInteger(value.length, 7, target, offset);
    offset = writeLatin1(value, target, offset);
  }
  return offset;
}

function writeInteger(value: number, bits: number, target: Uint8Array, offset: number): number {
  const mask = (1 << bits) - 1;
  if (value < mask) {
    target[offset] = value;
    return offset + 1;
  }
  target[offset++] = mask;
  value -= mask;
  while (value >= 0x80) {
    target[offset++] = (value & 0x7f) | 0x80;
    value >>>= 7;
  }
  target[offset] = value;
  return offset + 1;
}
