import { fieldText } from "./log.ts";

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
/** `…`, in place of what is not shown: the one char beyond ASCII that most lines have. */
const ELLIPSIS = 0x2026;
const ELLIPSIS_BYTES = [0xe2, 0x80, 0xa6] as const;
const NEWLINE = 0x0a;
const ZERO = 0x30;

const PLAIN = 0;
/** Stands for itself in quotes. */
const NEEDS_QUOTES = 1;
const OTHER = 2;
/** Of ASCII. */
const KINDS = Uint8Array.from({ length: 128 }, (_, code) => {
  if (code < 0x20 || code === QUOTE || code === BACKSLASH || code === 0x7f) return OTHER;
  return code === 0x20 || code === 0x3d ? NEEDS_QUOTES : PLAIN;
});
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
    let kind = text === "" ? NEEDS_QUOTES : PLAIN;
    for (let i = 0; i < text.length; i += 1) {
      const code = text.charCodeAt(i);
      if (code === ELLIPSIS) kind |= NEEDS_QUOTES;
      else kind |= KINDS[code] ?? OTHER;
    }
    if (kind === PLAIN) return this.#asItIs(text);
    if (kind !== NEEDS_QUOTES) return this.put(Buffer.from(fieldText(text)));
    return this.#byte(QUOTE) && this.#asItIs(text) && this.#byte(QUOTE);
  }

  /** A whole number, 0 or more, in decimal. */
  integer(value: number): boolean {
    if (value >= MAX_INTEGER) return this.#asItIs(String(value));
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
    const text = this.#bytes.toString("utf8", 0, this.#length);
    this.#length = 0;
    return text;
  }

  #byte(byte: number): boolean {
    if (this.#length === this.#bytes.length) return false;
    this.#bytes[this.#length++] = byte;
    return true;
  }

  /** Of ASCII and `…`. */
  #asItIs(text: string): boolean {
    const bytes = this.#bytes;
    const { length } = text;
    let at = this.#length;
    for (let i = 0; i < length; i += 1) {
      const code = text.charCodeAt(i);
      if (code !== ELLIPSIS) bytes[at++] = code;
      else for (const byte of ELLIPSIS_BYTES) bytes[at++] = byte;
    }
    // What is put behind the end of a block is nowhere.
    if (at > bytes.length) return false;
    this.#length = at;
    return true;
  }
}
