import { formatDuration, parseDuration } from "../core/duration.ts";
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

/** A secret as it is shown anywhere. */
const MASK = "*****";

/** One value for people to read. */
export interface ShownValue {
  readonly name: string;
  /** Secrets are masked. */
  readonly value: string;
  readonly source: Source;
  /** @default false */
  readonly secret?: boolean;
}

interface Entry {
  readonly flag: Flag;
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

  /** True for what was set to nothing: `false` or an empty text. */
  isOff(name: string): boolean {
    const value = this.#entries.get(name)?.value;
    return value === undefined || value === false || value === "";
  }

  /** Everything that somebody set, in the order of the table; defaults only with `defaults`. */
  shown(options: { readonly defaults?: boolean } = {}): readonly ShownValue[] {
    return [...this.#entries.values()]
      .filter((entry) => options.defaults === true || entry.source !== "default")
      .map(({ flag, source, value }) => ({
        ...{ name: flag.name, value: show(flag, value), source },
        ...(flag.secret === true ? { secret: true } : {}),
      }));
  }

  #fromArgs(flag: Flag, texts: readonly string[] | undefined): Entry | undefined {
    return texts === undefined ? undefined : this.#parse(flag, texts, "flag", `--${flag.name}`);
  }

  #fromEnv(flag: Flag, env: Readonly<Record<string, string | undefined>>): Entry | undefined {
    for (const name of flag.env ?? []) {
      const text = env[name];
      if (text === "" && flag.notEmpty === "anywhere") return this.#empty(flag, `$${name}`);
      if (text === undefined || text === "") continue;
      // Variables of features nobody has any more, with names that others use as well: their form does not matter.
      if (flag.inert === "never" && parseValue(flag.type, [text]) === undefined) return undefined;
      return this.#parse(flag, [text], "env", `$${name}`);
    }
    return undefined;
  }

  #fromFile(flag: Flag, file: FileValues | undefined): Entry | undefined {
    const value = flag.file === true ? file?.top[flag.name] : undefined;
    // A template whose variable has nothing to give leaves null behind.
    if (value === null && flag.notEmpty !== undefined) return this.#empty(flag, `"${flag.name}"`, file);
    if (value === undefined || value === null) return undefined;
    if (flag.type === "duration" && typeof value === "string") {
      return this.#parse(flag, [value], "file", `"${flag.name}"`, file);
    }
    if (isOfType(flag.type, value)) {
      const entry: Entry = { flag, source: "file", value };
      return flag.notEmpty !== undefined && isEmpty(value) ? this.#empty(flag, `"${flag.name}"`, file) : entry;
    }
    const hint = flag.type === "string" && typeof value !== "object" ? "put it in quotes" : undefined;
    this.#error(flag.name, `"${flag.name}" must be ${describeType(flag.type)}`, file?.locate([flag.name]), hint);
    return undefined;
  }

  #fromDefault(flag: Flag): Entry | undefined {
    return flag.default === undefined ? undefined : this.#parse(flag, [flag.default], "default", flag.name);
  }

  #parse(flag: Flag, texts: readonly string[], source: Source, name: string, file?: FileValues): Entry | undefined {
    const value = parseValue(flag.type, texts);
    if (value !== undefined && flag.notEmpty !== undefined && isEmpty(value)) return this.#empty(flag, name);
    if (value !== undefined) return { flag, source, value };
    const shown = flag.secret === true ? MASK : `"${texts.at(-1) ?? ""}"`;
    this.#error(flag.name, `${name} must be ${describeType(flag.type)}, not ${shown}`, file?.locate([flag.name]));
    return undefined;
  }

  #empty(flag: Flag, name: string, file?: FileValues): undefined {
    this.#error(flag.name, `${name} must not be empty: leave it out, or give it a value`, file?.locate([flag.name]));
  }

  #error(path: string, message: string, place: ReturnType<Locate>, hint?: string): void {
    this.issues.push({ severity: "error", path, message, ...(hint === undefined ? {} : { hint }), ...place });
  }
}

function isEmpty(value: Entry["value"]): boolean {
  return (typeof value === "string" || Array.isArray(value)) && value.length === 0;
}

/** Types are strict in a file, as in cloudflared's; durations are texts there. */
function isOfType(type: Flag["type"], value: unknown): value is Entry["value"] {
  switch (type) {
    case "bool":
      return typeof value === "boolean";
    case "int":
      return Number.isSafeInteger(value);
    case "string":
      return typeof value === "string";
    case "list":
      return Array.isArray(value) && value.every((item) => typeof item === "string");
    case "duration":
      return false;
  }
}

function show(flag: Flag, value: Entry["value"]): string {
  if (flag.secret === true) return MASK;
  if (flag.type === "duration" && typeof value === "number") return formatDuration(value);
  return Array.isArray(value) ? value.join(",") : String(value);
}

function parseValue(type: Flag["type"], texts: readonly string[]): Entry["value"] | undefined {
  const text = texts.at(-1) ?? "";
  switch (type) {
    case "string":
      return text;
    case "list":
      return texts
        .flatMap((item) => item.split(","))
        .map((item) => item.trim())
        .filter((item) => item !== "");
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
