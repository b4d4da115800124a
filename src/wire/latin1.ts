/** In one call of the runtime; building short texts char by char leaves as many ropes, which whoever reads them has to resolve. */
const slice = (Buffer.prototype as unknown as { latin1Slice(this: Uint8Array, start: number, end: number): string })
  .latin1Slice;

/** Bytes to a byte string, one char per byte. (The `latin1` label of TextDecoder means windows-1252, which is not that.) */
export function decodeLatin1(bytes: Uint8Array, start: number, end: number): string {
  return start < end ? slice.call(bytes, start, end) : "";
}

const QUESTION_MARK = 0x3f;

/**
 * Writes a byte string at `offset` and returns the offset behind it. A char above U+00FF, which is no byte, becomes
 * `?`: cut to eight bits it could turn into a line break.
 */
export function writeLatin1(text: string, target: Uint8Array, offset: number): number {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    target[offset + i] = code > 0xff ? QUESTION_MARK : code;
  }
  return offset + text.length;
}
