import { blockHas, compileIpRules, type IpRule } from "../../ingress/ip-rules.ts";
import { type Cidr, parseCidr } from "../../wire/cidr.ts";
import { formatIp, ipToBytes } from "../../wire/ip-bytes.ts";

/** True when a visitor may be connected to this address. */
export type AddressPolicy = (ip: string, port: number) => boolean;

/** `socks-proxy`: only what a rule allows (surface: section 11). */
export function allowedByRules(rules: readonly IpRule[]): AddressPolicy {
  const decide = compileIpRules(rules);
  return (ip, port) => decide(ip, port) === "allow";
}

/**
 * `bastion`: with rules, only what they allow. Without rules everything that is not {@link GUARDED}: a jump host must
 * not turn into a way to the connector's own machine or to its cloud's credentials (design: decision 5).
 */
export function bastionPolicy(rules: readonly IpRule[]): AddressPolicy {
  return rules.length > 0 ? allowedByRules(rules) : (ip) => !isGuarded(ip);
}

/** Loopback, link-local, this host, multicast, and where clouds hand out metadata and credentials. */
const GUARDED: readonly Cidr[] = [
  ...["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "255.255.255.255/32"],
  ...["::/128", "::1/128", "fe80::/10", "fec0::/10", "ff00::/8"],
  // Alibaba, Azure, Oracle; then AWS, Google, Scaleway over IPv6.
  ...["100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32"],
  ...["fd00:ec2::/32", "fd20:ce::254/128", "fd00:42::42/128"],
].map((text): Cidr => {
  const block = parseCidr(text);
  if (block === undefined) throw new Error(`Not a block: ${text}`);
  return block;
});

/** Prefixes whose last four bytes are an IPv4 address that the network may put in their place (RFC 6052, RFC 4291). */
const CARRYING: readonly { readonly block: Cidr | undefined; readonly at: number }[] = [
  { block: parseCidr("::/96"), at: 12 },
  { block: parseCidr("64:ff9b::/96"), at: 12 },
  { block: parseCidr("64:ff9b:1::/48"), at: 12 },
  // 6to4 (RFC 3056).
  { block: parseCidr("2002::/16"), at: 2 },
];

function isGuarded(ip: string): boolean {
  const bytes = ipToBytes(ip);
  // What is no address is nothing to connect to.
  if (bytes.length === 0 || GUARDED.some((block) => blockHas(block, ip))) return true;
  const carried = CARRYING.find(({ block }) => block !== undefined && blockHas(block, ip));
  if (carried === undefined) return false;
  const inner = formatIp(bytes.subarray(carried.at, carried.at + 4));
  return inner !== undefined && GUARDED.some((block) => blockHas(block, inner));
}
