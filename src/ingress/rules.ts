import { nearest } from "../core/nearest.ts";
import { ANY_HOST, type HostPattern, matchHost, parseHostPattern, requestHostname } from "./hostname.ts";
import { type ConfigIssue, IssueList, type Locate } from "./issue.ts";
import {
  DEFAULT_ORIGIN_SETTINGS,
  type DurationStyle,
  type OriginSettings,
  parseOriginSettings,
} from "./origin-request.ts";
import { compilePath, type PathPattern } from "./path-pattern.ts";
import { parseService, type ServiceSpec } from "./service.ts";

/** One ingress rule, ready to match. */
export interface IngressRule {
  /** As written; empty = any. */
  readonly hostname: string;
  readonly host: HostPattern;
  readonly path: PathPattern | undefined;
  readonly service: ServiceSpec;
  readonly settings: OriginSettings;
}

export interface IngressRules {
  readonly rules: readonly IngressRule[];
}

export type ParsedIngress = { readonly rules: IngressRules | undefined; readonly issues: readonly ConfigIssue[] };

const RULE_KEYS = ["hostname", "path", "service", "originRequest"] as const;

/** What serves when no rule is configured (surface: section 10.1). */
export const NO_RULES: IngressRules = singleRule({ kind: "http_status", status: 503 });

/** One rule for everything: what `--url` and `--hello-world` mean. */
export function singleRule(service: ServiceSpec, settings: OriginSettings = DEFAULT_ORIGIN_SETTINGS): IngressRules {
  return { rules: [{ hostname: "", host: ANY_HOST, path: undefined, service, settings }] };
}

/**
 * Reads `ingress` and `originRequest`. Every error is reported at once (surface: section 10.4); `rules` is undefined
 * when there is one. Warnings leave the rules usable.
 */
export function parseIngress(
  raw: { readonly ingress?: unknown; readonly originRequest?: unknown },
  options: { locate?: Locate; durations?: DurationStyle } = {},
): ParsedIngress {
  const issues = new IssueList(options.locate);
  const style = options.durations ?? "text";
  const defaults = parseOriginSettings(raw.originRequest, DEFAULT_ORIGIN_SETTINGS, ["originRequest"], issues, style);
  if (raw.ingress === undefined || raw.ingress === null) {
    return { rules: issues.failed ? undefined : NO_RULES, issues: issues.issues };
  }
  if (!Array.isArray(raw.ingress) || raw.ingress.length === 0) {
    issues.error(["ingress"], "Must be a list with at least one rule");
    return { rules: undefined, issues: issues.issues };
  }
  const entries: readonly unknown[] = raw.ingress;
  const rules = entries.map((entry, i) => parseRule(entry, i, entries.length, defaults, issues, style));
  if (issues.failed) return { rules: undefined, issues: issues.issues };
  return { rules: { rules: rules.filter((rule) => rule !== undefined) }, issues: issues.issues };
}

function parseRule(
  entry: unknown,
  index: number,
  count: number,
  defaults: OriginSettings,
  issues: IssueList,
  style: DurationStyle,
): IngressRule | undefined {
  const at = ["ingress", index];
  const name = `Rule #${index + 1}`;
  if (typeof entry !== "object" || entry === null || Array.isArray(entry)) {
    issues.error(at, `${name} must be a map with a service`);
    return undefined;
  }
  const raw = entry as Record<string, unknown>;
  for (const key of Object.keys(raw)) {
    if ((RULE_KEYS as readonly string[]).includes(key)) continue;
    const like = nearest(key, RULE_KEYS);
    issues.warning([...at, key], `Unknown key "${key}"${like === undefined ? "" : `: did you mean "${like}"?`}`);
  }
  const hostname = textOf(raw["hostname"], [...at, "hostname"], issues);
  const pathText = textOf(raw["path"], [...at, "path"], issues);
  const host = parseHostPattern(hostname);
  if ("error" in host) issues.error([...at, "hostname"], `${name}: ${host.error}`);
  const path = pathText === "" ? undefined : compilePath(pathText);
  if (path !== undefined && "error" in path) {
    issues.error([...at, "path"], `${name} has an invalid regex "${pathText}": ${path.error}`);
  }
  const service = parseService(textOf(raw["service"], [...at, "service"], issues));
  if (raw["service"] === undefined) issues.error(at, `${name} needs a service`);
  else if ("error" in service) issues.error([...at, "service"], `${name}: ${service.error}`);
  const settings = parseOriginSettings(raw["originRequest"], defaults, [...at, "originRequest"], issues, style);

  const catchAll = (hostname === "" || hostname === "*") && pathText === "";
  if (index === count - 1 && !catchAll) {
    issues.error(at, "The last rule must match everything: add a rule with only a service, such as http_status:404");
  } else if (index < count - 1 && catchAll) {
    issues.error(at, `${name} matches everything, so the rules behind it can never match`);
  }
  if ("error" in host || "error" in service || (path !== undefined && "error" in path)) return undefined;
  return { hostname, host, path, service, settings };
}

function textOf(value: unknown, at: readonly (string | number)[], issues: IssueList): string {
  if (value === undefined || value === null) return "";
  if (typeof value === "string") return value;
  issues.error(at, "Must be a text");
  return "";
}

export type Match =
  | { readonly kind: "rule"; readonly index: number; readonly rule: IngressRule }
  /** Its dot segments, resolved or not, would reach different rules: a way round a rule that protects a path. */
  | { readonly kind: "ambiguous-path" };

/** The first rule that takes this request. `target` is the raw path with its query; paths compare decoded. */
export function matchRule(rules: IngressRules, host: string, target: string): Match {
  const hostname = requestHostname(host);
  const question = target.indexOf("?");
  const raw = question < 0 ? target : target.slice(0, question);
  const path = raw.includes("%") ? decodePath(raw) : raw;
  const index = firstMatch(rules, hostname, path);
  if (path.includes("/.") || path.includes("\\")) {
    const resolved = resolveDots(path.replaceAll("\\", "/"));
    if (resolved !== path && firstMatch(rules, hostname, resolved) !== index) return { kind: "ambiguous-path" };
  }
  return { kind: "rule", index, rule: rules.rules[index] as IngressRule };
}

function firstMatch(rules: IngressRules, hostname: string, path: string): number {
  const list = rules.rules;
  for (let i = 0; i < list.length - 1; i++) {
    const rule = list[i] as IngressRule;
    if (matchHost(rule.host, hostname) && (rule.path === undefined || rule.path.test(path))) return i;
  }
  return list.length - 1;
}

/** Percent-decoding as far as it goes: what is no UTF-8 stays as it was. */
function decodePath(raw: string): string {
  try {
    return decodeURIComponent(raw);
  } catch {
    return raw.replace(/%([0-7][0-9a-f])/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
  }
}

/** Resolves `.` and `..` segments as an origin would (RFC 3986 section 5.2.4). */
function resolveDots(path: string): string {
  const kept: string[] = [];
  const segments = path.split("/");
  for (const [i, segment] of segments.entries()) {
    const last = i === segments.length - 1;
    if (segment === "..") {
      if (kept.length > 1) kept.pop();
      if (last) kept.push("");
    } else if (segment === ".") {
      if (last) kept.push("");
    } else kept.push(segment);
  }
  return kept.join("/");
}
