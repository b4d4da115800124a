import { parseHostPort } from "../config/run-config.ts";
import type { Values } from "../config/values.ts";
import { parseDuration } from "../core/duration.ts";
import {
  isLimitName,
  LIMIT_NAMES,
  LIMIT_RULES,
  type LimitName,
  type Limits,
  limitsFrom,
} from "../edge/policy/limits.ts";
import type { HttpsSideOptions, PublicSideOptions } from "../edge/public-side.ts";
import { isMetricsAuth } from "../ops/page-password.ts";

const DEFAULT_HTTPS_LISTEN = "0.0.0.0:8443";
const UNITS: Readonly<Record<string, number>> = {
  "": 1,
  b: 1,
  k: 1024,
  kb: 1000,
  kib: 1024,
  m: 1024 ** 2,
  mb: 1000 ** 2,
  mib: 1024 ** 2,
  g: 1024 ** 3,
  gb: 1000 ** 3,
  gib: 1024 ** 3,
};

/** What the flags say about visitors; `internal` asks for certificates of the edge's own authority. */
export interface PublicFlags extends Omit<PublicSideOptions, "http" | "https"> {
  readonly https: (Omit<HttpsSideOptions, "internal"> & { readonly internal: boolean }) | undefined;
}

/** Reads the flags of `PUBLIC_FLAGS`; what is wrong with them goes to `problems`. */
export function readPublicFlags(values: Values, problems: string[]): PublicFlags {
  const format = values.string("access-log-format");
  if (format !== "json" && format !== "combined") problems.push("--access-log-format must be json or combined");
  const path = values.string("access-log");
  return {
    https: readHttps(values, problems),
    limits: readLimits(values.list("limit"), problems),
    errorPages: values.string("error-pages"),
    accessLog:
      path === undefined
        ? undefined
        : { path, format: format === "combined" ? "combined" : "json", query: values.bool("access-log-query") },
    metrics: readMetrics(values, problems),
  };
}

function readMetrics(values: Values, problems: string[]): PublicFlags["metrics"] {
  const auth = values.string("metrics-auth");
  if (auth !== undefined && !isMetricsAuth(auth)) problems.push("--metrics-auth must be USER:PASSWORD");
  if (values.string("metrics") !== undefined) return { ...address(values, "metrics", "", problems), auth };
  if (auth !== undefined) problems.push("--metrics-auth needs --metrics, without which no metrics are served");
  return undefined;
}

function readHttps(values: Values, problems: string[]): PublicFlags["https"] {
  const certs = values.list("tls-cert");
  const keys = values.list("tls-key");
  const dirs = values.list("tls-dir");
  const internal = values.bool("tls-internal");
  const hsts = readHsts(values.string("hsts"), problems);
  if (certs.length !== keys.length) {
    problems.push(`Each --tls-cert needs a --tls-key: there are ${certs.length} and ${keys.length}`);
  }
  const port = values.number("https-redirect-port");
  if (port < 0 || port > 65_535) problems.push("--https-redirect-port must be from 1 to 65535");
  if (certs.length + dirs.length === 0 && !internal) {
    if (values.string("https-listen") !== undefined) {
      problems.push("--https-listen needs certificates: give --tls-cert and --tls-key, --tls-dir or --tls-internal");
    }
    return undefined;
  }
  return {
    ...address(values, "https-listen", DEFAULT_HTTPS_LISTEN, problems),
    pairs: certs.map((cert, i) => ({ cert, key: keys[i] ?? "" })),
    dirs,
    internal,
    redirect: values.bool("https-redirect"),
    redirectPort: port === 0 ? undefined : port,
    hsts,
  };
}

function address(values: Values, flag: string, fallback: string, problems: string[]): { host: string; port: number } {
  const text = values.string(flag) ?? fallback;
  const parsed = parseHostPort(text.startsWith(":") ? `0.0.0.0${text}` : text);
  if (parsed === undefined) problems.push(`--${flag} "${text}" must be HOST:PORT, such as ${DEFAULT_HTTPS_LISTEN}`);
  return parsed ?? { host: "", port: 0 };
}

/** `MAXAGE[;includeSubDomains][;preload]` to the field's value (RFC 6797 section 6.1); MAXAGE: seconds, or `180d`. */
function readHsts(text: string | undefined, problems: string[]): string | undefined {
  if (text === undefined) return undefined;
  const [age = "", ...options] = text.split(";").map((part) => part.trim());
  const days = /^([0-9]{1,5})d$/.exec(age)?.[1];
  const durationMs = days === undefined ? parseDuration(age) : Number(days) * 86_400_000;
  const seconds = /^[0-9]{1,10}$/.test(age)
    ? Number(age)
    : durationMs === undefined
      ? undefined
      : Math.floor(durationMs / 1_000);
  const known = new Map([
    ["includesubdomains", "includeSubDomains"],
    ["preload", "preload"],
  ]);
  const named = options.map((option) => known.get(option.toLowerCase()));
  if (seconds === undefined || named.includes(undefined)) {
    problems.push(`--hsts "${text}" must be like 180d or 31536000;includeSubDomains`);
    return undefined;
  }
  return [`max-age=${seconds}`, ...named].join("; ");
}

/** `name=value` each. */
export function readLimits(texts: readonly string[], problems: string[]): Limits {
  const chosen: Partial<Record<LimitName, number>> = {};
  for (const text of texts) {
    const equals = text.indexOf("=");
    const name = text.slice(0, Math.max(0, equals)).trim();
    if (!isLimitName(name)) {
      problems.push(`--limit "${text}" must be NAME=VALUE; names: ${LIMIT_NAMES.join(", ")}`);
      continue;
    }
    const { unit, min, max } = LIMIT_RULES[name];
    const value = parseValue(text.slice(equals + 1).trim(), unit);
    if (value === undefined || value > max || (value < min && !(value === 0 && min === 0))) {
      const from = unit === "time" ? `${min / 1_000}s` : String(min);
      const to = unit === "time" ? `${max / 1_000}s` : String(max);
      problems.push(`--limit ${text}: the value must be ${EXAMPLES[unit]}, from ${from} to ${to}`);
    } else chosen[name] = value;
  }
  return limitsFrom(chosen);
}

const EXAMPLES = {
  count: "a whole number",
  "per-second": "requests a second such as 50",
  bytes: "a size such as 512KiB or 100MB",
  time: "a time such as 30s",
} as const;

function parseValue(text: string, unit: keyof typeof EXAMPLES): number | undefined {
  if (unit === "time") return parseDuration(text);
  if (unit === "per-second")
    return /^[0-9]{1,7}(\.[0-9]{1,3})?(\/s)?$/.test(text) ? Number.parseFloat(text) : undefined;
  if (unit === "count") return /^[0-9]{1,9}$/.test(text) ? Number(text) : undefined;
  const match = /^([0-9]{1,12})\s*([a-z]*)$/i.exec(text);
  const factor = UNITS[(match?.[2] ?? "").toLowerCase()];
  return match === null || factor === undefined ? undefined : Number(match[1]) * factor;
}
