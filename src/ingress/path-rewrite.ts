import { RE2JS } from "re2js";
import { nearest } from "../core/nearest.ts";
import { didYouMean, type IssueList, type IssuePath } from "./issue.ts";

/** One replacement in a request's path, as written: `$1` and `${name}` stand for groups. */
export interface PathRewriteSettings {
  /** RE2 expression, found anywhere in the path; only its first place is replaced. */
  readonly match: string;
  readonly replace: string;
}

/** Gives the target to ask the service for; the query stays. */
export type PathRewrite = (target: string) => { readonly target: string; readonly strippedPrefix: string };

export const PATH_REWRITE_KEYS = ["match", "replace"] as const;
/** Chars that stay as they are in a path besides letters and digits; `%` begins an escape. */
const UNRESERVED = /[A-Za-z0-9\-._~]/;
/** Nothing that ends a path, a line or a target; chars beyond ASCII belong into escapes. */
const SENDABLE = /^\/[\x21\x22\x24-\x3e\x40-\x7e]*$/;

/** Reads `pathRewrite`; undefined, with an issue, when it is wrong. */
export function parsePathRewrite(raw: unknown, at: IssuePath, issues: IssueList): PathRewriteSettings | undefined {
  if (typeof raw !== "object" || raw === null || Array.isArray(raw)) {
    issues.error(at, '"pathRewrite" must be a map with match and replace');
    return undefined;
  }
  const map: Record<string, unknown> = { ...raw };
  for (const key of Object.keys(map)) {
    if ((PATH_REWRITE_KEYS as readonly string[]).includes(key)) continue;
    issues.warning([...at, key], `Unknown key "${key}"`, didYouMean(nearest(key, PATH_REWRITE_KEYS)));
  }
  const { match, replace } = map;
  if (typeof match !== "string" || typeof replace !== "string" || match === "") {
    issues.error(at, '"pathRewrite" needs two texts: match and replace');
    return undefined;
  }
  try {
    RE2JS.compile(match);
    // Matches in any case, so that a group that the expression does not have is found out now.
    RE2JS.compile(`(?:${match})|`).matcher("").replaceFirst(replace, true);
  } catch (error) {
    issues.error(at, `"pathRewrite" cannot be used: ${error instanceof Error ? error.message : "syntax error"}`);
    return undefined;
  }
  return { match, replace };
}

/** Reads `pathPrefixStrip`; undefined, with an issue, when it is wrong. */
export function parsePathPrefix(raw: unknown, at: IssuePath, issues: IssueList): string | undefined {
  // Half of a surrogate pair, which escapes can write, has no bytes that a request could have.
  const isPath = typeof raw === "string" && (raw === "" || /^\/[^?#\s\\]*$/.test(raw)) && raw.isWellFormed();
  if (isPath) return raw.replace(/\/+$/, "");
  issues.error(at, '"pathPrefixStrip" must be a path such as /app');
  return undefined;
}

/**
 * What `pathPrefixStrip` and `pathRewrite` do, in this order; undefined = nothing. They see the path with the escapes of
 * ordinary chars undone (RFC 3986 section 6.2.2), so that `/%61pp` is no way round `/app`. A prefix ends at a slash: that
 * of `/app` leaves `/apple` alone. A result that cannot be a path is not used.
 */
export function createPathRewrite(prefix: string, rewrite: PathRewriteSettings | undefined): PathRewrite | undefined {
  if (prefix === "" && rewrite === undefined) return undefined;
  const wanted = normalisePath(encodeURI(prefix).replaceAll("%25", "%"));
  const pattern = rewrite === undefined ? undefined : RE2JS.compile(rewrite.match);
  return (target) => {
    const question = target.indexOf("?");
    const query = question < 0 ? "" : target.slice(question);
    const path = normalisePath(question < 0 ? target : target.slice(0, question));
    const stripped = wanted !== "" && (path === wanted || path.startsWith(`${wanted}/`));
    const short = stripped ? path.slice(wanted.length) || "/" : path;
    const replaced = pattern === undefined ? short : pattern.matcher(short).replaceFirst(rewrite?.replace ?? "", true);
    const usable = SENDABLE.test(replaced) ? replaced : short;
    return { target: usable + query, strippedPrefix: stripped ? wanted : "" };
  };
}

/** Escapes of chars that need none are undone, the others get capital digits. */
function normalisePath(path: string): string {
  if (!path.includes("%")) return path;
  return path.replace(/%([0-9a-f]{2})/gi, (triple, hex: string) => {
    const char = String.fromCharCode(Number.parseInt(hex, 16));
    return UNRESERVED.test(char) ? char : triple.toUpperCase();
  });
}
