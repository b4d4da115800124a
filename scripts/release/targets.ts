import { existsSync } from "node:fs";

export interface Target {
  /** As in file names and in the release manifest. */
  readonly name: string;
  /** npm package with Bun's runtime for it, pinned by package-lock.json. */
  readonly runtime: string;
  /** As `bun build --target` names it. */
  readonly bun: string;
  readonly os: "linux" | "darwin" | "windows";
  /** The QUIC addon exists for it. */
  readonly quiche: boolean;
  /** Other names of the same bytes. */
  readonly twins: readonly string[];
}

export const TARGETS: readonly Target[] = [
  // Bun 1.4.5 publishes the same bytes as `-baseline`: nothing in them needs AVX. Installers may ask for that name.
  linux("linux-x64", "linux-x64", { quiche: true, twins: ["linux-x64-baseline"] }),
  linux("linux-arm64", "linux-aarch64"),
  linux("linux-x64-musl", "linux-x64-musl"),
  linux("linux-arm64-musl", "linux-aarch64-musl"),
  { ...other("darwin-x64", "darwin-x64"), os: "darwin" },
  { ...other("darwin-arm64", "darwin-aarch64"), os: "darwin" },
  { ...other("windows-x64", "windows-x64"), os: "windows" },
  { ...other("windows-arm64", "windows-aarch64"), os: "windows" },
];

/** A target by its name or by a twin's. */
export function findTarget(name: string): Target | undefined {
  return TARGETS.find((target) => target.name === name || target.twins.includes(name));
}

/** What this machine itself runs. */
export function nativeTarget(): Target | undefined {
  const os = process.platform === "win32" ? "windows" : process.platform;
  const loader = { x64: "/lib64/ld-linux-x86-64.so.2", arm64: "/lib/ld-linux-aarch64.so.1" }[process.arch as string];
  const musl = os === "linux" && loader !== undefined && !existsSync(loader) ? "-musl" : "";
  return findTarget(`${os}-${process.arch}${musl}`);
}

export function binaryName(version: string, target: string): string {
  return `culvert-${version}-${target}${target.startsWith("windows-") ? ".exe" : ""}`;
}

function other(name: string, bun: string): Omit<Target, "os"> {
  return { name, runtime: `@oven/bun-${bun}`, bun: `bun-${bun}`, quiche: false, twins: [] };
}

function linux(name: string, bun: string, rest: Partial<Target> = {}): Target {
  return { ...other(name, bun), os: "linux", ...rest };
}
