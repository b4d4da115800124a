/**
 * Header fields as they stood on the wire: a flat list `[name, value, name, value, …]`, order, case and
 * repetition kept. Strings are byte strings (one char per byte, U+0000 to U+00FF), never decoded UTF-8.
 */
export type RawHeaders = readonly string[];

/** The first value of `name` (given in lower case), or undefined. Names compare without regard to case. */
export function headerValue(headers: RawHeaders, name: string): string | undefined {
  for (let i = 0; i + 1 < headers.length; i += 2) {
    const candidate = headers[i] as string;
    if (candidate.length === name.length && (candidate === name || candidate.toLowerCase() === name)) {
      return headers[i + 1] as string;
    }
  }
  return undefined;
}

/** Every value of `name` (given in lower case), in order. */
export function headerValues(headers: RawHeaders, name: string): string[] {
  const values: string[] = [];
  for (let i = 0; i + 1 < headers.length; i += 2) {
    if ((headers[i] as string).toLowerCase() === name) values.push(headers[i + 1] as string);
  }
  return values;
}
