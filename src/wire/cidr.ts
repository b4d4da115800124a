import { formatIp, ipToBytes } from "./ip-bytes.ts";

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
  return address.length > 0 && sameBits(address, block.network, block.bits);
}

/** True when all of `inner` lies in `outer`. */
export function cidrWithin(inner: Cidr, outer: Cidr): boolean {
  return inner.bits >= outer.bits && sameBits(inner.network, outer.network, outer.bits);
}

/** Canonical text: the bits behind the prefix are zero, and IPv4 is written as such. */
export function formatCidr({ network, bits }: Cidr): string {
  const bytes = network.map((byte, i) => byte & (0xff << (8 - Math.min(8, Math.max(0, bits - 8 * i)))));
  const text = formatIp(bytes) ?? "";
  return `${text}/${text.includes(":") ? bits : bits - 96}`;
}

function sameBits(a: Uint8Array, b: Uint8Array, bits: number): boolean {
  const whole = bits >> 3;
  for (let i = 0; i < whole; i++) if (a[i] !== b[i]) return false;
  const rest = bits & 7;
  if (rest === 0) return true;
  return (((a[whole] as number) ^ (b[whole] as number)) & (0xff << (8 - rest)) & 0xff) === 0;
}
