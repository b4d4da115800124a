/** Beyond ASCII and our own `…`: most texts hold none of it, and one look tells. */
const UNUSUAL = /[^\x20-\x7e\u2026]/;
/**
 * What steers a terminal or changes how the text around it is read: controls, C1 among them, which are as good as
 * an escape to many terminals; formatting, such as the overrides of writing direction; and separators of lines.
 */
const STEERING = /[\p{Cc}\p{Cf}\u2028\u2029]/gu;
const HIGH_BYTE = /[\x7f-\xff]/;
const HIGH_BYTES = /[\x7f-\xff]/g;

/**
 * The text with what could steer a terminal as `\uXXXX`. Others wrote it: it must not look like two lines, nor like
 * something else. A JSON text stays the same JSON: it holds none of that outside of its strings.
 */
export function printable(text: string): string {
  return UNUSUAL.test(text) ? text.replace(STEERING, escaped) : text;
}

/** Target of a request, one char per byte as it came: bytes that are not ASCII the way a browser writes them, `%C3%A9`. */
export function percentEncoded(target: string): string {
  return HIGH_BYTE.test(target) ? target.replace(HIGH_BYTES, (byte) => `%${hex(byte.charCodeAt(0), 2)}`) : target;
}

/** Of a character in two code units, both. */
function escaped(char: string): string {
  let text = "";
  for (let i = 0; i < char.length; i += 1) text += `\\u${hex(char.charCodeAt(i), 4).toLowerCase()}`;
  return text;
}

function hex(code: number, digits: number): string {
  return code.toString(16).toUpperCase().padStart(digits, "0");
}
