import { ipToBytes } from "./ip-bytes.ts";

/** A block of addresses; IPv4 ones in their mapped form. */
export interface Cidr {
  readonly network: Uint8Array;
  /** Significant bits of the 128. */
  readonly bits: number;
}

/** Reads `10.0.0.0/8`, `2001:db8::/32` or a single address; undefined when it is none of these. */
export function parseCidr(text: string): Cidr | undefined {
  const slash = text.indexOf("/");
  const address = slash < 0 ? text : text.slice(0, slash);
  const network = ipToBytes(address);
  if (network.length === 0) return undefined;
  const own = address.includes(":") ? 128 : 32;
  const given = slash < 0 ? String(own) : text.slice(slash + 1);
  if (!/^\d{1,3}$/.test(given) || Number(given) > own) return undefined;
  return { network, bits: 128 - own + Number(given) };
}

/** True when the address, as text, lies in the block. */
export function cidrContains(block: Cidr, ip: string): boolean {
  const address = ipToBytes(ip);
  if (address.length === 0) return false;
  const whole = block.bits >> 3;
  for (let i = 0; i < whole; i++) if (address[i] !== block.network[i]) return false;
  const rest = block.bits & 7;
  if (rest === 0) return true;
  const mask = 0xff << (8 - rest);
  return (((address[whole] as number) ^ (block.network[whole] as number)) & mask & 0xff) === 0;
}
