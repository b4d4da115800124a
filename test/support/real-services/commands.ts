import { readdirSync } from "node:fs";
import { startTcpOrigin } from "../tcp-origin.ts";

const POSTGRES_VERSIONS = "/usr/lib/postgresql";

/** Debian keeps the servers of PostgreSQL out of PATH, and daemons out of the PATH of users. */
function searchPath(): string {
  let versions: string[] = [];
  try {
    versions = readdirSync(POSTGRES_VERSIONS).sort((one, other) => Number(other) - Number(one));
  } catch {
    // Another distribution, or no PostgreSQL: PATH decides.
  }
  const newest = versions.slice(0, 1).map((version) => `${POSTGRES_VERSIONS}/${version}/bin`);
  return [...newest, process.env["PATH"] ?? "", "/usr/sbin", "/sbin"].join(":");
}

const PATH = searchPath();

/** Where a command is; its name alone where it is not. */
export function commandPath(name: string): string {
  return Bun.which(name, { PATH }) ?? name;
}

/** Why a test that needs these commands cannot run here; undefined = it can. */
export function missingCommands(...names: readonly string[]): string | undefined {
  const missing = names.filter((name) => Bun.which(name, { PATH }) === null);
  return missing.length === 0 ? undefined : `not installed: ${missing.join(", ")}`;
}

/** Why a test that needs the rights of root cannot run here; undefined = it can. */
export function missingRoot(): string | undefined {
  return process.getuid?.() === 0 ? undefined : "needs root";
}

/** A port of loopback that is free now. */
export async function freePort(): Promise<number> {
  const holder = await startTcpOrigin(() => {});
  await holder[Symbol.asyncDispose]();
  return holder.port;
}
