import { isMap, isSeq, LineCounter, parseDocument } from "yaml";
import { describe } from "../core/errors.ts";
import { nearest } from "../core/nearest.ts";
import { type ConfigIssue, didYouMean, IssueList, type IssuePath, type Locate } from "../ingress/issue.ts";
import type { Parsed } from "../wire/parsed.ts";
import { type AppAddress, parseAppAddress, parseListenAddress } from "./address.ts";
import { checkHeader, type StreamFields } from "./header-fields.ts";

/** Characters a file may have. */
const MAX_FILE_CHARS = 1024 * 1024;
/** Nodes that aliases may stand for, together. */
const MAX_ALIASES = 100;
/** Ports that one process forwards. */
const MAX_FORWARDS = 256;

/** One local port and where it leads. */
export interface ForwardEntry extends StreamFields {
  readonly app: AppAddress;
  readonly listen: { readonly host: string; readonly port: number };
}

export type ForwardsFile =
  | { readonly kind: "ok"; readonly forwards: readonly ForwardEntry[]; readonly warnings: readonly ConfigIssue[] }
  | { readonly kind: "failed"; readonly issues: readonly ConfigIssue[] };

const KEYS = [
  ...["hostname", "url", "listener", "destination", "headers"],
  ...["serviceTokenID", "serviceTokenSecret", "isFedramp"],
] as const;
type Key = (typeof KEYS)[number];
type Entry = Readonly<Partial<Record<Key, unknown>>>;

/**
 * Reads a list of forwards: `- {hostname, url, destination, headers, serviceTokenID, serviceTokenSecret}`, where `url`
 * is the local side and `headers` a map. The list may stand at the top, or under `forwarders` as in cloudflared's
 * service file, whose entries have `listener` for the local side and `url` for the hostname (surface: section 9.4).
 */
export function parseForwardsFile(text: string): ForwardsFile {
  if (text.length > MAX_FILE_CHARS) return failed({ message: "The file is too large" });
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, uniqueKeys: true, prettyErrors: false, merge: true });
  const place = (offset: number): { line: number; column: number } => {
    const { line, col } = lines.linePos(offset);
    return { line, column: col };
  };
  if (document.errors.length > 0) {
    return failed(
      ...document.errors.map((error) => ({
        message: error.code === "DUPLICATE_KEY" ? "This key stands here for the second time" : oneLine(error.message),
        ...place(error.pos[0]),
      })),
    );
  }
  let top: unknown;
  try {
    top = document.toJS({ maxAliasCount: MAX_ALIASES });
  } catch (error) {
    return failed({ message: oneLine(describe(error)) });
  }
  const locate: Locate = (keys) => {
    const parent = keys.length > 1 ? document.getIn(keys.slice(0, -1), true) : document.contents;
    const last = keys.at(-1);
    let offset: number | undefined;
    if (isMap(parent)) offset = startOf(parent.items.find((item) => keyOf(item.key) === last)?.key);
    else if (isSeq(parent) && typeof last === "number") offset = startOf(parent.items[last]);
    return offset === undefined ? undefined : place(offset);
  };
  const reader = new Reader(locate);
  const forwards = reader.list(top);
  const { issues } = reader.issues;
  return reader.issues.failed ? { kind: "failed", issues } : { kind: "ok", forwards, warnings: issues };
}

class Reader {
  readonly issues: IssueList;
  #base: IssuePath = [];

  constructor(locate: Locate) {
    this.issues = new IssueList(locate);
  }

  list(top: unknown): readonly ForwardEntry[] {
    const nested = isRecord(top) && "forwarders" in top;
    const list = nested ? top["forwarders"] : top;
    if (!Array.isArray(list)) {
      this.issues.error([], 'Must be a list of forwards, or have one under "forwarders"');
      return [];
    }
    this.#base = nested ? ["forwarders"] : [];
    if (list.length === 0) this.issues.error(this.#base, "Names no forward");
    if (list.length > MAX_FORWARDS) {
      this.issues.error(this.#base, `Names ${list.length} forwards; ${MAX_FORWARDS} at most`);
      return [];
    }
    const used = new Map<string, number>();
    return list.flatMap((item, index) => {
      const entry = this.#entry(item, index);
      if (entry === undefined) return [];
      const where = `${entry.listen.host}:${entry.listen.port}`;
      const other = entry.listen.port === 0 ? undefined : used.get(where);
      if (other !== undefined) {
        this.issues.error([...this.#base, index], `Listens on ${where}, as forward ${other + 1} does`);
      } else used.set(where, index);
      return [entry];
    });
  }

  #entry(item: unknown, index: number): ForwardEntry | undefined {
    const at = [...this.#base, index];
    if (!isRecord(item)) {
      this.issues.error(at, 'Must be a map with "hostname" and "url"');
      return undefined;
    }
    for (const key of Object.keys(item)) {
      if (!KEYS.some((known) => known === key)) {
        this.issues.error([...at, key], `Unknown key "${key}"`, didYouMean(nearest(key, KEYS)));
      }
    }
    const entry: Entry = item;
    const swapped = entry.listener !== undefined;
    if (swapped && entry.hostname !== undefined) {
      this.issues.error([...at, "listener"], 'Next to "hostname" the local side is "url"');
      return undefined;
    }
    const app = this.#parsed(entry, at, swapped ? "url" : "hostname", parseAppAddress);
    const listen = this.#parsed(entry, at, swapped ? "listener" : "url", parseListenAddress);
    const destination = this.#text(entry, at, "destination");
    const id = this.#text(entry, at, "serviceTokenID");
    const secret = this.#text(entry, at, "serviceTokenSecret");
    const headers = this.#headers(entry.headers, [...at, "headers"]);
    for (const [key, value] of [["destination", destination] as const, ["serviceTokenID", id] as const]) {
      if (value !== undefined && !checkHeader("X", value).ok) {
        this.issues.error([...at, key], `"${key}" has a character that a header cannot hold`);
      }
    }
    if (app === undefined || listen === undefined) return undefined;
    const serviceToken = id === undefined && secret === undefined ? undefined : { id, secret };
    return { app, listen, destination, headers, serviceToken };
  }

  #parsed<T>(entry: Entry, at: IssuePath, key: Key, parse: (text: string) => Parsed<T>): T | undefined {
    if (entry[key] === undefined || entry[key] === null) {
      this.issues.error(at, `"${key}" is missing`);
      return undefined;
    }
    const text = this.#text(entry, at, key);
    if (text === undefined) return undefined;
    const parsed = parse(text);
    if (parsed.ok) return parsed.value;
    for (const issue of parsed.issues) this.issues.error([...at, key], `"${key}" ${issue.message}`);
    return undefined;
  }

  #text(entry: Entry, at: IssuePath, key: Key): string | undefined {
    const value = entry[key];
    if (value === undefined || value === null || value === "") return undefined;
    if (typeof value === "string") return value;
    this.issues.error(
      [...at, key],
      `"${key}" must be a text`,
      typeof value === "object" ? undefined : "put it in quotes",
    );
    return undefined;
  }

  #headers(value: unknown, at: IssuePath): readonly string[] {
    if (value === undefined || value === null) return [];
    if (!isRecord(value)) {
      this.issues.error(at, '"headers" must be a map of names and values');
      return [];
    }
    return Object.entries(value).flatMap(([name, text]) => {
      if (typeof text !== "string") {
        this.issues.error([...at, name], `The header "${name}" must be a text`, "put it in quotes");
        return [];
      }
      const checked = checkHeader(name, text);
      if (checked.ok) return checked.value;
      for (const issue of checked.issues) this.issues.error([...at, name], `"headers": ${issue.message}`);
      return [];
    });
  }
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The library breaks lines in a few messages. */
function oneLine(text: string): string {
  return text.replace(/\s*\n\s*/g, " ");
}

function keyOf(key: unknown): unknown {
  return typeof key === "object" && key !== null && "value" in key ? key.value : key;
}

function startOf(node: unknown): number | undefined {
  if (typeof node !== "object" || node === null || !("range" in node) || !Array.isArray(node.range)) return undefined;
  const start: unknown = node.range[0];
  return typeof start === "number" ? start : undefined;
}

function failed(...issues: readonly Omit<ConfigIssue, "severity" | "path">[]): ForwardsFile {
  return { kind: "failed", issues: issues.map((issue) => ({ severity: "error", path: "", ...issue })) };
}
