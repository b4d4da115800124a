/**
 * Writes DER (ITU-T X.690), as much of it as a certificate needs. (The X.509 libraries at hand bring a dependency
 * injection container and a global polyfill for what is a hundred lines.)
 */

const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  oid: 0x06,
  utf8String: 0x0c,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const;

export function sequence(...parts: Uint8Array[]): Uint8Array {
  return element(TAG.sequence, concat(parts));
}

export function set(...parts: Uint8Array[]): Uint8Array {
  return element(TAG.set, concat(parts));
}

/** `[number]` around other elements. */
export function explicit(number: number, ...parts: Uint8Array[]): Uint8Array {
  return element(0xa0 | number, concat(parts));
}

/** `[number]` in place of a primitive element's own tag. */
export function implicit(number: number, content: Uint8Array): Uint8Array {
  return element(0x80 | number, content);
}

export function boolean(value: boolean): Uint8Array {
  return element(TAG.boolean, Uint8Array.of(value ? 0xff : 0));
}

/** A non-negative integer from its big-endian bytes. */
export function integer(bytes: Uint8Array): Uint8Array {
  let start = 0;
  while (start < bytes.length - 1 && bytes[start] === 0) start += 1;
  const trimmed = bytes.subarray(start);
  const negative = ((trimmed[0] ?? 0) & 0x80) !== 0;
  return element(TAG.integer, negative ? concat([Uint8Array.of(0), trimmed]) : trimmed);
}

export function bitString(bytes: Uint8Array, unusedBits = 0): Uint8Array {
  return element(TAG.bitString, concat([Uint8Array.of(unusedBits), bytes]));
}

export function octetString(bytes: Uint8Array): Uint8Array {
  return element(TAG.octetString, bytes);
}

export function utf8String(text: string): Uint8Array {
  return element(TAG.utf8String, new TextEncoder().encode(text));
}

/** An object identifier in dotted form. */
export function oid(dotted: string): Uint8Array {
  const [first = 0, second = 0, ...rest] = dotted.split(".").map(Number);
  return element(TAG.oid, Uint8Array.from([first * 40 + second, ...rest.flatMap(base128)]));
}

/** A point in time: two-digit years until 2049, as certificates demand (RFC 5280 section 4.1.2.5). */
export function time(isoText: string): Uint8Array {
  const digits = `${isoText.slice(0, 19).replace(/[-:T]/g, "")}Z`;
  const short = Number(digits.slice(0, 4)) < 2050;
  return element(short ? TAG.utcTime : TAG.generalizedTime, new TextEncoder().encode(short ? digits.slice(2) : digits));
}

function base128(value: number): number[] {
  const groups = [value & 0x7f];
  for (let left = value >>> 7; left > 0; left >>>= 7) groups.unshift((left & 0x7f) | 0x80);
  return groups;
}

function element(tag: number, content: Uint8Array): Uint8Array {
  const { length } = content;
  const header =
    length < 0x80 ? [tag, length] : length < 0x100 ? [tag, 0x81, length] : [tag, 0x82, length >>> 8, length & 0xff];
  return concat([Uint8Array.from(header), content]);
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const joined = new Uint8Array(parts.reduce((bytes, part) => bytes + part.length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}
