import { isMap, isSeq, LineCounter, parseDocument } from "yaml";
import { systemCode } from "../core/errors.ts";
import { nearest } from "../core/nearest.ts";
import type { ConfigIssue, Locate } from "../ingress/issue.ts";
import { FILE_ONLY_KEYS, LATER_KEYS, RUN_FLAGS, TUNNEL_FLAGS } from "./flags.ts";
import type { Host } from "./host.ts";
import type { FileValues } from "./values.ts";

const FILE_NAMES = ["config.yml", "config.yaml"] as const;
/** Bytes a config file may have. */
const MAX_FILE_BYTES = 4 * 1024 * 1024;

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
    return parseConfigFile(path, host.readFile(path));
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
  const document = parseDocument(text, { lineCounter: lines, uniqueKeys: true, prettyErrors: false });
  const place = (offset: number): { line: number; column: number } => {
    const { line, col } = lines.linePos(offset);
    return { line, column: col };
  };
  if (document.errors.length > 0) {
    const issues = document.errors.map((error) => ({
      severity: "error" as const,
      path: "",
      message: error.message,
      ...place(error.pos[0]),
    }));
    return { kind: "failed", path, issues };
  }
  const top: unknown = document.toJS({ maxAliasCount: 100 });
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
  return { kind: "loaded", file, warnings: unknownKeys(file) };
}

function findFile(host: Host): string | undefined {
  for (const folder of configFolders(host)) {
    for (const name of FILE_NAMES) if (host.exists(`${folder}/${name}`)) return `${folder}/${name}`;
  }
  return undefined;
}

function unknownKeys(file: FileValues): ConfigIssue[] {
  const flags = [...TUNNEL_FLAGS, ...RUN_FLAGS].map((flag) => flag.name);
  const known = new Set<string>([...FILE_ONLY_KEYS, ...flags]);
  return Object.keys(file.top)
    .filter((key) => !known.has(key))
    .map((key) => {
      const like = nearest(key, known);
      const message = LATER_KEYS.has(key)
        ? `"${key}" is not acted on by this release`
        : `Unknown key "${key}"${like === undefined ? "" : `: did you mean "${like}"?`}`;
      return { severity: "warning" as const, path: key, message, ...file.locate([key]) };
    });
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
