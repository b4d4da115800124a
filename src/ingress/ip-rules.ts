import { nearest } from "../core/nearest.ts";
import { parseCidr } from "../wire/cidr.ts";
import { didYouMean, type IssueList, type IssuePath } from "./issue.ts";

/** One line of the list of addresses that a bastion or a SOCKS proxy may reach; the first that fits decides. */
export interface IpRule {
  /** A block such as `10.0.0.0/8`, as written. */
  readonly prefix: string;
  /** 1 to 65535; none = all. */
  readonly ports: readonly number[];
  readonly allow: boolean;
}

const KEYS = ["prefix", "ports", "allow"] as const;
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
    if ((KEYS as readonly string[]).includes(key)) continue;
    issues.warning([...at, key], `Unknown key "${key}"`, didYouMean(nearest(key, KEYS)));
  }
  const { prefix, ports = [], allow = false } = map;
  let wrong = false;
  const refuse = (key: (typeof KEYS)[number], message: string): void => {
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
