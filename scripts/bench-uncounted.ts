import { cpSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { compile } from "./release/compile.ts";
import { sourceVersion } from "./release/identity.ts";
import { ROOT } from "./release/npm-packages.ts";
import { nativeTarget } from "./release/targets.ts";

const PROXY = join("src", "proxy", "proxy.ts");
/** What a request does only for metrics and its line in the log, times included, and what stands there without them. */
const CUTS: readonly (readonly [what: string, without: string])[] = [
  ["    deps.observer.requestStarted(kindOf(request));\n", ""],
  ["this.#startedAtMs = deps.clock.nowMs();", "this.#startedAtMs = 0;"],
  ["    this.#answeredAfterMs = this.#clock.nowMs() - this.#startedAtMs;\n", ""],
  ["this.#tally = deps.observer.tallyOf(this.#kind, route.ruleIndex);", "this.#tally = { toOrigin: 0, toVisitor: 0 };"],
  ["    this.#tally.toVisitor += chunk.length;\n", ""],
  ["    this.#tally.toOrigin += bytes;\n", ""],
  // It is only called for a request that is over.
  [
    '  #ended(outcome: EndedRequest["outcome"], status: number | undefined): void {\n',
    "$&    if (this.#over) return;\n",
  ],
];

/**
 * Builds this source without what counts requests, since metrics cannot be switched off, only left unread; gives the binary.
 * Throws when the source no longer has one of the lines that are left out.
 */
export function buildUncounted(folder: string): string {
  const target = nativeTarget();
  if (target === undefined) throw new Error("There is no target for this machine");
  const root = join(folder, "uncounted");
  mkdirSync(root);
  cpSync(join(ROOT, "src"), join(root, "src"), { recursive: true });
  for (const name of ["package.json", "tsconfig.json", "install.sh", "install.ps1"])
    cpSync(join(ROOT, name), join(root, name));
  symlinkSync(join(ROOT, "node_modules"), join(root, "node_modules"));
  let source = readFileSync(join(root, PROXY), "utf8");
  for (const [what, without] of CUTS) {
    if (source.split(what).length !== 2) throw new Error(`${PROXY} has no single "${what.trim()}"`);
    source = source.replace(what, without);
  }
  writeFileSync(join(root, PROXY), source);
  const compiled = compile(target, { version: sourceVersion(), date: "1970-01-01T00:00:00Z", updateKeys: [], root });
  const path = join(folder, "culvert-uncounted");
  renameSync(compiled.path, path);
  for (const left of [compiled.folder, root]) rmSync(left, { recursive: true });
  return path;
}
