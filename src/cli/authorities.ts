import { X509Certificate } from "node:crypto";
import { expandHome } from "../config/host.ts";
import { describe } from "../core/errors.ts";
import type { Context } from "./command.ts";

/** Authorities to trust, PEM; undefined when no file is given. What is wrong with it goes to `issues`. */
export function readAuthorities(context: Context, path: string | undefined, issues: string[]): string | undefined {
  if (path === undefined) return undefined;
  try {
    const text = context.host.readFile(expandHome(context.host, path));
    if (beginsWithCertificate(text)) return text;
    issues.push(`Cannot use CA file "${path}": it holds no certificate in PEM`);
  } catch (error) {
    issues.push(`Cannot read CA file "${path}": ${describe(error)}`);
  }
  return undefined;
}

/** Its first block, if not more: TLS takes a file without any for an empty list, and says of others what, not which. */
function beginsWithCertificate(text: string): boolean {
  try {
    return new X509Certificate(text).raw.length > 0;
  } catch {
    return false;
  }
}
