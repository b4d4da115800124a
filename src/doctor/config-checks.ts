import type { HostPattern } from "../ingress/hostname.ts";
import type { ConfigWarning } from "../ingress/issue.ts";
import type { PathPattern } from "../ingress/path-pattern.ts";
import type { IngressRule, IngressRules } from "../ingress/rules.ts";
import { type CheckResult, type Finding, finding, judged } from "./finding.ts";
import type { RulesHere } from "./rules-here.ts";

/** Chars that mean something in a path expression. */
const SPECIAL = /[\\^$.|?*+()[\]{}]/;

export interface ConfigFacts {
  readonly rules: IngressRules;
  /** The path of the file, or what else the rules come from, in words. */
  readonly from: string;
  /** False = nobody gave the doctor a rule. */
  readonly configured: boolean;
  /** Path of the config file; undefined = there is none. */
  readonly file: string | undefined;
  /** The connector of this tunnel that runs here, where it was asked; `rules` are its own, if it told them. */
  readonly running?: RulesHere | undefined;
  /** What reading the configuration had to say; that there are no rules is judged by itself. */
  readonly warnings: readonly ConfigWarning[];
  readonly connections: number;
  readonly gracePeriodMs: number;
}

const REMEDIES: Readonly<Record<Exclude<ConfigWarning["about"], "rules">, string>> = {
  line: "Correct or remove that line",
  file: "Write into it what the connector shall do, or remove the file",
  setting: "Correct or remove that setting",
};

/** Less than this leaves requests no time to end, in ms. */
const SHORT_GRACE_MS = 5_000;

export function checkConfig(facts: ConfigFacts): CheckResult {
  const { rules, from, warnings, connections, gracePeriodMs } = facts;
  const findings: Finding[] = [];
  const none = ofNoRules(facts);
  if (none !== undefined) findings.push(none);
  for (const { text, about } of warnings) {
    if (about !== "rules") findings.push(finding("C-402", text, REMEDIES[about]));
  }
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

/** What stands for rules where there are none; how bad it is depends on who said so. */
function ofNoRules({ configured, file, running, rules }: ConfigFacts): Finding | undefined {
  if (configured) return undefined;
  const write = "Write ingress rules into the config file, or give --url";
  if (running?.rules !== undefined) {
    const [first, ...others] = rules.rules;
    const is503 = first?.service.kind === "http_status" && first.service.status === 503;
    if (others.length > 0 || !is503) return undefined;
    return finding("C-403", `No rule of ${running.from} leads anywhere, so every request gets 503`, write);
  }
  if (file !== undefined) {
    return finding("C-403", `There are no ingress rules in "${file}", so every request gets 503`, write);
  }
  return running === undefined
    ? finding(
        "C-403",
        "No rules were given to doctor, and no connector of this tunnel was found here that could be asked for its own",
        "Give the --url or --config that the connector is run with: without any, every request gets 503",
        "warn",
      )
    : finding(
        "C-403",
        `No rules were given to doctor, and ${running.from} does not tell its own`,
        "Give the --url or --config that it is run with, or --metrics with its address and --metrics-auth",
        "warn",
      );
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
