import { formatIssue } from "./issue.ts";
import { type IngressRules, parseIngress } from "./rules.ts";

/**
 * Reads a configuration that an edge pushed (protocol: section 6): JSON text with `ingress`, `originRequest` and
 * `warp-routing`. Other keys are left alone; no rules means that everything is answered with 503.
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
  const { ingress, ...rest } = config as { readonly ingress?: unknown };
  const none = Array.isArray(ingress) && ingress.length === 0;
  const parsed = parseIngress({ ...rest, ingress: none ? undefined : ingress }, { durations: "seconds" });
  if (parsed.rules !== undefined) return { rules: parsed.rules };
  const errors = parsed.issues.filter(({ severity }) => severity === "error");
  return { errors: errors.map((issue) => `${issue.path}: ${formatIssue(issue, undefined)}`) };
}
