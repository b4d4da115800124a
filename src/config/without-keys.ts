import { isMap, isNode, isScalar, parseDocument } from "yaml";

/**
 * A config file's text without these keys of its top level, and everything else as it was written, comments too. A key
 * that cannot be cut out so, as of a map in braces, stays: the result has to be read again.
 */
export function withoutKeys(text: string, keys: ReadonlySet<string>): string {
  // Of the same length: a line may end in CR alone (YAML 1.2.2 section 5.4), which the library does not know.
  const source = text.replace(/\r(?!\n)/g, "\n");
  const top = parseDocument(source, { resolveKnownTags: false, logLevel: "error" }).contents;
  if (!isMap(top) || top.flow === true) return text;
  let left = text;
  for (const { key, value } of top.items.toReversed()) {
    if (!isScalar(key) || !keys.has(`${key.value}`)) continue;
    const start = key.range?.[0] ?? 0;
    const end = (isNode(value) ? value.range?.[1] : undefined) ?? key.range?.[1] ?? start;
    const newline = source.indexOf("\n", end);
    // A text of several lines ends behind its last one.
    const to = source[end - 1] === "\n" ? end : newline < 0 ? source.length : newline + 1;
    left = left.slice(0, start) + left.slice(to);
  }
  return left;
}
