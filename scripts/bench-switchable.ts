import { cpSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { compile } from "./release/compile.ts";
import { sourceVersion } from "./release/identity.ts";
import { ROOT } from "./release/npm-packages.ts";
import { nativeTarget } from "./release/targets.ts";

const MAIN = join("src", "main.ts");
const SLICES = join("src", "bench-slices.ts");

/**
 * A line that runs for a request only to count it, its times included, or to log it; `else`: what the rest needs all the same;
 * `tally`: where it is told that it ran.
 */
interface Switched {
  readonly line: string;
  readonly else?: string;
  readonly tally?: "counted" | "logged";
}

const SWITCHED: Readonly<Record<string, readonly Switched[]>> = {
  [join("src", "proxy", "proxy.ts")]: [
    { line: "deps.observer.requestStarted(kindOf(request));", tally: "counted" },
    { line: "this.#startedAtMs = deps.clock.nowMs();", else: "this.#startedAtMs = 0;" },
    {
      line: "this.#tally = deps.observer.tallyOf(this.#kind, route.ruleIndex);",
      else: "this.#tally = bench.tally;",
    },
    { line: "this.#answeredAfterMs = this.#clock.nowMs() - this.#startedAtMs;" },
    { line: "this.#tally.toVisitor += chunk.length;" },
    { line: "this.#tally.toOrigin += bytes;" },
    { line: "this.#observer.requestEnded({" },
  ],
  [join("src", "connector", "connector.ts")]: [{ line: "log(request);", tally: "logged" }],
};
/** Runs once for each request, whatever is counted. */
const FOR_EACH_REQUEST = "this.#kind = kindOf(stream.request);";

/**
 * Builds this source as a connector whose counting and request log can be switched off and on while it runs, which it does as
 * bench-slices.ts says: metrics cannot be switched off otherwise, and two processes of one program differ by more than what is
 * looked for. Gives the binary. Throws when the source has not each of the lines once.
 */
export function buildSwitchable(folder: string): string {
  const target = nativeTarget();
  if (target === undefined) throw new Error("There is no target for this machine");
  const root = join(folder, "switchable");
  mkdirSync(root);
  for (const name of ["src", "package.json", "tsconfig.json", "install.sh", "install.ps1"]) {
    cpSync(join(ROOT, name), join(root, name), { recursive: true });
  }
  symlinkSync(join(ROOT, "node_modules"), join(root, "node_modules"));
  cpSync(join(ROOT, "scripts", "bench-slices.ts"), join(root, SLICES));
  const edit = (file: string, change: (source: string) => string): void => {
    const path = join(root, file);
    const from = relative(dirname(path), join(root, SLICES));
    const specifier = from.startsWith(".") ? from : `./${from}`;
    writeFileSync(path, `import { bench, takeSlices } from "${specifier}";\n${change(readFileSync(path, "utf8"))}`);
  };
  for (const [file, switched] of Object.entries(SWITCHED)) {
    edit(file, (source) => {
      let changed = source;
      for (const { line, else: otherwise, tally } of switched) {
        const left = otherwise === undefined ? "" : ` else ${otherwise}`;
        const told = tally === undefined ? line : `{ bench.${tally} += 1; ${line} }`;
        changed = replaceOnce(changed, line, `if (bench.watched) ${told}${left}`);
      }
      if (!changed.includes(FOR_EACH_REQUEST)) return changed;
      return replaceOnce(changed, FOR_EACH_REQUEST, `${FOR_EACH_REQUEST} bench.requests += 1;`);
    });
  }
  edit(MAIN, (source) => `takeSlices();\n${source}`);
  const compiled = compile(target, { version: sourceVersion(), date: "1970-01-01T00:00:00Z", updateKeys: [], root });
  const path = join(folder, "culvert-switchable");
  renameSync(compiled.path, path);
  for (const left of [compiled.folder, root]) rmSync(left, { recursive: true });
  return path;
}

function replaceOnce(source: string, line: string, by: string): string {
  const parts = source.split(line);
  if (parts.length !== 2) throw new Error(`The source has ${parts.length - 1} times: ${line}`);
  return parts.join(by);
}
