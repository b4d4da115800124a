import { spawnSync } from "node:child_process";
import { chmodSync, copyFileSync, lutimesSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { gzipSync } from "node:zlib";
import { LICENSES_FILE } from "../licenses.ts";
import { ROOT } from "../npm-packages.ts";

/** What packages of every kind are made of. */
export interface PackageInput {
  /** The binary, for linux with glibc. */
  readonly binary: string;
  readonly arch: "x64" | "arm64";
  readonly version: string;
  /** Time of the commit, in seconds since 1970: every file in a package has it. */
  readonly epochS: number;
  /** Where the package is written, and working files meanwhile. */
  readonly out: string;
  readonly work: string;
}

export const MAINTAINER = "Culvert maintainers <maintainers@culvert.example>";

/** Fills a folder with the tree that deb and rpm install; gives its size in bytes. */
export function writeLinuxTree(folder: string, manager: string, { binary, epochS }: PackageInput): number {
  put(folder, "usr/bin/culvert", 0o755, (path) => copyFileSync(binary, path));
  // `culvert update` leaves a program beside this word to the package manager.
  put(folder, "usr/lib/culvert/package-manager", 0o644, (path) => writeFileSync(path, `${manager}\n`));
  put(folder, "usr/share/doc/culvert/copyright", 0o644, (path) => copyFileSync(LICENSES_FILE, path));
  put(folder, "usr/share/doc/culvert/changelog.gz", 0o644, (path) =>
    writeFileSync(path, gzipSync(readFileSync(join(ROOT, "CHANGELOG.md")), { level: 9 })),
  );
  setTimes(folder, epochS);
  return readFileSync(binary).length;
}

/** Writes one file with its mode, and the folders above it. */
export function put(folder: string, name: string, mode: number, write: (path: string) => void): void {
  const path = join(folder, name);
  mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
  write(path);
  chmodSync(path, mode);
}

/** Gives everything below a folder, and the folder, one time; folders the mode that packages expect. */
export function setTimes(folder: string, epochS: number): void {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) setTimes(path, epochS);
    else lutimesSync(path, epochS, epochS);
  }
  // Whatever the umask of whoever builds.
  chmodSync(folder, 0o755);
  lutimesSync(folder, epochS, epochS);
}

/** Runs a tool with nothing of our environment that could get into its results; throws with what it said. */
export function runTool(argv: readonly string[], epochS: number, env: Readonly<Record<string, string>> = {}): string {
  const [command = "", ...args] = argv;
  const { PATH = "/usr/bin:/bin" } = process.env;
  const own = { PATH, LC_ALL: "C", TZ: "UTC", SOURCE_DATE_EPOCH: `${epochS}`, ...env };
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: "utf8", env: own });
  if (status !== 0) throw new Error(`${command}: ${error?.message ?? `${stderr}${stdout}`.trim()}`);
  return stdout;
}

/** The newest release of glibc that a binary asks for, such as `2.17`, from the names of symbol versions in it. */
export function glibcOf(binary: string): string {
  const said = spawnSync("readelf", ["-V", "-W", binary], { encoding: "utf8", maxBuffer: 64 * 1024 * 1024 });
  if (said.status !== 0) throw new Error(`readelf: ${said.error?.message ?? said.stderr.trim()}`);
  const versions = [...said.stdout.matchAll(/GLIBC_(\d+)\.(\d+)/g)].map(([, major, minor]) => [
    Number(major),
    Number(minor),
  ]);
  const [newest] = versions.sort(([a = 0, b = 0], [c = 0, d = 0]) => c - a || d - b);
  if (newest === undefined) throw new Error(`${binary} names no glibc`);
  return newest.join(".");
}

/** A pre-release sorts before its release in deb and rpm when it is written with a tilde. */
export function packageVersion(version: string): string {
  return version.replace("-", "~");
}
