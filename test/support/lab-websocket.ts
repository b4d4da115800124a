import { createHash, randomBytes } from "node:crypto";
import type { LabSocket } from "./lab-socket.ts";

export const OPCODE = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const;

const ACCEPT_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/** Answer to a Sec-WebSocket-Key (RFC 6455 section 4.2.2). */
export function acceptKey(key: string): string {
  return createHash("sha1")
    .update(key + ACCEPT_GUID)
    .digest("base64");
}

export interface Frame {
  readonly final: boolean;
  readonly opcode: number;
  readonly payload: Buffer;
}

/** Frames of RFC 6455 over a socket whose handshake is done; fragments are left as they come, so that tests see them. */
export class LabWebSocket implements AsyncDisposable {
  readonly socket: LabSocket;
  /** Clients mask what they send, servers do not. */
  readonly #masks: boolean;

  constructor(socket: LabSocket, role: "client" | "server") {
    this.socket = socket;
    this.#masks = role === "client";
  }

  async sendText(text: string): Promise<void> {
    await this.send(OPCODE.text, Buffer.from(text));
  }

  async sendClose(code: number, reason = ""): Promise<void> {
    const payload = Buffer.alloc(2 + Buffer.byteLength(reason));
    payload.writeUInt16BE(code);
    payload.write(reason, 2);
    await this.send(OPCODE.close, payload);
  }

  async send(opcode: number, payload: Uint8Array, final = true): Promise<void> {
    await this.socket.write(this.#encode(opcode, payload, final));
  }

  /** The next frame; undefined when the peer finished. */
  async receive(): Promise<Frame | undefined> {
    const first = await this.socket.readSome(1);
    if (first === undefined) return undefined;
    const second = (await this.socket.readExactly(1))[0] ?? 0;
    let length = second & 0x7f;
    if (length === 126) length = (await this.socket.readExactly(2)).readUInt16BE();
    else if (length === 127) length = Number((await this.socket.readExactly(8)).readBigUInt64BE());
    const mask = second & 0x80 ? Buffer.from(await this.socket.readExactly(4)) : undefined;
    const payload = Buffer.from(await this.socket.readExactly(length));
    if (mask !== undefined) applyMask(payload, mask);
    return { final: ((first[0] ?? 0) & 0x80) !== 0, opcode: (first[0] ?? 0) & 0x0f, payload };
  }

  #encode(opcode: number, payload: Uint8Array, final: boolean): Buffer {
    const lengthBytes = payload.length < 126 ? 0 : payload.length < 65_536 ? 2 : 8;
    const maskAt = 2 + lengthBytes;
    const frame = Buffer.alloc(maskAt + (this.#masks ? 4 : 0) + payload.length);
    frame[0] = (final ? 0x80 : 0) | opcode;
    frame[1] = (this.#masks ? 0x80 : 0) | (lengthBytes === 0 ? payload.length : lengthBytes === 2 ? 126 : 127);
    if (lengthBytes === 2) frame.writeUInt16BE(payload.length, 2);
    if (lengthBytes === 8) frame.writeBigUInt64BE(BigInt(payload.length), 2);
    const body = frame.subarray(frame.length - payload.length);
    body.set(payload);
    if (this.#masks) {
      const mask = randomBytes(4);
      frame.set(mask, maskAt);
      applyMask(body, mask);
    }
    return frame;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.socket[Symbol.asyncDispose]();
  }
}

/** Code and reason of a close frame. */
export function closeOf(frame: Frame | undefined): { code: number; reason: string } | undefined {
  if (frame?.opcode !== OPCODE.close || frame.payload.length < 2) return undefined;
  return { code: frame.payload.readUInt16BE(), reason: frame.payload.subarray(2).toString() };
}

function applyMask(bytes: Buffer, mask: Buffer): void {
  for (let at = 0; at < bytes.length; at += 1) bytes[at] = (bytes[at] ?? 0) ^ (mask[at & 3] ?? 0);
}
