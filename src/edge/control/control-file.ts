import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { describe, systemCode, TunnelError } from "../../core/errors.ts";
import { replaceFile } from "../../core/whole-file.ts";
import { LOOPBACK_HOSTS, type LoopbackHost } from "../../net/loopback.ts";

const NAME = "control.json";

/** Where a running edge answers, and the secret that lets one ask. */
export interface ControlAddress {
  readonly host: LoopbackHost;
  readonly port: number;
  /** 32 random bytes in hex, made anew at each start. */
  readonly token: string;
}

/**
 * Writes down where the edge of this state directory answers, for its owner only. Replaces what an edge left behind
 * that was killed. It says nothing after a crash, so it need not reach the disk.
 */
export function writeControlFile(dir: string, address: ControlAddress): void {
  const path = join(dir, NAME);
  try {
    replaceFile(path, `${JSON.stringify(address)}\n`, { mode: 0o600, durable: "none" });
  } catch (error) {
    throw new TunnelError("store.failed", `Cannot write "${path}": ${describe(error)}`, { cause: error });
  }
}

/** Undefined when there is none, or none that makes sense. Throws `store.failed` when it cannot be read. */
export function readControlFile(dir: string): ControlAddress | undefined {
  const path = join(dir, NAME);
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    if (systemCode(error) === "ENOENT") return undefined;
    throw new TunnelError("store.failed", `Cannot read "${path}": ${describe(error)}`, { cause: error });
  }
  try {
    const { host: named, port, token } = JSON.parse(text) as { host?: unknown; port?: unknown; token?: unknown };
    // The token goes to no other machine, whatever the file says.
    const host = LOOPBACK_HOSTS.find((known) => known === named);
    if (host === undefined) return undefined;
    if (typeof port !== "number" || !Number.isInteger(port) || port < 1 || port > 65_535) return undefined;
    return typeof token === "string" && /^[0-9a-f]{64}$/.test(token) ? { host, port, token } : undefined;
  } catch {
    return undefined;
  }
}

/** Removes the file of this edge; the one of an edge that has taken over the directory stays. */
export function removeControlFile(dir: string, own: ControlAddress): void {
  if (readControlFile(dir)?.token === own.token) rmSync(join(dir, NAME), { force: true });
}
