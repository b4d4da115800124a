import { existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";

const ROOT = join(import.meta.dirname, "..", "..");
const BUILT = join(ROOT, "dist", "culvert");

/** The compiled binary when there is one that is newer than the source. */
export function builtBinary(): string | undefined {
  const named = process.env["CULVERT_BIN"];
  if (named !== undefined && named !== "") return named;
  if (!existsSync(BUILT)) return undefined;
  return statSync(BUILT).mtimeMs >= newestSourceMs() ? BUILT : undefined;
}

/** The command line of the Culvert under test: `CULVERT_BIN`, else an up-to-date dist/culvert, else the source. */
export function culvertCommand(): readonly string[] {
  const binary = builtBinary();
  return binary === undefined ? [process.execPath, join(ROOT, "src", "main.ts")] : [binary];
}

/** Deno and the source, for the second runtime; undefined where Deno does not exist. */
export function denoCommand(): readonly string[] | undefined {
  const deno = join(ROOT, "node_modules", ".bin", "deno");
  return existsSync(deno) ? [deno, "run", "-A", join(ROOT, "src", "main.ts")] : undefined;
}

function newestSourceMs(): number {
  const folder = join(ROOT, "src");
  const files = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".ts"));
  return Math.max(...files.map((name) => statSync(join(folder, name)).mtimeMs));
}
