import { parseDuration } from "../core/duration.ts";
import { nearest } from "../core/nearest.ts";
import type { IssueList } from "./issue.ts";

/** How a service is talked to; every key of `originRequest` (surface: section 11). Durations in ms. */
export interface OriginSettings {
  readonly connectTimeout: number;
  readonly tlsTimeout: number;
  readonly tcpKeepAlive: number;
  readonly noHappyEyeballs: boolean;
  readonly keepAliveConnections: number;
  readonly keepAliveTimeout: number;
  readonly httpHostHeader: string;
  readonly originServerName: string;
  readonly matchSNItoHost: boolean;
  readonly caPool: string;
  readonly noTLSVerify: boolean;
  readonly http2Origin: boolean;
  readonly disableChunkedEncoding: boolean;
  readonly bastionMode: boolean;
  readonly proxyAddress: string;
  readonly proxyPort: number;
  readonly proxyType: string;
  readonly ipRules: readonly unknown[];
  readonly access: Readonly<Record<string, unknown>>;
}

export const DEFAULT_ORIGIN_SETTINGS: OriginSettings = {
  connectTimeout: 30_000,
  tlsTimeout: 10_000,
  tcpKeepAlive: 30_000,
  noHappyEyeballs: false,
  keepAliveConnections: 100,
  keepAliveTimeout: 90_000,
  httpHostHeader: "",
  originServerName: "",
  matchSNItoHost: false,
  caPool: "",
  noTLSVerify: false,
  http2Origin: false,
  disableChunkedEncoding: false,
  bastionMode: false,
  proxyAddress: "127.0.0.1",
  proxyPort: 0,
  proxyType: "",
  ipRules: [],
  access: {},
};

const DURATIONS: ReadonlySet<string> = new Set(["connectTimeout", "tlsTimeout", "tcpKeepAlive", "keepAliveTimeout"]);
/** Keys whose meaning is security: a connector that does not act on them must not start as if it did. */
const NOT_YET: ReadonlySet<string> = new Set(["access", "ipRules"]);

/** Durations are Go texts in YAML (`30s`) and whole seconds in JSON. */
export type DurationStyle = "text" | "seconds";

/** Reads an `originRequest` map over the settings it starts from. */
export function parseOriginSettings(
  raw: unknown,
  base: OriginSettings,
  at: readonly (string | number)[],
  issues: IssueList,
  style: DurationStyle,
): OriginSettings {
  if (raw === undefined || raw === null) return base;
  if (typeof raw !== "object" || Array.isArray(raw)) {
    issues.error(at, "Must be a map of settings");
    return base;
  }
  const settings: Record<string, unknown> = { ...base };
  for (const [key, value] of Object.entries(raw)) {
    const path = [...at, key];
    const fallback = (DEFAULT_ORIGIN_SETTINGS as unknown as Record<string, unknown>)[key];
    if (fallback === undefined) {
      const like = nearest(key, Object.keys(DEFAULT_ORIGIN_SETTINGS));
      issues.warning(path, `Unknown key "${key}"${like === undefined ? "" : `: did you mean "${like}"?`}`);
      continue;
    }
    if (NOT_YET.has(key) && !isEmpty(value)) {
      issues.error(
        path,
        `"${key}" is not enforced by this release, so the rule would be open: remove it or keep cloudflared`,
      );
      continue;
    }
    const parsed = DURATIONS.has(key) ? durationOf(value, style) : value;
    if (parsed === undefined || typeof parsed !== typeof fallback)
      issues.error(path, expectation(key, fallback, style));
    else settings[key] = parsed;
  }
  return settings as unknown as OriginSettings;
}

function durationOf(value: unknown, style: DurationStyle): number | undefined {
  if (style === "seconds") return typeof value === "number" && Number.isInteger(value) ? value * 1_000 : undefined;
  return typeof value === "string" ? parseDuration(value) : undefined;
}

function isEmpty(value: unknown): boolean {
  return value === null || (typeof value === "object" && Object.keys(value).length === 0);
}

function expectation(key: string, fallback: unknown, style: DurationStyle): string {
  if (!DURATIONS.has(key)) return `"${key}" must be a ${Array.isArray(fallback) ? "list" : typeof fallback}`;
  return style === "seconds" ? `"${key}" must be a whole number of seconds` : `"${key}" must be a duration such as 30s`;
}
