import { isSendableCloseCode, MASK_BYTES, MAX_CONTROL_BYTES, maskInto, OPCODE, type Opcode } from "./frame.ts";

export interface FrameOptions {
  /** Four unpredictable bytes, fresh for each frame: clients must mask, servers must not (RFC 6455 section 5.1). */
  readonly mask?: Uint8Array | undefined;
  /** False when more frames of the message follow. @default true */
  readonly fin?: boolean;
}

/** One frame, head and payload in a new buffer. Control frames take at most 125 bytes; longer ones are cut. */
export function encodeFrame(opcode: Opcode, payload: Uint8Array, options: FrameOptions = {}): Uint8Array {
  const control = opcode >= OPCODE.close;
  const bytes = control && payload.length > MAX_CONTROL_BYTES ? payload.subarray(0, MAX_CONTROL_BYTES) : payload;
  const frame = new Uint8Array(headBytes(bytes.length, options.mask !== undefined) + bytes.length);
  writeFrame(frame, 0, opcode, bytes, { ...options, fin: control || options.fin !== false });
  return frame;
}

/**
 * Bytes as binary messages of at most `maxBytes`, all in one buffer. `nextMask` gives the mask of each; undefined for
 * servers.
 */
export function encodeMessages(
  bytes: Uint8Array,
  maxBytes: number,
  nextMask: (() => Uint8Array) | undefined,
): Uint8Array {
  if (bytes.length <= maxBytes) return encodeFrame(OPCODE.binary, bytes, { mask: nextMask?.() });
  const whole = Math.floor(bytes.length / maxBytes);
  const rest = bytes.length - whole * maxBytes;
  const masked = nextMask !== undefined;
  const heads = whole * headBytes(maxBytes, masked) + (rest > 0 ? headBytes(rest, masked) : 0);
  const frames = new Uint8Array(heads + bytes.length);
  let to = 0;
  for (let from = 0; from < bytes.length; from += maxBytes) {
    to = writeFrame(frames, to, OPCODE.binary, bytes.subarray(from, from + maxBytes), { mask: nextMask?.() });
  }
  return frames;
}

/** A close frame; a code that may not be sent (1005, 1006) is left out. The reason is cut to 123 bytes. */
export function encodeClose(code: number, reason = "", mask?: Uint8Array): Uint8Array {
  if (!isSendableCloseCode(code)) return encodeFrame(OPCODE.close, new Uint8Array(0), { mask });
  const payload = new Uint8Array(MAX_CONTROL_BYTES);
  payload[0] = code >> 8;
  payload[1] = code & 0xff;
  // Never cuts a character in two.
  const { written } = new TextEncoder().encodeInto(reason, payload.subarray(2));
  return encodeFrame(OPCODE.close, payload.subarray(0, 2 + written), { mask });
}

function headBytes(length: number, masked: boolean): number {
  return 2 + (length < 126 ? 0 : length < 0x1_0000 ? 2 : 8) + (masked ? MASK_BYTES : 0);
}

/** Writes a frame at `at`; gives the place behind it. */
function writeFrame(to: Uint8Array, at: number, opcode: Opcode, payload: Uint8Array, options: FrameOptions): number {
  const { length } = payload;
  const mask = options.mask;
  to[at++] = opcode | (options.fin === false ? 0 : 0x80);
  const maskBit = mask === undefined ? 0 : 0x80;
  if (length < 126) to[at++] = maskBit | length;
  else {
    const view = new DataView(to.buffer, to.byteOffset);
    to[at++] = maskBit | (length < 0x1_0000 ? 126 : 127);
    if (length < 0x1_0000) {
      view.setUint16(at, length);
      at += 2;
    } else {
      view.setUint32(at, Math.floor(length / 0x1_0000_0000));
      view.setUint32(at + 4, length >>> 0);
      at += 8;
    }
  }
  if (mask === undefined) to.set(payload, at);
  else {
    to.set(mask, at);
    at += MASK_BYTES;
    maskInto(to, at, payload, mask);
  }
  return at + length;
}
