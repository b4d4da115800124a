import { nearest } from "../core/nearest.ts";
import { didYouMean, type IssueList, type IssuePath } from "./issue.ts";

/** Who may pass: the check of an Access token at the connector (surface: section 11). */
export interface AccessSettings {
  /** False: no check. */
  readonly required: boolean;
  /** The team whose tokens count; its domain is the issuer. */
  readonly teamName: string;
  /** A token must be for one of these audiences; with none, nobody passes. */
  readonly audTag: readonly string[];
  /** `fed` for the FedRAMP environment, else empty. */
  readonly environment: string;
  /**
   * Our own: where the keys are instead of at the team's domain, such as an edge of ours; the URL's origin is the issuer
   * then. Empty = the team's.
   */
  readonly certsUrl: string;
}

export const NO_ACCESS: AccessSettings = { required: false, teamName: "", audTag: [], environment: "", certsUrl: "" };

const LOOPBACK = /^(?:localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])$/;
const PATH_OF_CERTS = "/cdn-cgi/access/certs";

/** Where the keys are and who signs with them (surface: section 11); undefined = nobody is named. */
export function accessAuthority(
  settings: AccessSettings,
): { readonly issuer: string; readonly certsUrl: string } | undefined {
  if (settings.certsUrl !== "") return { issuer: new URL(settings.certsUrl).origin, certsUrl: settings.certsUrl };
  if (settings.teamName === "") return undefined;
  const domain = settings.environment === "fed" ? "fed.cloudflareaccess.com" : "cloudflareaccess.com";
  const issuer = `https://${settings.teamName}.${domain}`;
  return { issuer, certsUrl: `${issuer}${PATH_OF_CERTS}` };
}

export const ACCESS_KEYS: readonly string[] = Object.keys(NO_ACCESS);

/** Reads an `access` map; undefined, with issues, when it is wrong. */
export function parseAccess(raw: unknown, at: IssuePath, issues: IssueList): AccessSettings | undefined {
  if (typeof raw !== "object" || raw === null || Array.isArray(raw)) {
    issues.error(at, '"access" must be a map of settings');
    return undefined;
  }
  const map: Record<string, unknown> = { ...raw };
  for (const key of Object.keys(map)) {
    if (!ACCESS_KEYS.includes(key))
      issues.warning([...at, key], `Unknown key "${key}"`, didYouMean(nearest(key, ACCESS_KEYS)));
  }
  let wrong = false;
  const refuse = (key: string, message: string): void => {
    wrong = true;
    issues.error(key === "" ? at : [...at, key], message);
  };
  const text = (key: "teamName" | "environment" | "certsUrl"): string => {
    const value = map[key] ?? "";
    if (typeof value === "string") return value;
    refuse(key, `"${key}" must be a text`);
    return "";
  };
  const required = map["required"] ?? false;
  if (typeof required !== "boolean") refuse("required", '"required" must be true or false');
  const audTag: unknown = map["audTag"] ?? [];
  const tags = Array.isArray(audTag) ? audTag.filter((tag) => typeof tag === "string") : [];
  if (!Array.isArray(audTag) || tags.length !== audTag.length) refuse("audTag", '"audTag" must be a list of texts');
  const settings = {
    required: required === true,
    teamName: text("teamName"),
    audTag: tags,
    environment: text("environment"),
    certsUrl: text("certsUrl"),
  };
  if (settings.certsUrl !== "" && !isSafeUrl(settings.certsUrl)) {
    refuse("certsUrl", '"certsUrl" must be a URL with https, or with http to this machine');
  }
  if (settings.teamName !== "" && !/^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?$/i.test(settings.teamName)) {
    refuse("teamName", '"teamName" must be the name in front of .cloudflareaccess.com');
  }
  // Without a team there is no issuer to believe, so a required check could only be wrong.
  if (settings.required && tags.length > 0 && settings.teamName === "" && settings.certsUrl === "") {
    refuse("", '"access" is required and has an audTag, so it needs a teamName too');
  }
  return wrong ? undefined : settings;
}

/** Keys that anybody on the way could change are none. */
function isSafeUrl(text: string): boolean {
  const url = URL.parse(text);
  if (url === null || url.username !== "" || url.password !== "") return false;
  return url.protocol === "https:" || (url.protocol === "http:" && LOOPBACK.test(url.hostname));
}
