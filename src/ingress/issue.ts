/** One thing wrong, or doubtful, in a configuration. */
export interface ConfigIssue {
  readonly severity: "error" | "warning";
  /** Where in the configuration: `ingress[2].path`. */
  readonly path: string;
  readonly message: string;
  /** 1-based place in the file, when it came from one. */
  readonly line?: number;
  readonly column?: number;
}

/** Finds the place of a value in the file it came from. */
export type Locate = (
  path: readonly (string | number)[],
) => { readonly line: number; readonly column: number } | undefined;

/** Gathers issues with their places. */
export class IssueList {
  readonly issues: ConfigIssue[] = [];
  readonly #locate: Locate;

  constructor(locate: Locate = () => undefined) {
    this.#locate = locate;
  }

  error(path: readonly (string | number)[], message: string): void {
    this.#add("error", path, message);
  }

  warning(path: readonly (string | number)[], message: string): void {
    this.#add("warning", path, message);
  }

  get failed(): boolean {
    return this.issues.some((issue) => issue.severity === "error");
  }

  #add(severity: ConfigIssue["severity"], path: readonly (string | number)[], message: string): void {
    this.issues.push({ severity, path: formatPath(path), message, ...this.#locate(path) });
  }
}

export function formatPath(path: readonly (string | number)[]): string {
  return path.reduce<string>(
    (text, part) => (typeof part === "number" ? `${text}[${part}]` : text === "" ? part : `${text}.${part}`),
    "",
  );
}
