import { RE2JS } from "re2js";

/** A path expression of a rule: RE2 syntax, found anywhere in the path, in time linear in its length. */
export interface PathPattern {
  readonly source: string;
  test(path: string): boolean;
}

/** Chars that mean something in an expression. */
const SPECIAL = /[\\^$.|?*+()[\]{}]/;
const UNSUPPORTED = /\(\?(?:[=!]|<[=!])/;

/**
 * Compiles an expression, or says what is wrong with it. Plain texts, also behind `^`, are compared without the
 * engine, which gives the same answers in a fraction of the time.
 */
export function compilePath(source: string): PathPattern | { readonly error: string } {
  const literal = source.startsWith("^") ? source.slice(1) : source;
  if (!SPECIAL.test(literal)) {
    return source.startsWith("^")
      ? { source, test: (path) => path.startsWith(literal) }
      : { source, test: (path) => path.includes(literal) };
  }
  try {
    const compiled = RE2JS.compile(source);
    return { source, test: (path) => compiled.test(path) };
  } catch (error) {
    if (UNSUPPORTED.test(source)) return { error: "look-around is not part of RE2 syntax" };
    if (/\\[1-9]/.test(source)) return { error: "back-references are not part of RE2 syntax" };
    return { error: error instanceof Error ? error.message.replace(/^error parsing regexp: /, "") : "syntax error" };
  }
}
