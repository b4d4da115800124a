import { formatIssue } from "../ingress/issue.ts";
import { type IngressRules, NO_RULES, parseIngress } from "../ingress/rules.ts";

/**
 * Reads a configuration that an edge pushed (protocol: section 6): JSON text with `ingress` and `originRequest`. Other
 * keys are left alone; no rules means that everything is answered with 503.
 */
export function parseRemoteRules(
  text: string,
): { readonly rules: IngressRules } | { readonly errors: readonly string[] } {
  let config: unknown;
  try {
    config = JSON.parse(text);
  } catch {
    return { errors: ["The configuration is no JSON"] };
  }
  if (typeof config !== "object" || config === null || Array.isArray(config)) {
    return { errors: ["The configuration must be a JSON object"] };
  }
  const { ingress, originRequest } = config as { readonly ingress?: unknown; readonly originRequest?: unknown };
  const none = Array.isArray(ingress) && ingress.length === 0;
  const parsed = parseIngress({ ingress: none ? undefined : ingress, originRequest }, { durations: "seconds" });
  if (parsed.rules !== undefined) return { rules: none ? NO_RULES : parsed.rules };
  const errors = parsed.issues.filter(({ severity }) => severity === "error");
  return { errors: errors.map((issue) => `${issue.path}: ${formatIssue(issue, undefined)}`) };
}
