import type { HostPattern } from "../ingress/hostname.ts";
import type { PathPattern } from "../ingress/path-pattern.ts";
import type { IngressRule, IngressRules } from "../ingress/rules.ts";
import { type CheckResult, type Finding, finding, judged } from "./finding.ts";

/** Chars that mean something in a path expression. */
const SPECIAL = /[\\^$.|?*+()[\]{}]/;

export interface ConfigFacts {
  readonly rules: IngressRules;
  /** The path of the file, or what else the rules come from, in words. */
  readonly from: string;
  /** False = nobody configured a rule. */
  readonly configured: boolean;
  /** What reading the configuration had to say. */
  readonly warnings: readonly string[];
  readonly connections: number;
  readonly gracePeriodMs: number;
}

/** Less than this leaves requests no time to end, in ms. */
const SHORT_GRACE_MS = 5_000;

export function checkConfig({
  rules,
  from,
  configured,
  warnings,
  connections,
  gracePeriodMs,
}: ConfigFacts): CheckResult {
  const findings: Finding[] = [];
  if (!configured) {
    findings.push(
      finding(
        "C-403",
        "There are no ingress rules, so every request gets 503",
        "Write ingress rules into the config file, or give --url",
      ),
    );
  }
  for (const text of warnings) findings.push(finding("C-402", text, "Correct or remove that line"));
  for (const { rule, by } of shadowedRules(rules)) {
    findings.push(
      finding(
        "C-404",
        `Rule #${rule + 1} (${written(rules.rules[rule])}) never matches: rule #${by + 1} (${written(rules.rules[by])}) takes all its requests`,
        `Move rule #${rule + 1} before rule #${by + 1}, or remove it`,
      ),
    );
  }
  if (connections === 1) {
    findings.push(
      finding(
        "C-321",
        "The connector makes one connection: while it is lost or moves, nothing is served",
        "Set --ha-connections to 2 or more, and run a second connector on another machine",
      ),
    );
  }
  if (gracePeriodMs < SHORT_GRACE_MS) {
    findings.push(
      finding(
        "C-322",
        `Requests that run get ${gracePeriodMs} ms to end when the connector stops`,
        "Set --grace-period to 30s, and restart connectors one after the other",
      ),
    );
  }
  return judged(findings, `${rules.rules.length === 1 ? "1 rule" : `${rules.rules.length} rules`} from ${from}`);
}

/** Rules that no request reaches, and one that takes their requests; both from 0. Unions of rules are not seen. */
export function shadowedRules({ rules }: IngressRules): readonly { readonly rule: number; readonly by: number }[] {
  return rules.flatMap((rule, index) => {
    const by = rules.findIndex((earlier, at) => at < index && covers(earlier, rule));
    return by < 0 ? [] : [{ rule: index, by }];
  });
}

function covers(earlier: IngressRule, later: IngressRule): boolean {
  return coversHost(earlier.host, later.host) && coversPath(earlier.path, later.path);
}

function coversHost(wide: HostPattern, narrow: HostPattern): boolean {
  switch (wide.kind) {
    case "any":
      return true;
    case "exact":
      return narrow.kind === "exact" && narrow.host === wide.host;
    case "suffix":
      if (narrow.kind === "exact") return narrow.host.endsWith(wide.suffix) && narrow.host.length > wide.suffix.length;
      return narrow.kind === "suffix" && narrow.suffix.endsWith(wide.suffix);
  }
}

function coversPath(wide: PathPattern | undefined, narrow: PathPattern | undefined): boolean {
  if (wide === undefined) return true;
  if (narrow === undefined) return false;
  if (wide.source === narrow.source) return true;
  const [w, n] = [literal(wide.source), literal(narrow.source)];
  if (w === undefined || n === undefined) return false;
  return w.anchored ? n.anchored && n.text.startsWith(w.text) : n.text.includes(w.text);
}

function literal(source: string): { readonly anchored: boolean; readonly text: string } | undefined {
  const anchored = source.startsWith("^");
  const text = anchored ? source.slice(1) : source;
  return SPECIAL.test(text) ? undefined : { anchored, text };
}

function written(rule: IngressRule | undefined): string {
  const host = rule?.hostname === "" ? "*" : (rule?.hostname ?? "");
  return rule?.path === undefined ? host : `${host} ${rule.path.source}`;
}
