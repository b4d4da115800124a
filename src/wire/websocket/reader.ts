import { CLOSE, isSendableCloseCode, MASK_BYTES, MAX_CONTROL_BYTES, maskInto, OPCODE } from "./frame.ts";

/** What a reader finds, in order. Nothing follows `onClose` or `onMalformed`. */
export interface WebSocketHandler {
  /** Bytes of a message, in any portions: never the whole message is held. `text`: of a text message, UTF-8 unchecked. */
  onData(bytes: Uint8Array, text: boolean): void;
  onMessageEnd(text: boolean): void;
  onPing(payload: Uint8Array): void;
  onPong(payload: Uint8Array): void;
  /** `code` is 1005 when the peer gave none. */
  onClose(code: number, reason: string): void;
  /** The bytes break RFC 6455; `code` is what to close with. */
  onMalformed(reason: string, code: number): void;
}

/** The longest frame head: two bytes, length, mask. */
const MAX_HEAD_BYTES = 14;
const NO_BYTES = new Uint8Array(0);
const utf8 = new TextDecoder("utf-8", { fatal: true });

/**
 * Takes the frames of one direction apart (RFC 6455 section 5). Payloads pass as they come and may be of any length;
 * what is held is at most a frame head and a control frame. Without extensions: reserved bits are malformed.
 */
export class WebSocketReader {
  readonly #masked: boolean;
  #done = false;
  readonly #head = new Uint8Array(MAX_HEAD_BYTES);
  #headBytes = 0;
  #mask: Uint8Array | undefined;
  #opcode = 0;
  #final = false;
  /** Payload of the present frame that has not come yet; undefined = its head has not come yet. */
  #left: number | undefined;
  #offset = 0;
  /** The message under way, between its first frame and its last. */
  #message: "none" | "text" | "binary" = "none";
  #control: Uint8Array = NO_BYTES;

  /** @param options.masked whether frames must be masked: true for a server's reader, false for a client's */
  constructor(options: { masked: boolean }) {
    this.#masked = options.masked;
  }

  /** True after a close frame or malformed bytes: whatever follows is ignored. */
  get done(): boolean {
    return this.#done;
  }

  /** True when nothing of a frame or message is awaited. */
  get atBoundary(): boolean {
    return this.#headBytes === 0 && this.#left === undefined && this.#message === "none";
  }

  /** Payloads that were not masked are passed on as views of `chunk`. */
  receive(chunk: Uint8Array, handler: WebSocketHandler): void {
    let at = 0;
    // A frame without payload is complete with its head, at the end of a chunk too.
    while (!this.#done && (at < chunk.length || this.#left === 0)) {
      at = this.#left === undefined ? this.#readHead(chunk, at, handler) : this.#readPayload(chunk, at, handler);
    }
  }

  #readHead(chunk: Uint8Array, at: number, handler: WebSocketHandler): number {
    const head = this.#head;
    while (at < chunk.length) {
      head[this.#headBytes++] = chunk[at++] as number;
      if (this.#headBytes < 2) continue;
      if (this.#headBytes === 2) {
        const problem = this.#checkStart(head[0] as number, head[1] as number);
        if (problem !== undefined) return this.#fail(problem, handler, chunk);
      }
      if (this.#headBytes < headLength(head[1] as number)) continue;
      const problem = this.#startFrame();
      if (problem !== undefined) return this.#fail(problem, handler, chunk);
      return at;
    }
    return at;
  }

  #checkStart(first: number, second: number): string | undefined {
    if ((first & 0x70) !== 0) return "reserved bits are set";
    const opcode = first & 0x0f;
    const final = (first & 0x80) !== 0;
    if (((second & 0x80) !== 0) !== this.#masked) return this.#masked ? "a frame is not masked" : "a frame is masked";
    if (opcode >= OPCODE.close) {
      if (opcode > OPCODE.pong) return `unknown opcode ${opcode}`;
      if (!final) return "a control frame is fragmented";
      return (second & 0x7f) > MAX_CONTROL_BYTES ? "a control frame is too long" : undefined;
    }
    if (opcode > OPCODE.binary) return `unknown opcode ${opcode}`;
    if (opcode === OPCODE.continuation) {
      return this.#message === "none" ? "a continuation without a message" : undefined;
    }
    return this.#message === "none" ? undefined : "a message begins within another";
  }

  #startFrame(): string | undefined {
    const head = this.#head;
    const short = (head[1] as number) & 0x7f;
    let length = short;
    let at = 2;
    if (short === 126) {
      length = ((head[2] as number) << 8) | (head[3] as number);
      at = 4;
      if (length < 126) return "a length is not in its shortest form";
    } else if (short === 127) {
      const view = new DataView(head.buffer);
      const high = view.getUint32(2);
      length = high * 0x1_0000_0000 + view.getUint32(6);
      at = 10;
      if (high > 0x1f_ffff) return "a frame is too long";
      if (length < 0x1_0000) return "a length is not in its shortest form";
    }
    this.#mask = this.#masked ? head.slice(at, at + MASK_BYTES) : undefined;
    this.#opcode = (head[0] as number) & 0x0f;
    this.#final = ((head[0] as number) & 0x80) !== 0;
    this.#left = length;
    this.#offset = 0;
    this.#headBytes = 0;
    if (this.#opcode === OPCODE.text) this.#message = "text";
    else if (this.#opcode === OPCODE.binary) this.#message = "binary";
    return undefined;
  }

  #readPayload(chunk: Uint8Array, at: number, handler: WebSocketHandler): number {
    const left = this.#left as number;
    const end = Math.min(chunk.length, at + left);
    const bytes = this.#unmask(chunk.subarray(at, end));
    this.#left = left - (end - at);
    this.#offset = (this.#offset + end - at) & 3;
    const text = this.#message === "text";
    if (this.#opcode >= OPCODE.close) {
      this.#control = this.#control.length === 0 && this.#left === 0 ? bytes : join(this.#control, bytes);
    } else if (bytes.length > 0) handler.onData(bytes, text);
    if (this.#left > 0) return end;
    this.#left = undefined;
    if (this.#opcode >= OPCODE.close) this.#endControl(handler);
    else if (this.#final) {
      this.#message = "none";
      handler.onMessageEnd(text);
    }
    return end;
  }

  #unmask(bytes: Uint8Array): Uint8Array {
    if (this.#mask === undefined || bytes.length === 0) return bytes;
    const clear = new Uint8Array(bytes.length);
    maskInto(clear, 0, bytes, this.#mask, this.#offset);
    return clear;
  }

  #endControl(handler: WebSocketHandler): void {
    const payload = this.#control;
    this.#control = NO_BYTES;
    if (this.#opcode === OPCODE.ping) handler.onPing(payload);
    else if (this.#opcode === OPCODE.pong) handler.onPong(payload);
    else this.#close(payload, handler);
  }

  #close(payload: Uint8Array, handler: WebSocketHandler): void {
    if (payload.length === 0) {
      this.#done = true;
      handler.onClose(CLOSE.noStatus, "");
      return;
    }
    const code = ((payload[0] as number) << 8) | (payload[1] ?? 0);
    const reason = payload.length === 1 ? undefined : decodeUtf8(payload.subarray(2));
    if (payload.length === 1) this.#fail("a close frame has half a code", handler, payload);
    else if (!isSendableCloseCode(code)) this.#fail(`close code ${code}`, handler, payload);
    else if (reason === undefined) {
      this.#fail("the reason of a close is not UTF-8", handler, payload, CLOSE.invalidPayload);
    } else {
      this.#done = true;
      handler.onClose(code, reason);
    }
  }

  #fail(reason: string, handler: WebSocketHandler, chunk: Uint8Array, code: number = CLOSE.protocolError): number {
    this.#done = true;
    handler.onMalformed(reason, code);
    return chunk.length;
  }
}

/** Bytes of the head that begins with these two. */
function headLength(second: number): number {
  const short = second & 0x7f;
  return 2 + (short === 126 ? 2 : short === 127 ? 8 : 0) + ((second & 0x80) === 0 ? 0 : MASK_BYTES);
}

function decodeUtf8(bytes: Uint8Array): string | undefined {
  try {
    return utf8.decode(bytes);
  } catch {
    return undefined;
  }
}

function join(first: Uint8Array, second: Uint8Array): Uint8Array {
  const joined = new Uint8Array(first.length + second.length);
  joined.set(first);
  joined.set(second, first.length);
  return joined;
}
