const ascii = new TextDecoder();
const SHORT_BYTES = 24;

/** Bytes to a byte string, one char per byte. (The `latin1` label of TextDecoder means windows-1252, which is not that.) */
export function decodeLatin1(bytes: Uint8Array, start: number, end: number): string {
  let i = start;
  if (end - start > SHORT_BYTES) {
    while (i < end && (bytes[i] as number) < 0x80) i++;
    if (i === end) return ascii.decode(bytes.subarray(start, end));
  }
  let text = "";
  for (i = start; i < end; i++) text += String.fromCharCode(bytes[i] as number);
  return text;
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
