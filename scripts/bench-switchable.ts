import { cpSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { compile } from "./release/compile.ts";
import { sourceVersion } from "./release/identity.ts";
import { ROOT } from "./release/npm-packages.ts";
import { nativeTarget } from "./release/targets.ts";

/** What a connector does for whoever watches it: nothing; counts requests; counts them and writes a line for each. */
export const MODES = ["nothing", "counted", "logged"] as const;
export type Mode = (typeof MODES)[number];
/** Each of them sets one mode, in their order; the connector then says so in its log, on a line `mode NAME`. */
export const MODE_SIGNALS = ["SIGWINCH", "SIGURG", "SIGCONT"] as const;

const PROXY = join("src", "proxy", "proxy.ts");
const CONNECTOR = join("src", "connector", "connector.ts");
const MODE = "globalThis.culvertBenchMode";
/** Every line that runs for a request only to count it, its times included, or to log it. */
const SWITCHED: readonly (readonly [file: string, line: string, mode: Mode])[] = [
  [PROXY, "deps.observer.requestStarted(kindOf(request));", "counted"],
  [PROXY, "this.#startedAtMs = deps.clock.nowMs();", "counted"],
  [PROXY, "this.#answeredAfterMs = this.#clock.nowMs() - this.#startedAtMs;", "counted"],
  [PROXY, "this.#tally.toVisitor += chunk.length;", "counted"],
  [PROXY, "this.#tally.toOrigin += bytes;", "counted"],
  [PROXY, "this.#observer.requestEnded({", "counted"],
  [CONNECTOR, "log(request);", "logged"],
];

/**
 * Builds this source so that a signal switches its counting and its request log on and off: metrics cannot be switched off, and
 * two processes of one program differ by more than what is looked for. Gives the binary. Throws when the source has not each
 * of the lines once.
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
  for (const [file, line, mode] of SWITCHED) {
    const parts = readFileSync(join(root, file), "utf8").split(line);
    if (parts.length !== 2) throw new Error(`${file} has ${parts.length - 1} times: ${line}`);
    writeFileSync(join(root, file), parts.join(`if (${MODE} >= ${MODES.indexOf(mode)}) ${line}`));
  }
  const main = join(root, "src", "main.ts");
  const switches = MODES.map(
    (mode, index) =>
      `process.on("${MODE_SIGNALS[index]}", () => { ${MODE} = ${index}; process.stderr.write("mode ${mode}\\n"); });\n`,
  );
  writeFileSync(main, `${MODE} = 0;\n${switches.join("")}${readFileSync(main, "utf8")}`);
  const compiled = compile(target, { version: sourceVersion(), date: "1970-01-01T00:00:00Z", updateKeys: [], root });
  const path = join(folder, "culvert-switchable");
  renameSync(compiled.path, path);
  for (const left of [compiled.folder, root]) rmSync(left, { recursive: true });
  return path;
}
