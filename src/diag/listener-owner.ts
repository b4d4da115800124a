import { readFileSync, statSync } from "node:fs";
import { isLoopbackIp } from "../net/loopback.ts";
import type { StatusAddress } from "./local-status.ts";

/** State of a socket that listens, in Linux's tables. */
const LISTENING = "0A";
const ANY = /^0+$/;

/**
 * The account that listens at an address of this machine, as the system knows it and not as the listener tells. Undefined
 * = another machine's address, or the system does not tell, or accounts share the port. Only Linux tells of ports.
 */
export function listenerUid(
  address: StatusAddress,
  read: (path: string) => string = (path) => readFileSync(path, "utf8"),
): number | undefined {
  try {
    if ("path" in address) return statSync(address.path).uid;
    if (!isLoopbackIp(address.host)) return undefined;
    const sockets = ["/proc/net/tcp", "/proc/net/tcp6"].flatMap((path) => listeners(attempt(() => read(path)) ?? ""));
    const ofPort = sockets.filter(({ port }) => port === address.port);
    const wanted = hexOf(address.host);
    const exact = ofPort.filter(({ ip }) => ip === wanted || ip === mapped(wanted));
    // A socket for this very address goes before those for any.
    const uids = new Set((exact.length > 0 ? exact : ofPort.filter(({ ip }) => ANY.test(ip))).map(({ uid }) => uid));
    const [uid] = uids;
    return uids.size === 1 ? uid : undefined;
  } catch {
    return undefined;
  }
}

interface Listener {
  /** As the table has it: 32-bit words in hexadecimal, each with its lowest byte first. */
  readonly ip: string;
  readonly port: number;
  readonly uid: number;
}

function listeners(table: string): readonly Listener[] {
  return table.split("\n").flatMap((line) => {
    const [, local = "", , state, , , , uid] = line.trim().split(/\s+/);
    const [ip = "", port = ""] = local.split(":");
    if (state !== LISTENING || uid === undefined) return [];
    return [{ ip, port: Number.parseInt(port, 16), uid: Number(uid) }];
  });
}

/** Of a loopback address. */
function hexOf(ip: string): string {
  if (ip === "::1") return "00000000000000000000000001000000";
  const octets = ip.replace(/^::ffff:/i, "").split(".");
  return Buffer.from(octets.map(Number).reverse()).toString("hex").toUpperCase();
}

function mapped(hex: string): string {
  return `0000000000000000FFFF0000${hex}`;
}

function attempt<T>(take: () => T): T | undefined {
  try {
    return take();
  } catch {
    return undefined;
  }
}
