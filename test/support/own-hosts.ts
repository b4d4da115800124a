import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { runProcess } from "./processes.ts";

/** A file for {@link withHosts}: addresses of a name, in the order in which a resolver finds them. */
export function hostsFile(dir: string, name: string, addresses: readonly string[]): string {
  const path = join(dir, "hosts");
  writeFileSync(path, addresses.map((address) => `${address} ${name}\n`).join(""));
  return path;
}

/** The command line with a hosts file of its own, in a mount namespace of its own. */
export function withHosts(file: string, argv: readonly string[]): readonly string[] {
  return ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', file, ...argv];
}

/** False where making a mount namespace is not allowed, or not possible. */
export async function canHaveOwnHosts(): Promise<boolean> {
  if (process.getuid?.() !== 0 || Bun.which("unshare") === null) return false;
  return (await runProcess(withHosts("/dev/null", ["true"]))).code === 0;
}
