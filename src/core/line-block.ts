import { fieldText } from "./log.ts";

const QUOTE = 0x22;
const EQUALS = 0x3d;
const BACKSLASH = 0x5c;
const NEWLINE = 0x0a;
const ZERO = 0x30;

/** Stands for itself in a value without quotes. */
const PLAIN = 0;
const OTHER = 1;
/** Of chars up to 0xff. */
const KINDS = Uint8Array.from({ length: 256 }, (_, code) =>
  code > 0x20 && code < 0x7f && code !== QUOTE && code !== EQUALS && code !== BACKSLASH ? PLAIN : OTHER,
);
/** Beyond it, 32 bits are not enough. */
const MAX_INTEGER = 1e9;

/**
 * Lines of the log that grow in one block of bytes, for what every request writes: no string is made until somebody takes
 * the whole. What does not fit is refused, and its writer goes back to where it began.
 */
export class LineBlock {
  readonly #bytes: Buffer;
  #length = 0;

  /** `capacity`: bytes at most. */
  constructor(capacity: number) {
    this.#bytes = Buffer.alloc(capacity);
  }

  get length(): number {
    return this.#length;
  }

  /** Forgets what was put behind this length. */
  cut(length: number): void {
    this.#length = Math.min(length, this.#length);
  }

  newline(): boolean {
    return this.#byte(NEWLINE);
  }

  /** Bytes of UTF-8, as they are. */
  put(bytes: Uint8Array): boolean {
    const target = this.#bytes;
    const at = this.#length;
    const { length } = bytes;
    if (length > target.length - at) return false;
    // Of a few bytes: less than a call of `set` costs.
    for (let i = 0; i < length; i += 1) target[at + i] = bytes[i] as number;
    this.#length = at + length;
    return true;
  }

  /** A value as a line of the log shows it (`fieldText`). */
  value(text: string): boolean {
    const { length } = text;
    return (length > 0 && this.#plain(text, length)) || this.put(Buffer.from(fieldText(text)));
  }

  /** The first `end` chars of a text, and what stands for the others, in quotes. False also where one needs to be escaped. */
  beginning(text: string, end: number, rest: Uint8Array): boolean {
    return this.#byte(QUOTE) && this.#plain(text, end) && this.put(rest) && this.#byte(QUOTE);
  }

  /** A whole number, 0 or more, in decimal. */
  integer(value: number): boolean {
    if (value >= MAX_INTEGER) return this.put(Buffer.from(String(value)));
    const target = this.#bytes;
    let rest = value | 0;
    let digits = 1;
    while (rest >= 10) {
      rest = (rest / 10) | 0;
      digits += 1;
    }
    const begin = this.#length;
    if (digits > target.length - begin) return false;
    rest = value | 0;
    for (let at = begin + digits - 1; at >= begin; at -= 1) {
      const next = (rest / 10) | 0;
      target[at] = ZERO + rest - next * 10;
      rest = next;
    }
    this.#length = begin + digits;
    return true;
  }

  /** What was put, where it is: no copy. */
  get bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  #byte(byte: number): boolean {
    if (this.#length === this.#bytes.length) return false;
    this.#bytes[this.#length++] = byte;
    return true;
  }

  /** The first `end` chars; nothing where one of them needs quotes. */
  #plain(text: string, end: number): boolean {
    const bytes = this.#bytes;
    const begin = this.#length;
    if (end > bytes.length - begin) return false;
    let kind = PLAIN;
    for (let i = 0; i < end; i += 1) {
      const code = text.charCodeAt(i);
      kind |= code < KINDS.length ? (KINDS[code] as number) : OTHER;
      bytes[begin + i] = code;
    }
    if (kind !== PLAIN) return false;
    this.#length = begin + end;
    return true;
  }
}
