import { isMap, isSeq, LineCounter, parseDocument } from "yaml";
import { describe, systemCode } from "../core/errors.ts";
import { nearest } from "../core/nearest.ts";
import { type ConfigIssue, didYouMean, type Locate } from "../ingress/issue.ts";
import { FILE_ONLY_KEYS } from "./flags.ts";
import { expandHome, type Host } from "./host.ts";
import { ALL_RUN_FLAGS } from "./tunnel-flags.ts";
import type { FileValues } from "./values.ts";

const FILE_NAMES = ["config.yml", "config.yaml"] as const;
/** Bytes a config file may have. */
const MAX_FILE_BYTES = 4 * 1024 * 1024;
/** Nodes that aliases may stand for, together. */
const MAX_ALIASES = 100;

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
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, uniqueKeys: true, prettyErrors: false, merge: true });
  const place = (offset: number): { line: number; column: number } => {
    const { line, col } = lines.linePos(offset);
    return { line, column: col };
  };
  if (document.errors.length > 0) {
    const issues = document.errors.map((error) => ({
      severity: "error" as const,
      path: "",
      message: error.code === "DUPLICATE_KEY" ? "This key stands here for the second time" : oneLine(error.message),
      ...place(error.pos[0]),
    }));
    return { kind: "failed", path, issues };
  }
  let top: unknown;
  try {
    top = document.toJS({ maxAliasCount: MAX_ALIASES });
  } catch (error) {
    // Aliases are looked up only now: one may name no anchor, or they may unfold to far more than the file holds.
    return failed(path, { severity: "error", path: "", message: `Cannot use ${path}: ${oneLine(describe(error))}` });
  }
  if (top !== null && top !== undefined && (typeof top !== "object" || Array.isArray(top))) {
    return failed(path, { severity: "error", path: "", message: "Must be a map of settings", line: 1, column: 1 });
  }
  const locate: Locate = (keys) => {
    // The key of a map entry is a better place than its value; for a list item there is only the item.
    const parent = keys.length > 1 ? document.getIn(keys.slice(0, -1), true) : document.contents;
    const last = keys.at(-1);
    let offset: number | undefined;
    if (isMap(parent)) {
      const pair = parent.items.find((item) => keyOf(item.key) === last);
      offset = rangeOf(pair?.key);
    } else if (isSeq(parent) && typeof last === "number") offset = rangeOf(parent.items[last]);
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
    .map((key) => {
      const hint = isOnlyFlag(key)
        ? "it can be set on the command line and in the environment only"
        : didYouMean(nearest(key, known));
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

function keyOf(key: unknown): unknown {
  return typeof key === "object" && key !== null && "value" in key ? key.value : key;
}

function rangeOf(node: unknown): number | undefined {
  if (typeof node !== "object" || node === null || !("range" in node) || !Array.isArray(node.range)) return undefined;
  const start: unknown = node.range[0];
  return typeof start === "number" ? start : undefined;
}

function failed(path: string, issue: ConfigIssue): LoadedFile {
  return { kind: "failed", path, issues: [issue] };
}
