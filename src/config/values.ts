import { parseDuration } from "../core/duration.ts";
import type { ConfigIssue, Locate } from "../ingress/issue.ts";
import type { Flag } from "./flags.ts";

/** Where a value came from. */
export type Source = "flag" | "env" | "file" | "default";

/** A config file's top level, already decoded, and where its values stand. */
export interface FileValues {
  readonly path: string;
  readonly top: Readonly<Record<string, unknown>>;
  readonly locate: Locate;
}

interface Entry {
  readonly source: Source;
  readonly value: boolean | number | string | readonly string[];
}

/** Values of all flags, merged: command line, then environment, then config file, then default. */
export class Values {
  readonly #entries = new Map<string, Entry>();
  readonly issues: ConfigIssue[] = [];

  constructor(
    flags: readonly Flag[],
    sources: {
      readonly args: ReadonlyMap<string, readonly string[]>;
      readonly env: Readonly<Record<string, string | undefined>>;
      readonly file?: FileValues | undefined;
    },
  ) {
    for (const flag of flags) {
      const entry =
        this.#fromArgs(flag, sources.args.get(flag.name)) ??
        this.#fromEnv(flag, sources.env) ??
        this.#fromFile(flag, sources.file) ??
        this.#fromDefault(flag);
      if (entry !== undefined) this.#entries.set(flag.name, entry);
    }
  }

  /** Undefined when nobody set it, not even a default. */
  source(name: string): Source | undefined {
    return this.#entries.get(name)?.source;
  }

  string(name: string): string | undefined {
    const value = this.#entries.get(name)?.value;
    return typeof value === "string" && value !== "" ? value : undefined;
  }

  bool(name: string): boolean {
    return this.#entries.get(name)?.value === true;
  }

  /** An `int` as it is, a `duration` in ms; 0 when nobody set it. */
  number(name: string): number {
    const value = this.#entries.get(name)?.value;
    return typeof value === "number" ? value : 0;
  }

  list(name: string): readonly string[] {
    const value = this.#entries.get(name)?.value;
    return Array.isArray(value) ? value : [];
  }

  #fromArgs(flag: Flag, texts: readonly string[] | undefined): Entry | undefined {
    return texts === undefined ? undefined : this.#parse(flag, texts, "flag", `--${flag.name}`);
  }

  #fromEnv(flag: Flag, env: Readonly<Record<string, string | undefined>>): Entry | undefined {
    for (const name of flag.env ?? []) {
      const text = env[name];
      if (text !== undefined && text !== "") return this.#parse(flag, [text], "env", name);
    }
    return undefined;
  }

  #fromFile(flag: Flag, file: FileValues | undefined): Entry | undefined {
    const value = flag.file === true ? file?.top[flag.name] : undefined;
    if (value === undefined || value === null) return undefined;
    const fits =
      flag.type === "list"
        ? Array.isArray(value) && value.every((item) => typeof item === "string")
        : typeof value === (flag.type === "bool" ? "boolean" : flag.type === "int" ? "number" : "string");
    if (!fits) {
      this.#error(flag.name, `"${flag.name}" must be ${describeType(flag.type)}`, file?.locate([flag.name]));
      return undefined;
    }
    if (flag.type === "duration") return this.#parse(flag, [value as string], "file", flag.name, file);
    return { source: "file", value: value as Entry["value"] };
  }

  #fromDefault(flag: Flag): Entry | undefined {
    return flag.default === undefined ? undefined : this.#parse(flag, [flag.default], "default", flag.name);
  }

  #parse(flag: Flag, texts: readonly string[], source: Source, name: string, file?: FileValues): Entry | undefined {
    const value = parseValue(flag.type, texts);
    if (value !== undefined) return { source, value };
    const shown = flag.secret === true ? "*****" : `"${texts.at(-1) ?? ""}"`;
    this.#error(flag.name, `${name} must be ${describeType(flag.type)}, not ${shown}`, file?.locate([flag.name]));
    return undefined;
  }

  #error(path: string, message: string, place: { line: number; column: number } | undefined): void {
    this.issues.push({ severity: "error", path, message, ...place });
  }
}

function parseValue(type: Flag["type"], texts: readonly string[]): Entry["value"] | undefined {
  const text = texts.at(-1) ?? "";
  switch (type) {
    case "string":
      return text;
    case "list":
      return texts.flatMap((item) => item.split(",")).filter((item) => item !== "");
    case "bool":
      return /^(1|t|true)$/i.test(text) ? true : /^(0|f|false)$/i.test(text) ? false : undefined;
    case "int":
      return /^-?[0-9]{1,9}$/.test(text) ? Number(text) : undefined;
    case "duration":
      return parseDuration(text);
  }
}

function describeType(type: Flag["type"]): string {
  switch (type) {
    case "bool":
      return "true or false";
    case "int":
      return "a whole number";
    case "duration":
      return "a duration such as 30s or 1m30s";
    case "string":
      return "a text";
    case "list":
      return "a list of texts";
  }
}
