import { dotSegmentReadings } from "./dot-segments.ts";
import { matchHost, requestHostname } from "./hostname.ts";
import { decodePath, firstMatch, type IngressRules, type Match, matchRule } from "./rules.ts";

/** Why one rule did not take a request. */
export interface Passed {
  /** From 0. */
  readonly index: number;
  readonly because: "hostname" | "path";
}

export interface Explanation {
  /** The request's hostname and decoded path: what rules look at. */
  readonly hostname: string;
  readonly path: string;
  /** The rules in front of the one for this path, in order. */
  readonly passed: readonly Passed[];
  readonly match: Match;
  /** For an ambiguous path: what servers could make of it, and the rule of each. */
  readonly readings: readonly { readonly path: string; readonly index: number }[];
}

/** What {@link matchRule} decides, told step by step. `target` is the raw path with its query. */
export function explainMatch(rules: IngressRules, host: string, target: string): Explanation {
  const hostname = requestHostname(host);
  const raw = target.split("?", 1)[0] ?? "";
  const path = decodePath(raw);
  const match = matchRule(rules, host, target);
  const passed = rules.rules
    .slice(0, firstMatch(rules, hostname, path))
    .map((rule, index): Passed => ({ index, because: matchHost(rule.host, hostname) ? "path" : "hostname" }));
  const paths = match.kind === "ambiguous-path" ? new Set([path, ...dotSegmentReadings(raw, decodePath)]) : [];
  const readings = [...paths].map((reading) => ({ path: reading, index: firstMatch(rules, hostname, reading) }));
  return { hostname, path, passed, match, readings };
}
