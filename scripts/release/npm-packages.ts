import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";

export const ROOT = join(import.meta.dirname, "..", "..");

export interface LockedPackage {
  readonly name: string;
  readonly version: string;
  /** `sha512-…` of the package's archive. */
  readonly integrity: string;
  readonly dev: boolean;
}

/** What package-lock.json pins, without what is nested below another package. */
export function readLock(): ReadonlyMap<string, LockedPackage> {
  const lock: { packages: Record<string, { version: string; integrity?: string; dev?: boolean }> } = JSON.parse(
    readFileSync(join(ROOT, "package-lock.json"), "utf8"),
  );
  const found = new Map<string, LockedPackage>();
  for (const [path, { version, integrity = "", dev = false }] of Object.entries(lock.packages)) {
    const name = /^node_modules\/((?:@[^/]+\/)?[^/]+)$/.exec(path)?.[1];
    if (name !== undefined) found.set(name, { name, version, integrity, dev });
  }
  return found;
}

/** The folder of a package that package-lock.json pins, fetched from npm once; throws when it cannot be had. */
export function fetchPackage({ name, version, integrity }: LockedPackage): string {
  const cache = join(ROOT, "node_modules", ".cache", "culvert-release");
  const folder = join(cache, `${name.replace("@", "").replace("/", "-")}-${version}`);
  if (existsSync(folder)) return folder;
  mkdirSync(cache, { recursive: true });
  const work = mkdtempSync(join(cache, "fetch-"));
  try {
    const archive = execFileSync("npm", ["pack", "--silent", "--pack-destination", work, `${name}@${version}`], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "pipe"],
      shell: process.platform === "win32",
    }).trim();
    const actual = `sha512-${createHash("sha512")
      .update(readFileSync(join(work, archive)))
      .digest("base64")}`;
    if (actual !== integrity) throw new Error(`the archive is not the one that package-lock.json pins`);
    execFileSync("tar", ["-xzf", archive], { cwd: work, stdio: "pipe" });
    renameSync(join(work, "package"), folder);
    return folder;
  } catch (error) {
    const text = error instanceof Error && "stderr" in error ? String(error.stderr) : "";
    const reason = /npm error ((?!code).+)/.exec(text)?.[1] ?? (error instanceof Error ? error.message : String(error));
    throw new Error(`Cannot fetch ${name}@${version} from npm: ${reason.trim()}`);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}
