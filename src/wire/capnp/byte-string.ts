// Byte strings (one char per byte, U+0000 to U+00FF) are how header fields travel through this program.
// TextDecoder("latin1") is no help: the Encoding Standard makes it windows-1252, which changes 0x80 to 0x9F.

/** Arguments one `fromCharCode` call takes without risk to the stack. */
const CHUNK_BYTES = 4096;

const QUESTION_MARK = 0x3f;

/** One char per byte of `bytes[start, end)`. */
export function readByteString(bytes: Uint8Array, start: number, end: number): string {
  if (end - start <= CHUNK_BYTES) return String.fromCharCode.apply(null, charCodes(bytes, start, end));
  let text = "";
  for (let at = start; at < end; at += CHUNK_BYTES) {
    text += String.fromCharCode.apply(null, charCodes(bytes, at, Math.min(end, at + CHUNK_BYTES)));
  }
  return text;
}

/**
 * Writes one byte per char. A char above U+00FF has no byte and becomes `?`: cutting it to eight bits could forge a
 * line break or a separator.
 */
export function writeByteString(bytes: Uint8Array, start: number, text: string): void {
  for (let i = 0; i < text.length; i += 1) {
    const code = text.charCodeAt(i);
    bytes[start + i] = code > 0xff ? QUESTION_MARK : code;
  }
}

function charCodes(bytes: Uint8Array, start: number, end: number): number[] {
  // `apply` takes any array-like; its type wants an array.
  return bytes.subarray(start, end) as unknown as number[];
}
