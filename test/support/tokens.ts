/**
 * Cuts TypeScript source into the tokens that the architecture test reads: names, punctuation and string values.
 * Comments, numbers, regular expressions and the text of templates are dropped, so that nothing in them can look like
 * code; expressions inside templates are kept. Bun's own scanner would lose type imports.
 */
export interface Token {
  readonly kind: "name" | "string" | "punctuation";
  readonly text: string;
  readonly line: number;
}

const NAME_START = /[A-Za-z_$#]/;
const NAME = /[\w$#]*/y;
const NUMBER = /[\w.]*/y;
/** After these a slash starts a regular expression instead of a division. */
const BEFORE_REGEX = new Set([
  "return",
  "typeof",
  "case",
  "in",
  "of",
  "do",
  "else",
  "void",
  "delete",
  "throw",
  "await",
]);

export function tokenize(source: string): Token[] {
  const tokens: Token[] = [];
  /** One entry per open template: how many braces are open inside its current expression. */
  const templates: number[] = [];
  let at = 0;
  let line = 1;

  const add = (kind: Token["kind"], text: string): void => {
    tokens.push({ kind, text, line });
  };
  const take = (pattern: RegExp): string => {
    pattern.lastIndex = at;
    const text = pattern.exec(source)?.[0] ?? "";
    at += text.length;
    return text;
  };
  const skipTo = (end: number): void => {
    for (const until = end < 0 ? source.length : end; at < until; at += 1) if (source[at] === "\n") line += 1;
  };
  const quoted = (quote: string): string => {
    const start = at + 1;
    for (at = start; at < source.length && source[at] !== quote; at += 1) if (source[at] === "\\") at += 1;
    at += 1;
    return source.slice(start, at - 1);
  };
  /** Runs to the end of the template, or to the `${` of its next expression. */
  const templateText = (): void => {
    for (; at < source.length; at += 1) {
      if (source[at] === "\n") line += 1;
      else if (source[at] === "\\") at += 1;
      else if (source[at] === "`") {
        at += 1;
        templates.pop();
        return;
      } else if (source.startsWith("${", at)) {
        at += 2;
        return;
      }
    }
  };
  const regexAllowed = (): boolean => {
    const last = tokens.at(-1);
    if (last === undefined) return true;
    if (last.kind === "name") return BEFORE_REGEX.has(last.text);
    return last.kind === "punctuation" && !")]}".includes(last.text);
  };
  const regex = (): void => {
    let inClass = false;
    for (at += 1; at < source.length && source[at] !== "\n"; at += 1) {
      const char = source[at];
      if (char === "\\") at += 1;
      else if (char === "[") inClass = true;
      else if (char === "]") inClass = false;
      else if (char === "/" && !inClass) break;
    }
    at += 1;
    take(NAME);
    // Stands for a value, so that a division after it is read as one.
    add("string", "");
  };

  while (at < source.length) {
    const char = source[at] ?? "";
    if (source.startsWith("//", at)) skipTo(source.indexOf("\n", at));
    else if (source.startsWith("/*", at)) skipTo(source.indexOf("*/", at) + 2);
    else if (/\s/.test(char)) skipTo(at + 1);
    else if (char === '"' || char === "'") add("string", quoted(char));
    else if (char === "`") {
      add("string", "");
      at += 1;
      templates.push(0);
      templateText();
    } else if (NAME_START.test(char)) add("name", take(NAME));
    else if (/\d/.test(char)) {
      take(NUMBER);
      add("string", "");
    } else if (char === "/" && regexAllowed()) regex();
    else {
      const open = templates.length - 1;
      const depth = templates[open];
      at += 1;
      if (char === "}" && depth === 0) templateText();
      else {
        if (depth !== undefined && char === "{") templates[open] = depth + 1;
        if (depth !== undefined && char === "}") templates[open] = depth - 1;
        add("punctuation", char);
      }
    }
  }
  return tokens;
}
