const NOT_A_BYTE = /[^\0-\xff]/g;
const STANDARD_ALPHABET = /^[A-Za-z0-9+/]*={0,2}$/;

/**
 * Base64 of a byte string, standard alphabet, without padding. A char above U+00FF has no byte and becomes `?`, so
 * that one odd header cannot make `btoa` throw on the data path.
 */
export function encodeByteString(text: string): string {
  const padded = btoaAny(text);
  const end = padded.indexOf("=");
  return end === -1 ? padded : padded.slice(0, end);
}

/** The byte string behind standard base64 with or without padding; undefined when it is not base64. */
export function decodeByteString(base64: string): string | undefined {
  if (!STANDARD_ALPHABET.test(base64)) return undefined;
  try {
    return atob(base64);
  } catch {
    return undefined;
  }
}

/** Standard base64 with padding. */
export function encodeBytes(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}

/** As {@link decodeByteString}, into bytes. */
export function decodeBytes(base64: string): Uint8Array | undefined {
  const text = decodeByteString(base64);
  return text === undefined ? undefined : Uint8Array.from(text, (char) => char.charCodeAt(0));
}

function btoaAny(text: string): string {
  try {
    return btoa(text);
  } catch {
    return btoa(text.replace(NOT_A_BYTE, "?"));
  }
}
