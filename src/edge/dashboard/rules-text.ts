import { describe } from "../../core/errors.ts";
import { parseRemoteRules } from "../../ingress/remote-rules.ts";

/** Rules of a tunnel as text that people edit. */
export async function formatRules(config: Readonly<Record<string, unknown>> | null): Promise<string> {
  if (config === null) return "";
  const { stringify } = await import("yaml");
  return stringify(config);
}

/** Reads YAML, and with it JSON. */
export async function readRules(
  text: string,
): Promise<{ readonly config: Readonly<Record<string, unknown>> } | { readonly error: string }> {
  const { parse } = await import("yaml");
  let config: unknown;
  try {
    config = parse(text, { maxAliasCount: 20, prettyErrors: true, schema: "core" });
  } catch (error) {
    return { error: describe(error) };
  }
  if (typeof config !== "object" || config === null || Array.isArray(config)) {
    return { error: "Write an object with the list ingress in it" };
  }
  const parsed = parseRemoteRules(JSON.stringify(config));
  if ("errors" in parsed) return { error: parsed.errors.join("; ") };
  return { config: config as Readonly<Record<string, unknown>> };
}
