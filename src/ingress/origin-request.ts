import { parseDuration } from "../core/duration.ts";
import { nearest } from "../core/nearest.ts";
import { type AccessSettings, NO_ACCESS, parseAccess } from "./access-settings.ts";
import { type IpRule, parseIpRules } from "./ip-rules.ts";
import { didYouMean, type IssueList, type IssuePath } from "./issue.ts";
import { type PathRewriteSettings, parsePathPrefix, parsePathRewrite } from "./path-rewrite.ts";

/** Only idle ones count against it, and those are never more than a machine has ports for: any number will do. */
const MAX_IDLE_CONNECTIONS = 2 ** 31 - 1;
const MAX_CONNECTIONS = 65_535;

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
  /**
   * True: HTTP/2 where TLS settles on it, as cloudflared does. `h2c`, our own: also without TLS, where nothing can be
   * settled and the service must know HTTP/2.
   */
  readonly http2Origin: boolean | "h2c";
  readonly disableChunkedEncoding: boolean;
  readonly bastionMode: boolean;
  readonly proxyAddress: string;
  readonly proxyPort: number;
  readonly proxyType: string;
  readonly ipRules: readonly IpRule[];
  readonly access: AccessSettings;
  /** Those from here on are our own. PEM files with which we prove who we are to a service with TLS; both or neither. */
  readonly clientCert: string;
  readonly clientKey: string;
  /** Header in front of each connection that names the visitor; empty = none. */
  readonly proxyProtocol: "" | "v1" | "v2";
  /** Connections at once; 0 = no bound. Requests beyond it wait, within bounds. */
  readonly maxConnections: number;
  /** From the end of the request to the head of the answer; 0 = for ever. */
  readonly responseHeaderTimeout: number;
  /** Path to take away in front of a request's; empty = none. */
  readonly pathPrefixStrip: string;
  readonly pathRewrite: PathRewriteSettings | undefined;
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
  access: NO_ACCESS,
  clientCert: "",
  clientKey: "",
  proxyProtocol: "",
  maxConnections: 0,
  responseHeaderTimeout: 0,
  pathPrefixStrip: "",
  pathRewrite: undefined,
};

/** Durations are Go texts in YAML (`30s`) and whole seconds in JSON. */
export type DurationStyle = "text" | "seconds";

/** What reading settings depends on besides the settings. */
export interface OriginContext {
  readonly issues: IssueList;
  readonly durations: DurationStyle;
}

/** Reads one value, or adds an issue and gives undefined. */
type Reader<T> = (value: unknown, at: IssuePath, context: OriginContext) => T | undefined;

/** Reads an `originRequest` map over the settings it starts from: a key that is absent, or null, keeps their value. */
export function parseOriginSettings(
  raw: unknown,
  base: OriginSettings,
  at: IssuePath,
  context: OriginContext,
): OriginSettings {
  if (raw === undefined || raw === null) return base;
  if (typeof raw !== "object" || Array.isArray(raw)) {
    context.issues.error(at, "Must be a map of settings");
    return base;
  }
  const settings: Mutable<OriginSettings> = { ...base };
  for (const [key, value] of Object.entries(raw)) {
    const path = [...at, key];
    if (!isSetting(key)) {
      context.issues.warning(path, `Unknown key "${key}"`, didYouMean(nearest(key, Object.keys(READERS))));
    } else if (value !== undefined && value !== null) read(settings, key, value, path, context);
  }
  return settings;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

function read<K extends keyof OriginSettings>(
  settings: Mutable<OriginSettings>,
  key: K,
  value: unknown,
  at: IssuePath,
  context: OriginContext,
): void {
  const reader: Reader<OriginSettings[K]> = READERS[key];
  const parsed = reader(value, at, context);
  if (parsed !== undefined) settings[key] = parsed;
}

function isSetting(key: string): key is keyof OriginSettings {
  return Object.hasOwn(READERS, key);
}

/** The hint for a setting that stands outside `originRequest`; undefined for what is none. */
export function misplacedSetting(key: string): string | undefined {
  return isSetting(key) ? 'put it below "originRequest"' : undefined;
}

/** A time from 0, in ms. */
export const readDuration: Reader<number> = (value, at, { issues, durations }) => {
  const ms =
    durations === "seconds"
      ? typeof value === "number" && Number.isInteger(value)
        ? value * 1_000
        : undefined
      : typeof value === "string"
        ? parseDuration(value)
        : undefined;
  if (ms !== undefined && ms >= 0) return ms;
  const wanted = durations === "seconds" ? "a whole number of seconds" : "a duration such as 30s";
  issues.error(at, `"${String(at.at(-1))}" must be ${wanted}, not ${quote(value)}`);
  return undefined;
};

const text: Reader<string> = (value, at, { issues }) => {
  if (typeof value === "string") return value;
  issues.error(at, `"${String(at.at(-1))}" must be a text, not ${quote(value)}`);
  return undefined;
};

export const HOST_HEADER_SHAPE = "a host such as app.example.com or localhost:8080";

/** Whether a service can be sent this as Host (RFC 9110 section 7.2): characters of a host and its port, and no others. */
export function isHostHeader(value: string): boolean {
  return /^[0-9A-Za-z!$%&'()*+,\-.:;=[\]_~]+$/.test(value);
}

const hostHeader: Reader<string> = (value, at, context) => {
  const host = text(value, at, context);
  if (host === undefined || host === "" || isHostHeader(host)) return host;
  context.issues.error(at, `"${String(at.at(-1))}" must be ${HOST_HEADER_SHAPE}, not ${JSON.stringify(host)}`);
  return undefined;
};

const flag: Reader<boolean> = (value, at, { issues }) => {
  if (typeof value === "boolean") return value;
  issues.error(at, `"${String(at.at(-1))}" must be true or false, not ${quote(value)}`);
  return undefined;
};

/** A whole number from 0. */
function count(max: number): Reader<number> {
  return (value, at, { issues }) => {
    if (typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= max) return value;
    issues.error(at, `"${String(at.at(-1))}" must be a whole number from 0 to ${max}, not ${quote(value)}`);
    return undefined;
  };
}

/** To cloudflared whatever is not `socks` is empty: files that count on it must go on working (surface: section 11). */
const proxyType: Reader<string> = (value, at, { issues }) => {
  if (typeof value !== "string") {
    issues.error(at, `"proxyType" must be empty or socks, not ${quote(value)}`);
    return undefined;
  }
  if (value !== "" && value !== "socks") {
    issues.warning(at, `"proxyType" ${quote(value)} is not known, and does nothing`, "only socks does something");
  }
  return value;
};

const proxyProtocol: Reader<"" | "v1" | "v2"> = (value, at, { issues }) => {
  if (value === "" || value === "v1" || value === "v2") return value;
  issues.error(at, `"proxyProtocol" must be v1, v2 or empty, not ${quote(value)}`);
  return undefined;
};

const http2Origin: Reader<boolean | "h2c"> = (value, at, { issues }) => {
  if (typeof value === "boolean" || value === "h2c") return value;
  issues.error(at, `"http2Origin" must be true, false or h2c, not ${quote(value)}`);
  return undefined;
};

function quote(value: unknown): string {
  return typeof value === "object" ? (Array.isArray(value) ? "a list" : "a map") : `"${String(value)}"`;
}

const READERS: { readonly [K in keyof OriginSettings]: Reader<OriginSettings[K]> } = {
  connectTimeout: readDuration,
  tlsTimeout: readDuration,
  tcpKeepAlive: readDuration,
  noHappyEyeballs: flag,
  keepAliveConnections: count(MAX_IDLE_CONNECTIONS),
  keepAliveTimeout: readDuration,
  httpHostHeader: hostHeader,
  originServerName: text,
  matchSNItoHost: flag,
  caPool: text,
  noTLSVerify: flag,
  http2Origin,
  disableChunkedEncoding: flag,
  bastionMode: flag,
  proxyAddress: text,
  proxyPort: count(65_535),
  proxyType,
  ipRules: (value, at, { issues }) => parseIpRules(value, at, issues),
  access: (value, at, { issues }) => parseAccess(value, at, issues),
  clientCert: text,
  clientKey: text,
  proxyProtocol,
  maxConnections: count(MAX_CONNECTIONS),
  responseHeaderTimeout: readDuration,
  pathPrefixStrip: (value, at, { issues }) => parsePathPrefix(value, at, issues),
  pathRewrite: (value, at, { issues }) => parsePathRewrite(value, at, issues),
};
