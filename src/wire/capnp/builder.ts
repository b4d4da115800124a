// Builder of one-segment Cap'n Proto messages with their framing header (protocol: section 3.1).
// Objects lie in the order in which they are created. Creating a struct, then filling its fields in the order of the
// schema, gives the same bytes as the Go library does.

const WORD_BYTES = 8;
/** Framing header of a message with one segment. */
const HEADER_BYTES = 8;
const DEFAULT_CAPACITY_BYTES = 512;
const MAX_UTF8_BYTES_PER_CHAR = 3;

const LIST_OF_BYTES = 2;
const LIST_OF_POINTERS = 6;
const LIST_OF_STRUCTS = 7;

const QUESTION_MARK = 0x3f;

const encoder = new TextEncoder();

/** Grows one message; make it, fill its root, `finish` it once. */
export class MessageBuilder {
  #bytes: Uint8Array<ArrayBuffer>;
  #view: DataView;
  #end = HEADER_BYTES;

  constructor(capacityBytes = DEFAULT_CAPACITY_BYTES) {
    this.#bytes = new Uint8Array(Math.max(capacityBytes, HEADER_BYTES + WORD_BYTES));
    this.#view = new DataView(this.#bytes.buffer);
  }

  get bytes(): Uint8Array {
    return this.#bytes;
  }

  get view(): DataView {
    return this.#view;
  }

  /** Creates the root struct; call it first and once. */
  root(dataWords: number, pointerWords: number): StructBuilder {
    const pointerAt = this.allocate(1);
    return this.struct(pointerAt, dataWords, pointerWords);
  }

  /** Creates a struct and points the pointer at byte `pointerAt` to it. */
  struct(pointerAt: number, dataWords: number, pointerWords: number): StructBuilder {
    const words = dataWords + pointerWords;
    const start = this.allocate(words);
    // A struct without size would look like a null pointer at offset 0, so it points at its own pointer (offset -1).
    const offset = words === 0 ? -1 : (start - pointerAt) / WORD_BYTES - 1;
    this.#view.setInt32(pointerAt, offset << 2, true);
    this.#view.setUint32(pointerAt + 4, dataWords | (pointerWords << 16), true);
    return new StructBuilder(this, start, start + dataWords * WORD_BYTES);
  }

  list(pointerAt: number, start: number, elementKind: number, count: number): void {
    this.#view.setInt32(pointerAt, (((start - pointerAt) / WORD_BYTES - 1) << 2) | 1, true);
    this.#view.setUint32(pointerAt + 4, (count << 3) | elementKind, true);
  }

  /** Takes zeroed words at the end; returns their byte offset. Views taken before are stale afterwards. */
  allocate(words: number): number {
    const start = this.#end;
    const end = start + words * WORD_BYTES;
    if (end > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(end, 2 * this.#bytes.length));
      grown.set(this.#bytes);
      this.#bytes = grown;
      this.#view = new DataView(grown.buffer);
    }
    this.#end = end;
    return start;
  }

  /** Gives back words at the end that turned out not to be needed; they must still be zero. */
  shrink(end: number): void {
    this.#end = Math.ceil(end / WORD_BYTES) * WORD_BYTES;
  }

  /** The message with its framing header. */
  finish(): Uint8Array {
    this.#view.setUint32(4, (this.#end - HEADER_BYTES) / WORD_BYTES, true);
    return this.#bytes.subarray(0, this.#end);
  }
}

/** One struct being filled. Offsets as in StructReader. Empty texts and data stay null pointers, as Go leaves them. */
export class StructBuilder {
  readonly #message: MessageBuilder;
  readonly #dataStart: number;
  readonly #pointersStart: number;

  constructor(message: MessageBuilder, dataStart: number, pointersStart: number) {
    this.#message = message;
    this.#dataStart = dataStart;
    this.#pointersStart = pointersStart;
  }

  /** A field whose default (`fallback`) is true is stored inverted. */
  setBool(bit: number, value: boolean, fallback = false): void {
    if (value === fallback) return;
    const at = this.#dataStart + (bit >>> 3);
    this.#message.view.setUint8(at, this.#message.view.getUint8(at) | (1 << (bit & 7)));
  }

  setU8(byte: number, value: number): void {
    this.#message.view.setUint8(this.#dataStart + byte, value);
  }

  setU16(byte: number, value: number): void {
    this.#message.view.setUint16(this.#dataStart + byte, value, true);
  }

  setI32(byte: number, value: number): void {
    this.#message.view.setInt32(this.#dataStart + byte, value, true);
  }

  setU32(byte: number, value: number): void {
    this.#message.view.setUint32(this.#dataStart + byte, value, true);
  }

  setI64(byte: number, value: bigint): void {
    this.#message.view.setBigInt64(this.#dataStart + byte, value, true);
  }

  setU64(byte: number, value: bigint): void {
    this.#message.view.setBigUint64(this.#dataStart + byte, value, true);
  }

  /** UTF-8 text with its final NUL. */
  setText(index: number, text: string): void {
    if (text !== "") writeText(this.#message, this.#pointerAt(index), text);
  }

  /** Text given as a byte string: header fields. */
  setByteText(index: number, text: string): void {
    if (text === "") return;
    const message = this.#message;
    const start = message.allocate(wordsFor(text.length + 1));
    writeByteString(message.bytes, start, text);
    message.list(this.#pointerAt(index), start, LIST_OF_BYTES, text.length + 1);
  }

  setData(index: number, data: Uint8Array): void {
    if (data.length === 0) return;
    const start = this.#message.allocate(wordsFor(data.length));
    this.#message.bytes.set(data, start);
    this.#message.list(this.#pointerAt(index), start, LIST_OF_BYTES, data.length);
  }

  setCapability(index: number, capTableIndex: number): void {
    const at = this.#pointerAt(index);
    this.#message.view.setUint32(at, 3, true);
    this.#message.view.setUint32(at + 4, capTableIndex, true);
  }

  /** Creates the struct behind a pointer. */
  struct(index: number, dataWords: number, pointerWords: number): StructBuilder {
    return this.#message.struct(this.#pointerAt(index), dataWords, pointerWords);
  }

  /** Creates a list of `count` structs and has each filled in order. */
  setStructList(
    index: number,
    shape: { readonly dataWords: number; readonly pointerWords: number },
    count: number,
    write: (element: StructBuilder, i: number) => void,
  ): void {
    const message = this.#message;
    const elementWords = shape.dataWords + shape.pointerWords;
    const tagAt = message.allocate(1 + count * elementWords);
    message.list(this.#pointerAt(index), tagAt, LIST_OF_STRUCTS, count * elementWords);
    message.view.setUint32(tagAt, count << 2, true);
    message.view.setUint32(tagAt + 4, shape.dataWords | (shape.pointerWords << 16), true);
    for (let i = 0; i < count; i += 1) {
      const at = tagAt + WORD_BYTES + i * elementWords * WORD_BYTES;
      write(new StructBuilder(message, at, at + shape.dataWords * WORD_BYTES), i);
    }
  }

  setTextList(index: number, texts: readonly string[]): void {
    const start = this.#message.allocate(texts.length);
    this.#message.list(this.#pointerAt(index), start, LIST_OF_POINTERS, texts.length);
    texts.forEach((text, i) => {
      if (text !== "") writeText(this.#message, start + i * WORD_BYTES, text);
    });
  }

  #pointerAt(index: number): number {
    return this.#pointersStart + index * WORD_BYTES;
  }
}

function writeText(message: MessageBuilder, pointerAt: number, text: string): void {
  // Encoded in place: room for the worst case, then the surplus is given back.
  const start = message.allocate(wordsFor(text.length * MAX_UTF8_BYTES_PER_CHAR + 1));
  const { written } = encoder.encodeInto(text, message.bytes.subarray(start));
  message.shrink(start + written + 1);
  message.list(pointerAt, start, LIST_OF_BYTES, written + 1);
}

function wordsFor(byteCount: number): number {
  return Math.ceil(byteCount / WORD_BYTES);
}

/**
 * Writes one byte per char. A char above U+00FF has no byte and becomes `?`: cutting it to eight bits could forge a
 * line break or a separator.
 */
function writeByteString(bytes: Uint8Array, start: number, text: string): void {
  for (let i = 0; i < text.length; i += 1) {
    const code = text.charCodeAt(i);
    bytes[start + i] = code > 0xff ? QUESTION_MARK : code;
  }
}
