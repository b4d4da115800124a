import { expandHome } from "../config/host.ts";
import { describe } from "../core/errors.ts";
import { type MinisignPublicKey, parseMinisignPublicKey } from "../wire/minisign.ts";
import type { Context } from "./command.ts";

/** Minisign public keys that were given as a text or as a `.pub` file; what is wrong with one goes to `issues`. */
export function readKeys(
  context: Context,
  given: readonly string[],
  issues: string[],
  flag: string,
): readonly MinisignPublicKey[] {
  return given.flatMap((key) => {
    let text = key;
    if (key.endsWith(".pub")) {
      try {
        text = context.host.readFile(expandHome(context.host, key));
      } catch (error) {
        issues.push(`Cannot read "${key}": ${describe(error)}`);
        return [];
      }
    }
    const parsed = parseMinisignPublicKey(text);
    if (parsed.ok) return [parsed.value];
    issues.push(`--${flag} "${key}" is ${parsed.issues[0]?.message}`);
    return [];
  });
}
