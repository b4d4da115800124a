/** One thing wrong, or doubtful, in a configuration. */
export interface ConfigIssue {
  readonly severity: "error" | "warning";
  /** Where in the configuration: `ingress[2].path`; empty = it is about the file as a whole. */
  readonly path: string;
  /** One line; texts of the configuration stand in quotes. */
  readonly message: string;
  /** What would be right. */
  readonly hint?: string;
  /** 1-based place in the file, when it came from one. */
  readonly line?: number;
  readonly column?: number;
}

/** A warning in words, with what is to be corrected for it to go. */
export interface ConfigWarning {
  /** One line. */
  readonly text: string;
  /** A line of the file, the file as a whole, a setting wherever it came from, or that there are no rules at all. */
  readonly about: "line" | "file" | "setting" | "rules";
}

/** Keys and list positions from the top down to a value. */
export type IssuePath = readonly (string | number)[];

/** Finds the place of a value in the file it came from. */
export type Locate = (path: IssuePath) => { readonly line: number; readonly column: number } | undefined;

/** Gathers issues with their places. */
export class IssueList {
  readonly issues: ConfigIssue[] = [];
  readonly #locate: Locate;
  readonly #seen = new Set<string>();

  constructor(locate: Locate = () => undefined) {
    this.#locate = locate;
  }

  error(path: IssuePath, message: string, hint?: string): void {
    this.#add("error", path, message, hint);
  }

  warning(path: IssuePath, message: string, hint?: string): void {
    this.#add("warning", path, message, hint);
  }

  get failed(): boolean {
    return this.issues.some((issue) => issue.severity === "error");
  }

  #add(severity: ConfigIssue["severity"], path: IssuePath, message: string, hint: string | undefined): void {
    const place = this.#locate(path);
    // Maps that aliases share are read once for each of them.
    const seen = place === undefined ? formatPath(path) : `${place.line}:${place.column}`;
    if (this.#seen.has(`${seen} ${message}`)) return;
    this.#seen.add(`${seen} ${message}`);
    this.issues.push({
      severity,
      path: formatPath(path),
      message,
      ...(hint === undefined ? {} : { hint }),
      ...(place === undefined ? {} : { line: place.line, column: place.column }),
    });
  }
}

/** The hint for a misspelt word; undefined when nothing is like it. */
export function didYouMean(candidate: string | undefined): string | undefined {
  return candidate === undefined ? undefined : `did you mean "${candidate}"?`;
}

/** An issue as a warning; `file` as of `formatIssue`. */
export function warningOf(issue: ConfigIssue, file: string | undefined): ConfigWarning {
  const text = formatIssue(issue, file);
  if (file !== undefined && issue.line !== undefined) return { text, about: "line" };
  return { text, about: issue.path === "" ? "file" : "setting" };
}

/** One line for an issue, with its place in the file: `config.yml:3:5: Unknown key "servce": did you mean "service"?`. */
export function formatIssue(issue: ConfigIssue, file: string | undefined): string {
  const place = file === undefined || issue.line === undefined ? "" : `${file}:${issue.line}:${issue.column ?? 1}: `;
  return visible(`${place}${issue.message}${issue.hint === undefined ? "" : `: ${issue.hint}`}`);
}

/** Line ends and other control characters as escapes: keys and values may have them, a log line must not. */
function visible(text: string): string {
  return text.replace(/[\p{Cc}\u2028\u2029]/gu, (char) => {
    return char === "\n" ? "\\n" : `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`;
  });
}

/** `ingress[2].originRequest.caPool`. */
function formatPath(path: IssuePath): string {
  return path.reduce<string>(
    (text, part) => (typeof part === "number" ? `${text}[${part}]` : text === "" ? part : `${text}.${part}`),
    "",
  );
}
