/** Chars that stand for themselves in a line of the log: printable ASCII without space, `"` and `=`. */
const PLAIN: Uint8Array = Uint8Array.from({ length: 128 }, (_, code) =>
  code > 0x20 && code < 0x7f && code !== 0x22 && code !== 0x3d ? 1 : 0,
);
const NEWLINE = 0x0a;
const ZERO = 0x30;
/** Beyond it, 32 bits are not enough. */
const MAX_INTEGER = 1e9;

/**
 * Text of ASCII that grows in one block of bytes, for lines that every request writes: no string is made until somebody
 * takes the whole. What does not fit, or is not plain, is refused, and its writer goes back to where it began.
 */
export class AsciiText {
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
    if (this.#length === this.#bytes.length) return false;
    this.#bytes[this.#length++] = NEWLINE;
    return true;
  }

  /** Bytes that are known to be ASCII. */
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

  /** A value that needs no quotes in a line of the log: not empty, plain chars only. */
  plain(text: string): boolean {
    const bytes = this.#bytes;
    const { length } = text;
    let at = this.#length;
    if (length === 0 || length > bytes.length - at) return false;
    for (let i = 0; i < length; i += 1) {
      const code = text.charCodeAt(i);
      if (PLAIN[code] !== 1) return false;
      bytes[at++] = code;
    }
    this.#length = at;
    return true;
  }

  /** A whole number, 0 or more, in decimal. */
  integer(value: number): boolean {
    if (value >= MAX_INTEGER) return this.plain(String(value));
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

  /** Gives the whole, and begins anew. */
  take(): string {
    const text = this.#bytes.toString("latin1", 0, this.#length);
    this.#length = 0;
    return text;
  }
}
