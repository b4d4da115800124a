import { nearest } from "../core/nearest.ts";
import { dotSegmentReadings, isDisputed } from "./dot-segments.ts";
import { ANY_HOST, type HostPattern, matchHost, parseHostPattern, requestHostname } from "./hostname.ts";
import { type ConfigIssue, didYouMean, IssueList, type IssuePath, type Locate } from "./issue.ts";
import { settingsConflict } from "./origin-conflicts.ts";
import {
  DEFAULT_ORIGIN_SETTINGS,
  type DurationStyle,
  misplacedSetting,
  type OriginContext,
  type OriginSettings,
  parseOriginSettings,
} from "./origin-request.ts";
import { compilePath, type PathPattern } from "./path-pattern.ts";
import { type PrivateNetworkSettings, parsePrivateNetwork } from "./private-network.ts";
import { isNamedService, parseService, type ServiceSpec } from "./service.ts";
import { parseServices } from "./services.ts";

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
  /** What the settings of each rule start from. @default DEFAULT_ORIGIN_SETTINGS */
  readonly defaults?: OriginSettings;
  /** What streams without a rule may reach. @default nothing */
  readonly privateNetwork?: PrivateNetworkSettings | undefined;
}

export type ParsedIngress = { readonly rules: IngressRules | undefined; readonly issues: readonly ConfigIssue[] };

/** Kinds that let visitors choose what to reach. */
const REACHING: ReadonlySet<ServiceSpec["kind"]> = new Set(["bastion", "socks-proxy"]);
export const RULE_KEYS = ["hostname", "path", "service", "services", "balance", "originRequest"] as const;

/** What serves when no rule is configured (surface: section 10.1). */
export const NO_RULES: IngressRules = singleRule({ kind: "http_status", status: 503 });

/** One rule for everything: what `--url` and `--hello-world` mean. */
export function singleRule(service: ServiceSpec, settings: OriginSettings = DEFAULT_ORIGIN_SETTINGS): IngressRules {
  return { rules: [{ hostname: "", host: ANY_HOST, path: undefined, service, settings }] };
}

/**
 * Reads `ingress`, `originRequest` and `warp-routing`. Every error is reported at once (surface: section 10.4); `rules`
 * is undefined when there is one. Warnings leave the rules usable.
 */
export function parseIngress(
  raw: { readonly ingress?: unknown; readonly originRequest?: unknown; readonly "warp-routing"?: unknown },
  options: {
    readonly locate?: Locate;
    readonly durations?: DurationStyle;
  } = {},
): ParsedIngress {
  const issues = new IssueList(options.locate);
  const context = { issues, durations: options.durations ?? "text" };
  const defaults = parseOriginSettings(raw.originRequest, DEFAULT_ORIGIN_SETTINGS, ["originRequest"], context);
  const privateNetwork = parsePrivateNetwork(raw["warp-routing"], context);
  if (raw.ingress === undefined || raw.ingress === null) {
    return { rules: issues.failed ? undefined : { ...NO_RULES, privateNetwork }, issues: issues.issues };
  }
  if (!Array.isArray(raw.ingress) || raw.ingress.length === 0) {
    issues.error(["ingress"], "Must be a list with at least one rule");
    return { rules: undefined, issues: issues.issues };
  }
  const entries: readonly unknown[] = raw.ingress;
  const rules = entries.map((entry, i) => parseRule(entry, i, entries.length, defaults, context));
  if (issues.failed) return { rules: undefined, issues: issues.issues };
  const found = rules.filter((rule) => rule !== undefined);
  return { rules: { rules: found, defaults, privateNetwork }, issues: issues.issues };
}

function parseRule(
  entry: unknown,
  index: number,
  count: number,
  defaults: OriginSettings,
  context: OriginContext,
): IngressRule | undefined {
  const { issues } = context;
  const at = ["ingress", index];
  const name = `Rule #${index + 1}`;
  if (typeof entry !== "object" || entry === null || Array.isArray(entry)) {
    issues.error(at, `${name} must be a map with a service`);
    return undefined;
  }
  const raw = entry as Record<string, unknown>;
  for (const key of Object.keys(raw)) {
    if ((RULE_KEYS as readonly string[]).includes(key)) continue;
    issues.warning([...at, key], `Unknown key "${key}"`, misplacedSetting(key) ?? didYouMean(nearest(key, RULE_KEYS)));
  }
  const hostname = textOf(raw["hostname"], [...at, "hostname"], issues);
  const pathText = textOf(raw["path"], [...at, "path"], issues);
  const host = parseHostPattern(hostname);
  if ("error" in host) issues.error([...at, "hostname"], `${name}: ${host.error}`);
  const path = pathText === "" ? undefined : compilePath(pathText);
  if (path !== undefined && "error" in path) {
    issues.error([...at, "path"], `${name} has an invalid regex "${pathText}": ${path.error}`);
  }
  const settings = parseOriginSettings(raw["originRequest"], defaults, [...at, "originRequest"], context);
  const service =
    raw["services"] === undefined || raw["services"] === null
      ? readService(raw["service"], settings, at, name, issues)
      : parseServices(raw, at, name, context);
  if (raw["balance"] !== undefined && raw["balance"] !== null && !Array.isArray(raw["services"])) {
    issues.error([...at, "balance"], `${name}: "balance" is about a list of "services"`);
  }
  // Those of the file are for every rule that they mean something to; in a rule somebody counts on them. No error, since
  // cloudflared says nothing: rules that it takes must not stop a connector.
  const ownIpRules = settings.ipRules !== defaults.ipRules && settings.ipRules.length > 0;
  if (ownIpRules && service !== undefined && !REACHING.has(service.kind)) {
    const place = [...at, "originRequest", "ipRules"];
    issues.warning(
      place,
      `${name}: "ipRules" say what bastion and socks-proxy may reach, and mean nothing to this service`,
    );
  }
  const conflict = service === undefined ? undefined : settingsConflict(service, settings);
  if (conflict !== undefined) issues.error(at, `${name}: ${conflict}`);

  const catchAll = (hostname === "" || hostname === "*") && pathText === "";
  if (index === count - 1 && !catchAll) {
    issues.error(at, "The last rule must match everything", "add a rule with only a service, such as http_status:404");
  } else if (index < count - 1 && catchAll) {
    issues.error(at, `${name} matches everything, so the rules behind it can never match`);
  }
  if ("error" in host || service === undefined || (path !== undefined && "error" in path)) return undefined;
  return { hostname, host, path, service, settings };
}

/** `bastionMode` makes a bastion of whatever has no name of its own, and of no service (surface: section 10.5). */
function readService(
  value: unknown,
  settings: OriginSettings,
  at: IssuePath,
  name: string,
  issues: IssueList,
): ServiceSpec | undefined {
  const place = [...at, "service"];
  if (value !== undefined && value !== null && typeof value !== "string") {
    textOf(value, place, issues);
    return undefined;
  }
  const text = value ?? "";
  if (settings.bastionMode && !isNamedService(text)) return { kind: "bastion" };
  if (text === "") {
    issues.error(at, `${name} needs a service`);
    return undefined;
  }
  const service = parseService(text);
  if (!("error" in service)) return service;
  issues.error(place, `${name}: ${service.error}`);
  return undefined;
}

function textOf(value: unknown, at: IssuePath, issues: IssueList): string {
  if (value === undefined || value === null) return "";
  if (typeof value === "string") return value;
  issues.error(at, `"${String(at.at(-1))}" must be a text`, typeof value === "object" ? undefined : "put it in quotes");
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
  const path = decodePath(raw);
  const index = firstMatch(rules, hostname, path);
  if (isDisputed(path)) {
    for (const reading of dotSegmentReadings(raw, decodePath)) {
      if (firstMatch(rules, hostname, reading) !== index) return { kind: "ambiguous-path" };
    }
  }
  return { kind: "rule", index, rule: rules.rules[index] as IngressRule };
}

/** Number of the rule for a decoded path. The last rule takes what no other does, so it is not asked. */
export function firstMatch(rules: IngressRules, hostname: string, path: string): number {
  const list = rules.rules;
  for (let i = 0; i < list.length - 1; i++) {
    const rule = list[i] as IngressRule;
    if (matchHost(rule.host, hostname) && (rule.path === undefined || rule.path.test(path))) return i;
  }
  return list.length - 1;
}

/** Percent-decoding as far as it goes: what is no UTF-8 stays as it was. */
export function decodePath(raw: string): string {
  if (!raw.includes("%")) return raw;
  try {
    return decodeURIComponent(raw);
  } catch {
    return raw.replace(/%([0-7][0-9a-f])/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
  }
}
