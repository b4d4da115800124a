import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { checkPageHashes, signAdHoc } from "./mach-o.ts";
import { fetchPackage, ROOT, readLock } from "./npm-packages.ts";
import { setVersionResource } from "./pe-version.ts";
import { nativeTarget, type Target } from "./targets.ts";

/** A binary that takes longer than this to say its version does not run, in ms. */
const VERSION_TIMEOUT_MS = 30_000;
const QUICHE_PACKAGE = "@infisical/quic-linux-x64";

export interface CompileOptions {
  readonly version: string;
  /** ISO 8601. */
  readonly date: string;
  /** Second lines of minisign `.pub` files. */
  readonly updateKeys: readonly string[];
  /** Folder with `src`; default: this checkout. */
  readonly root?: string;
}

export interface Compiled {
  /** The binary, in a folder that is the caller's to remove. */
  readonly path: string;
  readonly folder: string;
  /** npm packages that are in it, and whether it is this machine that it is for. */
  readonly packages: readonly string[];
  readonly native: boolean;
}

/** Builds the binary for one target and proves what can be proven of it here. Throws an Error with the reason. */
export function compile(target: Target, options: CompileOptions): Compiled {
  const root = options.root ?? ROOT;
  const native = nativeTarget() === target;
  mkdirSync(join(ROOT, "dist"), { recursive: true });
  // The name of the output file ends up in the binary, its folder does not.
  const folder = mkdtempSync(join(ROOT, "dist", "build."));
  try {
    const path = join(folder, target.os === "windows" ? "culvert.exe" : "culvert");
    const metafile = join(folder, "meta.json");
    if (target.quiche) ensureQuiche();
    runBun(root, [
      // Identifiers stay: profiles and stacks are for people. They cost less than 1 MB, and no time at the start.
      ...["build", join(root, "src", "main.ts"), "--minify-syntax", "--minify-whitespace"],
      ...["--compile", "--bytecode", "--format=esm"],
      ...["--sourcemap=none", "--no-compile-autoload-dotenv", "--no-compile-autoload-bunfig"],
      ...[`--target=${target.bun}`, `--compile-executable-path=${runtimeOf(target, native)}`],
      ...[`--outfile=${path}`, `--metafile=${metafile}`],
      ...["--define", `CULVERT_BUILD_DATE=${JSON.stringify(options.date)}`],
      ...["--define", `CULVERT_TARGET=${JSON.stringify(target.name)}`],
      ...["--define", `CULVERT_QUICHE=${target.quiche}`],
      ...["--define", `CULVERT_UPDATE_KEYS=${JSON.stringify(options.updateKeys.join(" "))}`],
    ]);
    if (target.os === "darwin") signForMac(path);
    if (target.os === "windows") nameForWindows(path, options.version);
    if (native) proveVersion(path, options.version, folder);
    return { path, folder, packages: packagesIn(metafile), native };
  } catch (error) {
    rmSync(folder, { recursive: true, force: true });
    throw error;
  }
}

function runBun(root: string, args: readonly string[]): void {
  const { BUN_OPTIONS: _, ...env } = process.env;
  const { status, stdout, stderr, error } = spawnSync(process.execPath, args, { encoding: "utf8", env, cwd: root });
  const said = `${stdout}${stderr}`;
  // Without bytecode Bun exits with 0 and leaves a binary that does not start.
  if (status !== 0 || said.includes("Failed to generate bytecode")) {
    throw new Error(`bun build failed: ${error?.message ?? said.trim()}`);
  }
}

/** The runtime that the binary is made of: from the npm package that package-lock.json pins. */
function runtimeOf(target: Target, native: boolean): string {
  const locked = readLock().get(target.runtime);
  if (locked === undefined) throw new Error(`package-lock.json does not pin ${target.runtime}`);
  // npm has brought this machine's own already, under the same integrity, and it is what runs this script.
  if (native && locked.version === process.versions["bun"]) return process.execPath;
  return join(fetchPackage(locked), "bin", target.os === "windows" ? "bun.exe" : "bun");
}

/** npm leaves out packages that do not fit the machine it runs on, and the bundler reads from node_modules. */
function ensureQuiche(): void {
  const installed = join(ROOT, "node_modules", QUICHE_PACKAGE);
  if (existsSync(join(installed, "node.napi.node"))) return;
  const locked = readLock().get(QUICHE_PACKAGE);
  if (locked === undefined) throw new Error(`package-lock.json does not pin ${QUICHE_PACKAGE}`);
  mkdirSync(installed, { recursive: true });
  const fetched = fetchPackage(locked);
  for (const name of ["package.json", "node.napi.node"]) copyFileSync(join(fetched, name), join(installed, name));
}

function nameForWindows(path: string, version: string): void {
  const file = readFileSync(path);
  const [release = ""] = version.split("-");
  setVersionResource(file, [...release.split(".").map(Number), 0], {
    CompanyName: "Culvert",
    FileDescription: "Culvert tunnel connector and edge",
    FileVersion: version,
    InternalName: "culvert",
    LegalCopyright: "Apache License 2.0",
    OriginalFilename: "culvert.exe",
    ProductName: "Culvert",
    ProductVersion: version,
  });
  writeFileSync(path, file);
}

function signForMac(path: string): void {
  const file = readFileSync(path);
  if (checkPageHashes(file).wrong > 0) writeFileSync(path, signAdHoc(file, "culvert"));
  const { pages, wrong } = checkPageHashes(readFileSync(path));
  if (pages === 0 || wrong > 0) throw new Error(`${wrong} of ${pages} pages do not match the signature`);
}

/** Bun exits with 0 also when it made a broken binary. */
function proveVersion(path: string, version: string, folder: string): void {
  const empty = join(folder, "empty");
  mkdirSync(empty);
  // An empty folder and environment: what a service manager gives it.
  const { status, stdout, stderr, signal } = spawnSync(path, ["--version"], {
    encoding: "utf8",
    env: {},
    cwd: empty,
    timeout: VERSION_TIMEOUT_MS,
  });
  if (status !== 0) throw new Error(`The binary does not start (${signal ?? status}): ${stderr}`);
  if (!stdout.startsWith(`culvert version ${version} `)) {
    throw new Error(`The binary says "${stdout.trim()}" instead of version ${version}`);
  }
}

/** Names of the npm packages in the bundle. */
function packagesIn(metafile: string): readonly string[] {
  const { inputs }: { inputs: Record<string, unknown> } = JSON.parse(readFileSync(metafile, "utf8"));
  const names = Object.keys(inputs).map((path) => /.*node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1]);
  return [...new Set(names.filter((name) => name !== undefined))].sort();
}

/** The shortest and the middle of some starts of `--version`, in ms. */
export function measureStart(path: string, runs = 21): { readonly bestMs: number; readonly medianMs: number } {
  const times = Array.from({ length: runs }, () => {
    const began = performance.now();
    const { status } = spawnSync(path, ["--version"], { env: {}, cwd: dirname(path) });
    if (status !== 0) throw new Error(`${path} --version ended with ${status}`);
    return performance.now() - began;
  }).sort((a, b) => a - b);
  return { bestMs: times[0] as number, medianMs: times[runs >> 1] as number };
}
