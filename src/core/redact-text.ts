import { HIDDEN, isSecretMember, isSecretName } from "./secret-names.ts";

/*
 * Every pattern here either begins where a word begins, or ends before another match can begin: on text from a stranger
 * each takes time in proportion to its length.
 */

/** A member of JSON up to its value; quotes are escaped as often as it is text within JSON. Python's have single ones. */
const MEMBER = /(?<!\\)(\\{0,7})(?:"([^"\\]{1,200})\1"|'([^'\\]{1,200})\1')\s{0,100}:\s{0,100}/g;
/** A member of JSON that names what is in another, ahead of it in the same object and not far; up to the value of that. */
const NAMED =
  /(?<!\\)(\\{0,7})(["'])(?:name|key|id|field|type)\1\2\s{0,8}:\s{0,8}\1\2([^"'\\]{1,200})\1\2(?=(\s{0,8},[^{}]{0,200}?\1\2value\1\2\s{0,8}:\s{0,8}))/gi;
/** A name and a quoted value: attributes of XML, arguments of GraphQL, objects of scripts. */
const ARGUMENT = /(?<![\w.-])([\w.-]{1,200})\s{0,8}[:=]\s{0,8}(?<!\\)(?=(\\{0,7})["'`])/g;
/** `name=value`, as in forms and settings. */
const ASSIGNED = /(?<![\w.%[\]-])([\w.%[\]-]{1,200})=(?!\\)[^\s&"'`<>]+/g;
/** A line `name: value`, as in headers and YAML; an object that begins there is not its value. */
const LINE = /^([ \t>-]{0,40}\w[\w.-]{0,199}):([ \t]{1,8})([^\s"'`{[][^\r\n]*)/gm;
/** An element of XML up to its text. */
const ELEMENT = /<([\w:.-]{1,200})(?:\s[^<>]*)?>\s*(?=[^<\s]|<!\[CDATA\[)/g;
/** A tag with attributes; which of them is said to be a secret, as with fields of forms, and their values. */
const TAG = /<[a-z][^<>\s]{0,200}\s[^<>]*>/gi;
const TAG_NAME = /\s(?:name|id|key|type)\s?=\s?["']?([^\s"'>]{1,200})/gi;
const TAG_VALUE = /(\s(?:value|content)\s?=\s?)(?:"[^"]*"|'[^']*'|[^\s"'>]+)/gi;

/** Text that may have JSON, XML, GraphQL, settings or header lines in it: hides the values that have a telling name. */
export function redactText(text: string): string {
  // Most of what a body has in it are short words.
  if (!/[:=>]/.test(text)) return text;
  const named = hideEach(text, NAMED, (found) => {
    return { ...member(text, found, found[3], found[2]), ahead: found[4]?.length ?? 0 };
  });
  const members = hideEach(named, MEMBER, (found) => {
    return member(named, found, found[2] ?? found[3], found[2] === undefined ? "'" : '"');
  });
  const elements = hideEach(members, ELEMENT, (found) => ({
    secret: isSecretName(found[1] ?? ""),
    end: (from) => elementEnd(members, from),
    shown: HIDDEN,
  }));
  return hideEach(elements, ARGUMENT, (found) => {
    const slashes = found[2] ?? "";
    return {
      secret: isSecretName(found[1] ?? ""),
      end: (from) => stringEnd(elements, from + slashes.length, slashes.length),
      shown: `${slashes}"${HIDDEN}${slashes}"`,
    };
  })
    .replace(TAG, redactTag)
    .replace(ASSIGNED, (all, name: string) => (isSecretName(name) ? `${name}=${HIDDEN}` : all))
    .replace(LINE, (all, name: string, space: string) => (isSecretName(name) ? `${name}:${space}${HIDDEN}` : all));
}

/** A member of JSON whose quotes have the escapes that were found first. */
function member(text: string, [, escapes = ""]: RegExpExecArray, name = "", quote = '"'): Named {
  return {
    secret: isSecretMember(name),
    end: (from) => valueEnd(text, from, escapes.length, quote),
    shown: `${escapes}${quote}${HIDDEN}${escapes}${quote}`,
  };
}

/** `<input name="csrf_token" value="…">`. */
function redactTag(tag: string): string {
  const names = [...tag.matchAll(TAG_NAME)].map(([, name = ""]) => name);
  return names.some(isSecretName) ? tag.replace(TAG_VALUE, `$1"${HIDDEN}"`) : tag;
}

interface Named {
  readonly secret: boolean;
  /** Chars from the end of the match to the value. @default 0 */
  readonly ahead?: number;
  /** Where the value ends that begins there. */
  readonly end: (from: number) => number;
  /** What takes the place of the value. */
  readonly shown: string;
}

/** Replaces the values behind matches with a telling name. `pattern` is global, and matches up to the value or `ahead` of it. */
function hideEach(text: string, pattern: RegExp, judge: (found: RegExpExecArray) => Named): string {
  let shown = "";
  let from = 0;
  pattern.lastIndex = 0;
  for (let found = pattern.exec(text); found !== null; found = pattern.exec(text)) {
    const named = judge(found);
    if (!named.secret) continue;
    const value = pattern.lastIndex + (named.ahead ?? 0);
    shown += text.slice(from, value) + named.shown;
    from = Math.max(value, named.end(value));
    pattern.lastIndex = from;
  }
  return shown + text.slice(from);
}

/**
 * Where the JSON value ends that begins here; the end of the text when it does not. `escapes`: backslashes before each
 * of its quotes. A quote with fewer ends the string that all of it is in. `quote`: that of its name; a single one elsewhere
 * is an apostrophe, unless the value begins with it.
 */
function valueEnd(text: string, from: number, escapes: number, quote: string): number {
  let depth = 0;
  if (quote === '"' && text[from] === "'") return stringEnd(text, from, 0);
  for (let i = from; i < text.length; i += 1) {
    const char = text[i];
    if (char === '"' || char === quote) {
      const before = backslashes(text, i);
      if (before < escapes) return i - before;
      if (before > escapes) continue;
      const end = stringEnd(text, i, escapes);
      if (depth === 0) return end;
      i = end - 1;
    } else if (char === "{" || char === "[") depth += 1;
    else if (char === "}" || char === "]") {
      depth -= 1;
      if (depth <= 0) return depth < 0 ? i : i + 1;
    } else if (depth === 0 && (char === "," || char === "\n")) return i;
  }
  return text.length;
}

/** Where the string ends whose first quote is here. Within JSON as text within JSON, quotes of its own have more escapes. */
function stringEnd(text: string, at: number, escapes: number): number {
  const quote = text[at] as string;
  for (let i = text.indexOf(quote, at + 1); i >= 0; i = text.indexOf(quote, i + 1)) {
    const before = Math.min(backslashes(text, i), i - at - 1);
    if (before < escapes) return i - before;
    // Each pair of what is escaped once more is a backslash of the value.
    if (before % (2 * (escapes + 1)) === escapes) return i + 1;
  }
  return text.length;
}

function backslashes(text: string, before: number): number {
  let from = before;
  while (text[from - 1] === "\\") from -= 1;
  return before - from;
}

function elementEnd(text: string, from: number): number {
  const cdata = text.startsWith("<![CDATA[", from);
  const end = text.indexOf(cdata ? "]]>" : "<", from);
  if (end < 0) return text.length;
  return cdata ? end + "]]>".length : end;
}
