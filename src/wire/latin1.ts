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

/** Writes a byte string at `offset` and returns the offset behind it. Chars above U+00FF lose their upper bits. */
export function writeLatin1(text: string, target: Uint8Array, offset: number): number {
  for (let i = 0; i < text.length; i++) target[offset + i] = text.charCodeAt(i);
  return offset + text.length;
}
