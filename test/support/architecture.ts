import { posix } from "node:path";
import { findImports, type ImportStatement } from "./imports.ts";
import {
  BUN_FOLDERS,
  EDGE_LAYERS,
  EXIT_FILE,
  IMPURE_GLOBALS,
  LAYERS,
  LONG_FILE_LINES,
  MAX_FILE_LINES,
  PURE,
  PURE_USES,
  STRANGERS,
  WHY_BUN,
  WHY_EXIT,
  WHY_PURE,
} from "./layers.ts";
import { type Token, tokenize } from "./tokens.ts";

/** Source text by path under src, with forward slashes. */
export type SourceFiles = ReadonlyMap<string, string>;

export interface Violation {
  readonly rule:
    | "direction"
    | "strangers"
    | "purity"
    | "bun-only-in-net"
    | "exit-only-in-main"
    | "cycle"
    | "length"
    | "default-export"
    | "unplaced"
    | "unresolved";
  /** `path:line`, under src. */
  readonly where: string;
  readonly what: string;
  readonly why: string;
}

export interface ArchitectureReport {
  readonly violations: readonly Violation[];
  /** Files that are longer than they should be, yet not too long. */
  readonly warnings: readonly string[];
}

interface Module {
  readonly path: string;
  readonly lines: number;
  readonly tokens: readonly Token[];
  readonly imports: readonly ImportStatement[];
}

export function checkArchitecture(files: SourceFiles): ArchitectureReport {
  const modules = new Map<string, Module>();
  for (const [path, source] of files) {
    const tokens = tokenize(source);
    modules.set(path, { path, lines: source.split("\n").length - 1, tokens, imports: findImports(tokens) });
  }
  const violations: Violation[] = [];
  for (const module of modules.values()) {
    violations.push(...checkPlace(module), ...checkArrows(module, modules), ...checkGlobals(module));
    violations.push(...checkDefaultExport(module), ...checkLength(module));
  }
  violations.push(...checkInheritedPurity(modules), ...findCycles(modules));
  const warnings = [...modules.values()]
    .filter((module) => module.lines > LONG_FILE_LINES && module.lines <= MAX_FILE_LINES)
    .map((module) => `${module.path} has ${module.lines} lines (better under ${LONG_FILE_LINES})`);
  return { violations, warnings };
}

/** A failure's text: one paragraph a violation, with the reason for the rule. */
export function formatViolations(violations: readonly Violation[]): string {
  return violations.map(({ rule, where, what, why }) => `src/${where} [${rule}] ${what}\n    why: ${why}`).join("\n");
}

function isPure(path: string): boolean {
  return PURE.some((pure) => (pure.endsWith("/") ? path.startsWith(pure) : path === pure));
}

function isRelative(specifier: string): boolean {
  return specifier.startsWith("./") || specifier.startsWith("../");
}

function resolve(from: string, specifier: string): string {
  return posix.normalize(posix.join(posix.dirname(from), specifier));
}

/** `core` for `core/clock.ts`, `main` for `main.ts`. */
function layerOf(path: string): string {
  return path.includes("/") ? path.slice(0, path.indexOf("/")) : path.replace(/\.ts$/, "");
}

function edgeLayerOf(path: string): string | undefined {
  const parts = path.split("/");
  return parts[0] === "edge" && parts.length > 2 ? parts[1] : undefined;
}

function rankOf(layers: readonly { readonly name: string }[], name: string): number {
  return layers.findIndex((layer) => layer.name === name);
}

function checkPlace(module: Module): Violation[] {
  const layer = layerOf(module.path);
  const inner = edgeLayerOf(module.path);
  const known = rankOf(LAYERS, layer) >= 0 && (inner === undefined || rankOf(EDGE_LAYERS, inner) >= 0);
  if (known) return [];
  const why = "a folder without a place in test/support/layers.ts has no direction to check";
  return [{ rule: "unplaced", where: `${module.path}:1`, what: `folder of "${module.path}" has no layer`, why }];
}

function checkArrows(module: Module, modules: ReadonlyMap<string, Module>): Violation[] {
  const violations: Violation[] = [];
  for (const statement of module.imports) {
    const where = `${module.path}:${statement.line}`;
    const { specifier } = statement;
    if (!isRelative(specifier)) {
      violations.push(...checkPackage(module.path, where, specifier));
      continue;
    }
    const target = resolve(module.path, specifier);
    // The version, and the installers that a checkout is installed with as well, are all that stands outside src.
    if (["../package.json", "../install.sh", "../install.ps1"].includes(target)) continue;
    if (specifier.endsWith(".ts") ? !modules.has(target) : target.startsWith("../")) {
      const why =
        "import paths carry the .ts ending and stay in src: Deno and the compiled binary resolve nothing else";
      violations.push({ rule: "unresolved", where, what: `"${specifier}" is not a file of src`, why });
    } else if (!/\.\w+$/.test(specifier)) {
      const why = "import paths carry their ending: Deno adds none";
      violations.push({ rule: "unresolved", where, what: `"${specifier}" has no ending`, why });
    } else {
      violations.push(...checkDirection(module.path, target, where));
    }
  }
  return violations;
}

function checkPackage(path: string, where: string, specifier: string): Violation[] {
  const builtIn = /^(node|bun|deno):/.test(specifier) || specifier === "bun";
  if (builtIn && isPure(path)) {
    return [{ rule: "purity", where, what: `imports "${specifier}"`, why: WHY_PURE }];
  }
  if (/^bun(:|$)/.test(specifier) && !BUN_FOLDERS.includes(layerOf(path))) {
    return [{ rule: "bun-only-in-net", where, what: `imports "${specifier}"`, why: WHY_BUN }];
  }
  return [];
}

function checkDirection(from: string, to: string, where: string): Violation[] {
  const source = layerOf(from);
  const target = layerOf(to);
  const strangers = STRANGERS.find(({ a, b }) => (a === source && b === target) || (a === target && b === source));
  if (strangers !== undefined) {
    return [{ rule: "strangers", where, what: `${source} imports ${target} ("${to}")`, why: strangers.why }];
  }
  const up = upward(LAYERS, source, target, where, to);
  if (up !== undefined) return [up];
  const inner = edgeLayerOf(from);
  if (inner === undefined || target !== "edge") return [];
  const innerTarget = edgeLayerOf(to);
  // Files directly in src/edge are shared or compose the folders; a folder that imports a composing one makes a cycle.
  if (innerTarget === undefined) return [];
  const innerUp = upward(EDGE_LAYERS, inner, innerTarget, where, to);
  return innerUp === undefined ? [] : [innerUp];
}

function upward(
  layers: readonly { readonly name: string; readonly why: string }[],
  source: string,
  target: string,
  where: string,
  to: string,
): Violation | undefined {
  if (rankOf(layers, target) <= rankOf(layers, source)) return undefined;
  return { rule: "direction", where, what: `${source} imports ${target} ("${to}")`, why: reason(layers, source) };
}

function reason(layers: readonly { readonly name: string; readonly why: string }[], name: string): string {
  return layers.find((layer) => layer.name === name)?.why ?? "";
}

/** Uses of a global: a name that is neither a member, nor a property key, nor a type's own member. */
function* globalUses(tokens: readonly Token[]): Generator<{ name: string; member: string | undefined; line: number }> {
  for (const [index, token] of tokens.entries()) {
    if (token.kind !== "name") continue;
    const before = tokens[index - 1]?.text;
    const after = tokens[index + 1]?.text;
    if (before === "." && tokens[index - 2]?.text !== "." && tokens[index - 2]?.text !== "globalThis") continue;
    if (after === ":" && (before === "{" || before === "," || before === ";" || before === "readonly")) continue;
    yield { name: token.text, member: after === "." ? tokens[index + 2]?.text : undefined, line: token.line };
  }
}

function isImpure(path: string, name: string, member: string | undefined): boolean {
  if (name === "Math") return member === "random";
  return IMPURE_GLOBALS.has(name) && PURE_USES.get(path) !== name;
}

function checkGlobals(module: Module): Violation[] {
  const violations: Violation[] = [];
  const pure = isPure(module.path);
  const mayUseBun = BUN_FOLDERS.includes(layerOf(module.path));
  for (const { name, member, line } of globalUses(module.tokens)) {
    const where = `${module.path}:${line}`;
    if (pure && isImpure(module.path, name, member)) {
      violations.push({ rule: "purity", where, what: `uses the global ${name}`, why: WHY_PURE });
    } else if (name === "Bun" && !mayUseBun) {
      violations.push({ rule: "bun-only-in-net", where, what: "uses the global Bun", why: WHY_BUN });
    } else if (name === "process" && member === "exit" && module.path !== EXIT_FILE) {
      violations.push({ rule: "exit-only-in-main", where, what: "calls process.exit", why: WHY_EXIT });
    }
  }
  return violations;
}

/** A pure module that takes values from an impure one is not pure; types cost nothing. */
function checkInheritedPurity(modules: ReadonlyMap<string, Module>): Violation[] {
  const violations: Violation[] = [];
  const impureBecause = new Map<string, string | undefined>();
  const impurity = (path: string): string | undefined => {
    if (impureBecause.has(path)) return impureBecause.get(path);
    impureBecause.set(path, undefined);
    const module = modules.get(path);
    if (module === undefined) return undefined;
    let because: string | undefined;
    for (const { name, member } of globalUses(module.tokens)) {
      if (isImpure(path, name, member)) because ??= `${path} uses ${name}`;
    }
    for (const { specifier, typeOnly } of module.imports) {
      if (typeOnly) continue;
      if (/^(node|bun):/.test(specifier)) because ??= `${path} imports ${specifier}`;
      else if (isRelative(specifier)) because ??= impurity(resolve(path, specifier));
    }
    impureBecause.set(path, because);
    return because;
  };
  for (const module of modules.values()) {
    if (!isPure(module.path)) continue;
    for (const { specifier, typeOnly, line } of module.imports) {
      if (typeOnly || !isRelative(specifier)) continue;
      const target = resolve(module.path, specifier);
      const because = isPure(target) ? undefined : impurity(target);
      if (because === undefined) continue;
      const what = `takes values from an impure module: ${because}`;
      violations.push({ rule: "purity", where: `${module.path}:${line}`, what, why: WHY_PURE });
    }
  }
  return violations;
}

function checkDefaultExport(module: Module): Violation[] {
  const why = "a name given at the import differs from file to file and cannot be searched for";
  for (const [index, token] of module.tokens.entries()) {
    if (token.text !== "default" || token.kind !== "name") continue;
    const before = module.tokens[index - 1]?.text;
    const renamed = before === "as" && /^[,}]$/.test(module.tokens[index + 1]?.text ?? "");
    if (before !== "export" && !renamed) continue;
    return [{ rule: "default-export", where: `${module.path}:${token.line}`, what: "has a default export", why }];
  }
  return [];
}

function checkLength(module: Module): Violation[] {
  if (module.lines <= MAX_FILE_LINES) return [];
  const why = "a file this long has more than one purpose; split it by what changes together";
  const what = `has ${module.lines} lines, at most ${MAX_FILE_LINES}`;
  return [{ rule: "length", where: `${module.path}:1`, what, why }];
}

/** Reports each cycle once, from the file where the walk met it. Type imports count: they tie designs together too. */
function findCycles(modules: ReadonlyMap<string, Module>): Violation[] {
  const violations: Violation[] = [];
  const done = new Set<string>();
  const walk = (path: string, trail: readonly string[]): void => {
    const start = trail.indexOf(path);
    if (start >= 0) {
      const what = [...trail.slice(start), path].join(" → ");
      const why = "files in a cycle can only be understood, tested and moved together";
      violations.push({ rule: "cycle", where: `${path}:1`, what, why });
      return;
    }
    if (done.has(path)) return;
    for (const { specifier } of modules.get(path)?.imports ?? []) {
      if (isRelative(specifier)) walk(resolve(path, specifier), [...trail, path]);
    }
    done.add(path);
  };
  for (const path of modules.keys()) walk(path, []);
  return violations;
}
