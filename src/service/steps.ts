import { quoteWord } from "./quote.ts";

/** One change of the machine. Everything that installs or removes is a list of these. */
export type Step =
  /** Makes a folder, or gives one that exists the mode and the owner. */
  | { readonly kind: "dir"; readonly path: string; readonly mode: number; readonly owner?: string | undefined }
  | FileStep
  /** Removes a file or a link, or a folder with all its content; no harm when there is none. */
  | { readonly kind: "remove"; readonly path: string }
  /** Removes a folder that is empty. */
  | { readonly kind: "remove-empty"; readonly path: string }
  /** Makes a system account without a home and a shell. */
  | { readonly kind: "account"; readonly name: string }
  /** Removes an account that such a step made. */
  | { readonly kind: "remove-account"; readonly name: string }
  /** With `mayFail` the exit code does not matter. A script says for people what it does. */
  | { readonly kind: "run"; readonly argv: readonly string[]; readonly mayFail?: boolean; readonly what?: string }
  /** What the machine's own interface does, where no program does it. */
  | { readonly kind: "call"; readonly what: string; readonly call: () => Promise<void> };

export interface FileStep {
  readonly kind: "file";
  readonly path: string;
  readonly content: string;
  readonly mode: number;
  readonly owner?: string | undefined;
  /** Never shown. */
  readonly secret?: boolean;
  /** One that exists keeps its content. */
  readonly keep?: boolean;
}

/** Real name of accounts made here, by which they are known again. */
export const ACCOUNT_COMMENT = "Culvert tunnel";

/** What a step does, for `--dry-run`: a line, and for a file its content. */
export function describeStep(step: Step): string {
  switch (step.kind) {
    case "dir":
      return `make folder ${step.path} (${permissions(step)})`;
    case "file": {
      const head = `${step.keep === true ? "write unless it exists" : "write"} ${step.path} (${permissions(step)})`;
      if (step.secret === true) return `${head}: secret, not shown`;
      return [head, ...step.content.trimEnd().split("\n")].join("\n    ");
    }
    case "remove":
      return `remove ${step.path}`;
    case "remove-empty":
      return `remove ${step.path} if it is empty`;
    case "account":
      return `make system account ${step.name} unless it exists`;
    case "remove-account":
      return `remove system account ${step.name} if this program made it`;
    case "run":
      return step.what ?? `run ${step.argv.map(quoteWord).join(" ")}`;
    case "call":
      return step.what;
  }
}

function permissions({ mode, owner }: { readonly mode: number; readonly owner?: string | undefined }): string {
  const octal = mode.toString(8).padStart(4, "0");
  return owner === undefined ? octal : `${octal}, owner ${owner}`;
}
