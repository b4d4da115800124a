import { nearest } from "../core/nearest.ts";
import { type Cidr, cidrContains, parseCidr } from "../wire/cidr.ts";
import { ipToBytes } from "../wire/ip-bytes.ts";
import { didYouMean, type IssueList, type IssuePath } from "./issue.ts";

/** One line of the list of addresses that a bastion or a SOCKS proxy may reach; the first that fits decides. */
export interface IpRule {
  /** A block such as `10.0.0.0/8`, as written. */
  readonly prefix: string;
  /** 1 to 65535; none = all. */
  readonly ports: readonly number[];
  readonly allow: boolean;
}

export const IP_RULE_KEYS = ["prefix", "ports", "allow"] as const;
const MAX_PORT = 65_535;

/** Reads an `ipRules` list; undefined, with issues, when something in it is wrong (surface: section 10.4). */
export function parseIpRules(raw: unknown, at: IssuePath, issues: IssueList): readonly IpRule[] | undefined {
  if (!Array.isArray(raw)) {
    issues.error(at, '"ipRules" must be a list');
    return undefined;
  }
  const entries: readonly unknown[] = raw;
  const rules = entries.map((entry, i) => parseIpRule(entry, [...at, i], issues)).filter((rule) => rule !== undefined);
  return rules.length === entries.length ? rules : undefined;
}

function parseIpRule(entry: unknown, at: IssuePath, issues: IssueList): IpRule | undefined {
  if (typeof entry !== "object" || entry === null || Array.isArray(entry)) {
    issues.error(at, "An ipRules entry must be a map with a prefix");
    return undefined;
  }
  const map: Record<string, unknown> = { ...entry };
  for (const key of Object.keys(map)) {
    if ((IP_RULE_KEYS as readonly string[]).includes(key)) continue;
    issues.warning([...at, key], `Unknown key "${key}"`, didYouMean(nearest(key, IP_RULE_KEYS)));
  }
  const { prefix, ports = [], allow = false } = map;
  let wrong = false;
  const refuse = (key: (typeof IP_RULE_KEYS)[number], message: string): void => {
    wrong = true;
    issues.error(map[key] === undefined ? at : [...at, key], message);
  };
  if (typeof prefix !== "string" || prefix === "")
    refuse("prefix", "An ipRules entry needs a prefix such as 10.0.0.0/8");
  else if (parseCidr(prefix) === undefined) refuse("prefix", `Prefix "${prefix}" is not a block such as 10.0.0.0/8`);
  const numbers = Array.isArray(ports) ? ports.filter(isPort) : [];
  if (!Array.isArray(ports) || numbers.length !== ports.length) {
    refuse("ports", `"ports" must be a list of numbers from 1 to ${MAX_PORT}`);
  }
  if (typeof allow !== "boolean") refuse("allow", '"allow" must be true or false');
  return wrong ? undefined : { prefix: String(prefix), ports: numbers, allow: allow === true };
}

function isPort(value: unknown): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 1 && value <= MAX_PORT;
}

/** Says what the rules say about an address and port; undefined = no rule is about it. */
export type IpDecision = (ip: string, port: number) => "allow" | "deny" | undefined;

/** Bits that an IPv4 address has in front of it in its mapped form. */
const MAPPED_BITS = 96;

/**
 * Makes the rules ready to ask; the first that fits decides (surface: section 11). IPv4 addresses, mapped ones too, are
 * only in IPv4 blocks: `::/0` is about IPv6 alone, as it is to cloudflared.
 */
export function compileIpRules(rules: readonly IpRule[]): IpDecision {
  const compiled = rules.flatMap((rule) => {
    const block = parseCidr(rule.prefix);
    return block === undefined ? [] : [{ block, ports: new Set(rule.ports), allow: rule.allow }];
  });
  return (ip, port) => {
    const hit = compiled.find(({ block, ports }) => (ports.size === 0 || ports.has(port)) && blockHas(block, ip));
    return hit === undefined ? undefined : hit.allow ? "allow" : "deny";
  };
}

/** True when the address lies in the block and is of its family. */
export function blockHas(block: Cidr, ip: string): boolean {
  return cidrContains(block, ip) && (block.bits >= MAPPED_BITS || !isIpv4(ip));
}

function isIpv4(ip: string): boolean {
  const bytes = ipToBytes(ip);
  return bytes.length === 16 && bytes[10] === 0xff && bytes[11] === 0xff && bytes.subarray(0, 10).every((b) => b === 0);
}
