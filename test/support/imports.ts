import type { Token } from "./tokens.ts";

/** One import or re-export statement, or an `import()` expression. */
export interface ImportStatement {
  readonly specifier: string;
  /** The whole statement is `import type` or `export type`: it is gone at run time. */
  readonly typeOnly: boolean;
  readonly line: number;
}

export function findImports(tokens: readonly Token[]): ImportStatement[] {
  const found: ImportStatement[] = [];
  for (const [index, token] of tokens.entries()) {
    const isImport = token.kind === "name" && token.text === "import";
    const isExport = token.kind === "name" && token.text === "export";
    if ((!isImport && !isExport) || tokens[index - 1]?.text === ".") continue;
    const next = tokens[index + 1];
    const second = tokens[index + 2];
    if (isImport && next?.kind === "string") {
      found.push({ specifier: next.text, typeOnly: false, line: token.line });
    } else if (isImport && next?.text === "(") {
      if (second?.kind === "string") found.push({ specifier: second.text, typeOnly: false, line: token.line });
    } else if (next !== undefined && next.text !== ".") {
      // `import type from "x"` imports a value that is called type.
      const typeOnly = next.text === "type" && second?.text !== "from" && second?.text !== ",";
      const specifier = specifierAfter(tokens, index + (typeOnly ? 2 : 1), isExport);
      if (specifier !== undefined) found.push({ specifier, typeOnly, line: token.line });
    }
  }
  return found;
}

/** The string after `from` that ends the clause starting here; undefined when this is no such statement. */
function specifierAfter(tokens: readonly Token[], start: number, isExport: boolean): string | undefined {
  const first = tokens[start]?.text;
  if (isExport && first !== "{" && first !== "*") return undefined;
  for (let at = start; at < tokens.length; at += 1) {
    const token = tokens[at];
    if (token === undefined || token.text === ";" || token.text === "=") return undefined;
    const next = tokens[at + 1];
    if (token.kind === "name" && token.text === "from" && next?.kind === "string") return next.text;
    if (isExport && token.text === "}" && next?.text !== "from") return undefined;
  }
  return undefined;
}
