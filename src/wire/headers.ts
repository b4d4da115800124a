/**
 * Header fields as they stood on the wire: a flat list `[name, value, name, value, …]`, order, case and
 * repetition kept. Strings are byte strings (one char per byte, U+0000 to U+00FF), never decoded UTF-8.
 */
export type RawHeaders = readonly string[];

/** The first value of `name` (given in lower case), or undefined. Names compare without regard to case. */
export function headerValue(headers: RawHeaders, name: string): string | undefined {
  for (let i = 0; i + 1 < headers.length; i += 2) {
    if (isSpelling(headers[i] as string, name)) return headers[i + 1] as string;
  }
  return undefined;
}

/** Without a copy in lower case: most names differ in length or in their first letter. */
function isSpelling(candidate: string, name: string): boolean {
  const { length } = name;
  if (candidate.length !== length) return false;
  for (let i = 0; i < length; i += 1) {
    const code = candidate.charCodeAt(i);
    const lower = code >= 0x41 && code <= 0x5a ? code + 0x20 : code;
    if (lower !== name.charCodeAt(i)) return false;
  }
  return true;
}

/** Every value of `name` (given in lower case), in order. */
export function headerValues(headers: RawHeaders, name: string): string[] {
  const values: string[] = [];
  for (let i = 0; i + 1 < headers.length; i += 2) {
    if (isSpelling(headers[i] as string, name)) values.push(headers[i + 1] as string);
  }
  return values;
}
