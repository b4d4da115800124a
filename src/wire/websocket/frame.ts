/** Frame types (RFC 6455 section 5.2). */
export const OPCODE = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const;
export type Opcode = (typeof OPCODE)[keyof typeof OPCODE];

/** Why a connection closes (RFC 6455 section 7.4.1). */
export const CLOSE = {
  normal: 1000,
  goingAway: 1001,
  protocolError: 1002,
  unsupported: 1003,
  /** Never sent: what a close frame without a code means. */
  noStatus: 1005,
  invalidPayload: 1007,
  internalError: 1011,
} as const;

/** Bytes a control frame may carry (RFC 6455 section 5.5). */
export const MAX_CONTROL_BYTES = 125;
export const MASK_BYTES = 4;

/** True for codes that may stand in a close frame. */
export function isSendableCloseCode(code: number): boolean {
  return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999);
}

/**
 * Writes `from` XOR the mask to `to` at `at`; `offset` is the place of the first byte within its frame (RFC 6455
 * section 5.3).
 */
export function maskInto(to: Uint8Array, at: number, from: Uint8Array, mask: Uint8Array, offset = 0): void {
  const m0 = mask[offset & 3] as number;
  const m1 = mask[(offset + 1) & 3] as number;
  const m2 = mask[(offset + 2) & 3] as number;
  const m3 = mask[(offset + 3) & 3] as number;
  to.set(from, at);
  // Whole words, where the platform can see them: four times as fast as bytes.
  const lead = Math.min(from.length, (4 - ((to.byteOffset + at) & 3)) & 3);
  const masks = [m0, m1, m2, m3];
  for (let i = 0; i < lead; i++) to[at + i] = (to[at + i] as number) ^ (masks[i] as number);
  const words = (from.length - lead) >> 2;
  if (words > 0) {
    const turned = Uint8Array.of(...masks.slice(lead), ...masks.slice(0, lead));
    const word = new Uint32Array(turned.buffer)[0] as number;
    const view = new Uint32Array(to.buffer, to.byteOffset + at + lead, words);
    for (let i = 0; i < words; i++) view[i] = (view[i] as number) ^ word;
  }
  for (let i = lead + words * 4; i < from.length; i++) to[at + i] = (to[at + i] as number) ^ (masks[i & 3] as number);
}
