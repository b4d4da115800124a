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
}

export const NO_ACCESS: AccessSettings = { required: false, teamName: "", audTag: [], environment: "" };

const KEYS = Object.keys(NO_ACCESS);

/** Reads an `access` map; undefined, with issues, when it is wrong. */
export function parseAccess(raw: unknown, at: IssuePath, issues: IssueList): AccessSettings | undefined {
  if (typeof raw !== "object" || raw === null || Array.isArray(raw)) {
    issues.error(at, '"access" must be a map of settings');
    return undefined;
  }
  const map: Record<string, unknown> = { ...raw };
  for (const key of Object.keys(map)) {
    if (!KEYS.includes(key)) issues.warning([...at, key], `Unknown key "${key}"`, didYouMean(nearest(key, KEYS)));
  }
  let wrong = false;
  const refuse = (key: string, message: string): void => {
    wrong = true;
    issues.error(key === "" ? at : [...at, key], message);
  };
  const text = (key: "teamName" | "environment"): string => {
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
  };
  // Without a team there is no issuer to believe, so a required check could only be wrong.
  if (settings.required && tags.length > 0 && settings.teamName === "") {
    refuse("", '"access" is required and has an audTag, so it needs a teamName too');
  }
  return wrong ? undefined : settings;
}
