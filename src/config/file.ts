import { type Document, isAlias, LineCounter, type Node, parseDocument, visit, type YAMLError } from "yaml";
import { describe, systemCode } from "../core/errors.ts";
import { nearest } from "../core/nearest.ts";
import { type ConfigIssue, didYouMean, type Locate } from "../ingress/issue.ts";
import { misplacedSetting } from "../ingress/origin-request.ts";
import { FILE_ONLY_KEYS } from "./flags.ts";
import { expandHome, type Host } from "./host.ts";
import { ALL_RUN_FLAGS } from "./tunnel-flags.ts";
import type { FileValues } from "./values.ts";
import { entryOf, firstMerge, typeScalars } from "./yaml-nodes.ts";

const FILE_NAMES = ["config.yml", "config.yaml"] as const;
/** Bytes a config file may have. */
const MAX_FILE_BYTES = 4 * 1024 * 1024;
/** Unknown keys that are warned of: a file with more is none of ours, and each is compared with all we know. */
const MAX_UNKNOWN_KEYS = 100;
/** Nodes that aliases may stand for, together: room for thousands of rules that share their settings. */
const MAX_ALIASES = 5_000;
/** Reading a file as UTF-8 leaves U+FFFD for what is none; control characters are no YAML (YAML 1.2.2 section 5.1). */
const UNREADABLE = /\ufffd|(?![\t\n\r\x85])\p{Cc}/u;

export type LoadedFile =
  | { readonly kind: "loaded"; readonly file: FileValues; readonly warnings: readonly ConfigIssue[] }
  /** No file was asked for and there is none. */
  | { readonly kind: "none" }
  | { readonly kind: "failed"; readonly path: string; readonly issues: readonly ConfigIssue[] };

/** The folders looked in, ours before cloudflared's (surface: section 9.1). */
export function configFolders(host: Host): string[] {
  const home = [".culvert", ".cloudflared", ".cloudflare-warp", "cloudflare-warp"].map(
    (name) => `${host.homeDir}/${name}`,
  );
  const system = host.platform === "win32" ? [] : ["/etc/culvert", "/etc/cloudflared", "/usr/local/etc/cloudflared"];
  return [...home, ...system];
}

/** Reads the file that was asked for, or the first there is in the usual places. */
export function loadConfigFile(host: Host, asked: string | undefined): LoadedFile {
  const path = asked ?? findFile(host);
  if (path === undefined) return { kind: "none" };
  try {
    return parseConfigFile(path, host.readFile(expandHome(host, path)));
  } catch (error) {
    const code = systemCode(error);
    const why =
      code === "ENOENT"
        ? "there is no such file"
        : code === "EACCES"
          ? "permission denied"
          : code === "EISDIR"
            ? "it is a directory"
            : "it cannot be read";
    return failed(path, { severity: "error", path: "", message: `Cannot read config file "${path}": ${why}` });
  }
}

/** Reads a config file's text. Duplicate keys are errors; unknown ones are warnings with the nearest known key. */
export function parseConfigFile(path: string, text: string): LoadedFile {
  if (text.length > MAX_FILE_BYTES) {
    return failed(path, { severity: "error", path: "", message: `Config file "${path}" is too large` });
  }
  const unreadable = UNREADABLE.exec(text);
  if (unreadable !== null) return failed(path, unreadableIssue(text, unreadable));
  try {
    return readDocument(path, text);
  } catch (error) {
    // What cannot be walked to its end was never written by hand.
    if (!(error instanceof RangeError)) throw error;
    return failed(path, { severity: "error", path: "", message: `Config file "${path}" is nested too deeply` });
  }
}

function readDocument(path: string, text: string): LoadedFile {
  const lines = new LineCounter();
  // A line may end in CR alone (YAML 1.2.2 section 5.4), which the library does not know; places stay what they are.
  const source = text.replace(/\r(?!\n)/g, "\n");
  const document = parseDocument(source, {
    ...{ lineCounter: lines, uniqueKeys: true, prettyErrors: false, merge: true },
    // Tags such as !!binary and !!omap would make objects that are no maps.
    resolveKnownTags: false,
    // It would write about odd keys to standard error by itself.
    logLevel: "error",
  });
  const place = (offset: number): { line: number; column: number } => {
    const { line, col } = lines.linePos(offset);
    return { line, column: col };
  };
  const error = (message: string, offset: number): ConfigIssue => {
    return { severity: "error", path: "", message, ...place(offset) };
  };
  if (document.errors.some(({ message }) => /call stack/.test(message))) throw new RangeError("nested too deeply");
  if (document.errors.length > 0) {
    // Every level that is open says the same of its end.
    const each = new Map(document.errors.map((problem) => [`${problem.pos[0]} ${problem.message}`, problem]));
    const issues = [...each.values()].map((problem) => error(yamlMessage(problem), problem.pos[0]));
    return { kind: "failed", path, issues };
  }
  const aliases = aliasesOf(document);
  const issues = aliases.flatMap(({ name, offset, fault }) => {
    return fault === undefined ? [] : [error(`Alias "*${name}" ${fault}`, offset)];
  });
  if (issues.length > 0) return { kind: "failed", path, issues };
  typeScalars(document);
  let top: unknown;
  try {
    top = document.toJS({ maxAliasCount: MAX_ALIASES });
  } catch (thrown) {
    if (thrown instanceof RangeError) throw thrown;
    // Only now aliases are unfolded, perhaps to far more than the file holds, and maps merged.
    const offset = firstMerge(document) ?? aliases[0]?.offset ?? 0;
    return failed(path, error(`Aliases and merges cannot be used: ${oneLine(describe(thrown))}`, offset));
  }
  if (top !== null && top !== undefined && (typeof top !== "object" || Array.isArray(top))) {
    return failed(path, { severity: "error", path: "", message: "Must be a map of settings", line: 1, column: 1 });
  }
  const locate: Locate = (keys) => {
    let node: unknown = document.contents;
    let offset: number | undefined;
    // What is not there has no place of its own: that of the map it is missing in is the next best.
    for (const key of keys) {
      const entry = entryOf(document, node, key);
      if (entry === undefined) break;
      offset = entry.offset ?? offset;
      node = entry.value;
    }
    return offset === undefined ? undefined : place(offset);
  };
  const file: FileValues = { path, top: (top ?? {}) as Record<string, unknown>, locate };
  const warnings = unknownKeys(file);
  if (top === null || top === undefined) {
    warnings.push({ severity: "warning", path: "", message: `Config file "${path}" is empty` });
  }
  return { kind: "loaded", file, warnings };
}

function findFile(host: Host): string | undefined {
  for (const folder of configFolders(host)) {
    for (const name of FILE_NAMES) if (host.exists(`${folder}/${name}`)) return `${folder}/${name}`;
  }
  return undefined;
}

function unknownKeys(file: FileValues): ConfigIssue[] {
  const flags = ALL_RUN_FLAGS.filter((flag) => flag.file === true).map((flag) => flag.name);
  const known = new Set<string>([...FILE_ONLY_KEYS, ...flags]);
  return Object.keys(file.top)
    .filter((key) => !known.has(key))
    .slice(0, MAX_UNKNOWN_KEYS)
    .map((key) => {
      const hint = isOnlyFlag(key)
        ? "it can be set on the command line and in the environment only"
        : (misplacedSetting(key) ?? didYouMean(nearest(key, known)));
      const message = isOnlyFlag(key) ? `"${key}" has no effect in a file` : `Unknown key "${key}"`;
      return {
        severity: "warning" as const,
        path: key,
        message,
        ...(hint === undefined ? {} : { hint }),
        ...file.locate([key]),
      };
    });
}

/** Flags that cloudflared does not read from a file either (surface: section 9.2). */
function isOnlyFlag(key: string): boolean {
  return ALL_RUN_FLAGS.some((flag) => flag.name === key && flag.file !== true);
}

/** The library breaks lines in a few messages. */
function oneLine(text: string): string {
  return text.replace(/\s*\n\s*/g, " ");
}

function yamlMessage({ code, message }: YAMLError): string {
  if (code === "DUPLICATE_KEY") return "This key stands here for the second time";
  if (code === "MULTIPLE_DOCS") return "A second document begins here, and a config file is one";
  return oneLine(message);
}

function unreadableIssue(text: string, { 0: char, index }: RegExpExecArray): ConfigIssue {
  const before = text.slice(0, index).split(/\r\n?|\n/);
  const place = { line: before.length, column: (before.at(-1)?.length ?? 0) + 1 };
  const issue = { severity: "error", path: "", ...place } as const;
  if (char === "\ufffd") return { ...issue, message: "This is not UTF-8", hint: "save the file as UTF-8" };
  const code = char.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0");
  return { ...issue, message: `Control character U+${code} has no place in a config file` };
}

interface AliasPlace {
  readonly name: string;
  readonly offset: number;
  /** Why it stands for nothing: no anchor in front of it, or one around it, whose value would have no end. */
  readonly fault: string | undefined;
}

/** Every alias in order. */
function aliasesOf(document: Document): AliasPlace[] {
  const found: AliasPlace[] = [];
  const anchors = new Map<string, Node>();
  visit(document, {
    Node(_, node, path) {
      if (isAlias(node)) {
        const target = anchors.get(node.source);
        const fault =
          target === undefined
            ? "has no anchor in front of it"
            : path.includes(target)
              ? "stands inside of what it stands for"
              : undefined;
        found.push({ name: node.source, offset: node.range?.[0] ?? 0, fault });
      } else if (node.anchor !== undefined) anchors.set(node.anchor, node);
    },
  });
  return found;
}

function failed(path: string, issue: ConfigIssue): LoadedFile {
  return { kind: "failed", path, issues: [issue] };
}
