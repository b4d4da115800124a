import { spawnSync } from "node:child_process";

/** What building the lab needs, beside root. Debian has them in iproute2, nftables and conntrack. */
const NEEDED = ["ip", "tc", "nft", "conntrack"] as const;

/** Runs a command that answers at once. Throws with what it said when it fails. */
export function command(...argv: readonly string[]): string {
  const result = tryCommand(...argv);
  if (!result.ok) throw new Error(`${argv.join(" ")}: ${result.text}`);
  return result.text;
}

export function tryCommand(...argv: readonly string[]): { readonly ok: boolean; readonly text: string } {
  const [program = "", ...args] = argv;
  const { status, stdout, stderr, error } = spawnSync(program, args, { encoding: "utf8", timeout: 10_000 });
  const ok = status === 0;
  return { ok, text: ok ? stdout : (error?.message ?? stderr).trim() };
}

/** Why no lab can be built here; undefined where it can. */
export function netlabMissing(): string | undefined {
  if (process.platform !== "linux") return "network namespaces need Linux";
  if (process.getuid?.() !== 0) return "network namespaces need root";
  const missing = NEEDED.filter((name) => !tryCommand("sh", "-c", `command -v ${name}`).ok);
  if (missing.length > 0) return `not installed: ${missing.join(", ")}`;
  const probe = `culvert-${process.pid}-probe`;
  const made = tryCommand("ip", "netns", "add", probe);
  tryCommand("ip", "netns", "del", probe);
  return made.ok ? undefined : `the kernel refuses a network namespace: ${made.text}`;
}
