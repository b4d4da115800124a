/** Byte classes of RFC 9110 and 9112 as lookup tables: 1 = member. */

export const CR = 0x0d;
export const LF = 0x0a;
export const SP = 0x20;
export const HTAB = 0x09;
export const COLON = 0x3a;

/** `token` (RFC 9110 section 5.6.2): methods and field names. */
export const TOKEN = new Uint8Array(256);
for (const char of "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz") {
  TOKEN[char.charCodeAt(0)] = 1;
}

/** Field values, reason phrases, chunk extensions: HTAB, SP, visible ASCII and 0x80 to 0xff, but no control byte. */
export const VALUE = new Uint8Array(256).fill(1, 0x20);
VALUE[HTAB] = 1;
VALUE[0x7f] = 0;

/**
 * Request targets: no space, no control byte, no `#` (a fragment is never sent). Bytes above 0x7f pass, since clients
 * do send raw UTF-8 paths and every byte is kept.
 */
export const TARGET = new Uint8Array(256).fill(1, 0x21);
TARGET[0x7f] = 0;
TARGET[0x23] = 0;

/** Value of a hexadecimal digit, or -1. */
export const HEX = new Int8Array(256).fill(-1);
for (let digit = 0; digit < 16; digit += 1) {
  const char = digit.toString(16);
  HEX[char.charCodeAt(0)] = digit;
  HEX[char.toUpperCase().charCodeAt(0)] = digit;
}

/** Compares bytes with lower-case ASCII text, without regard to case. Only for text of letters and `-`. */
export function equalsIgnoringCase(bytes: Uint8Array, start: number, end: number, lowerCase: string): boolean {
  if (end - start !== lowerCase.length) return false;
  for (let i = 0; i < lowerCase.length; i += 1) {
    const byte = bytes[start + i] as number;
    const folded = byte >= 0x41 && byte <= 0x5a ? byte | 0x20 : byte;
    if (folded !== lowerCase.charCodeAt(i)) return false;
  }
  return true;
}
