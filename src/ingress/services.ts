import { nearest } from "../core/nearest.ts";
import { didYouMean, type IssuePath } from "./issue.ts";
import { type OriginContext, readDuration } from "./origin-request.ts";
import {
  type BackendSpec,
  type BalanceSettings,
  formatService,
  type HealthCheckSettings,
  parseService,
  type ServiceSpec,
} from "./service.ts";

const MAX_BACKENDS = 64;
const MAX_WEIGHT = 1_000;
const MAX_THRESHOLD = 100;
/** Checks must not be the load that they look for, in ms. */
const MIN_INTERVAL_MS = 100;

export const BACKEND_KEYS = ["service", "weight"] as const;
export const BALANCE_KEYS = ["healthCheck", "stickyCookie", "ejectAfter", "ejectFor"] as const;
export const HEALTH_KEYS = ["path", "interval", "timeout", "healthyAfter", "unhealthyAfter"] as const;
const HTTP_KINDS: ReadonlySet<ServiceSpec["kind"]> = new Set(["http", "https", "h2c", "unix", "unix+tls"]);

const DEFAULT_BALANCE: BalanceSettings = { healthCheck: undefined, stickyCookie: "", ejectAfter: 3, ejectFor: 10_000 };
const DEFAULT_HEALTH_CHECK: HealthCheckSettings = {
  path: "/",
  interval: 10_000,
  timeout: 2_000,
  healthyAfter: 2,
  unhealthyAfter: 3,
};

type RawMap = Readonly<Record<string, unknown>>;

/** Reads `services` and `balance` of a rule; undefined, with issues, when something in them is wrong. */
export function parseServices(
  raw: RawMap,
  at: IssuePath,
  name: string,
  context: OriginContext,
): ServiceSpec | undefined {
  const { issues } = context;
  const before = issues.issues.length;
  const list = raw["services"];
  const place = [...at, "services"];
  if (raw["service"] !== undefined && raw["service"] !== null) {
    issues.error(at, `${name} has both "service" and "services": give one of them`);
  }
  if (!Array.isArray(list) || list.length === 0 || list.length > MAX_BACKENDS) {
    issues.error(place, `"services" must be a list of 1 to ${MAX_BACKENDS} services`);
    return undefined;
  }
  const entries: readonly unknown[] = list;
  const backends = entries.map((entry, i) => parseBackend(entry, [...place, i], name, context));
  const seen = new Set<string>();
  for (const [i, backend] of backends.entries()) {
    const label = backend === undefined ? undefined : formatService(backend.service);
    if (label === undefined) continue;
    if (seen.has(label)) issues.error([...place, i], `${name} names "${label}" twice`, "use its weight");
    seen.add(label);
  }
  const balance = parseBalance(raw["balance"], [...at, "balance"], context);
  if (issues.issues.slice(before).some(({ severity }) => severity === "error")) return undefined;
  return { kind: "balanced", backends: backends.filter((backend) => backend !== undefined), balance };
}

function parseBackend(entry: unknown, at: IssuePath, name: string, context: OriginContext): BackendSpec | undefined {
  const { issues } = context;
  const map = typeof entry === "string" ? { service: entry } : mapOf(entry, at, BACKEND_KEYS, context);
  if (map === undefined) return undefined;
  const text = map["service"];
  if (typeof text !== "string" || text === "") {
    issues.error(at, `${name}: an entry of "services" needs a service`);
    return undefined;
  }
  const service = parseService(text);
  if ("error" in service) {
    issues.error(at, `${name}: ${service.error}`);
    return undefined;
  }
  if (!HTTP_KINDS.has(service.kind)) {
    issues.error(at, `${name}: "services" speak HTTP: "${text}" does not`);
    return undefined;
  }
  return { service, weight: count(map, "weight", 1, MAX_WEIGHT, 1, at, context) };
}

function parseBalance(raw: unknown, at: IssuePath, context: OriginContext): BalanceSettings {
  if (raw === undefined || raw === null) return DEFAULT_BALANCE;
  const map = mapOf(raw, at, BALANCE_KEYS, context);
  if (map === undefined) return DEFAULT_BALANCE;
  const stickyCookie = map["stickyCookie"] ?? "";
  if (typeof stickyCookie !== "string" || !/^[!#$%&'*+\-.^_`|~0-9A-Za-z]*$/.test(stickyCookie)) {
    context.issues.error([...at, "stickyCookie"], '"stickyCookie" must be the name of a cookie');
  }
  return {
    healthCheck: parseHealthCheck(map["healthCheck"], [...at, "healthCheck"], context),
    stickyCookie: String(stickyCookie),
    ejectAfter: count(map, "ejectAfter", 0, MAX_THRESHOLD, DEFAULT_BALANCE.ejectAfter, at, context),
    ejectFor: time(map, "ejectFor", DEFAULT_BALANCE.ejectFor, at, context),
  };
}

function parseHealthCheck(raw: unknown, at: IssuePath, context: OriginContext): HealthCheckSettings | undefined {
  if (raw === undefined || raw === null) return undefined;
  const map = mapOf(raw, at, HEALTH_KEYS, context);
  if (map === undefined) return undefined;
  const defaults = DEFAULT_HEALTH_CHECK;
  const path = map["path"] ?? defaults.path;
  if (typeof path !== "string" || !/^\/[!-~]*$/.test(path)) {
    context.issues.error([...at, "path"], '"path" must be a path such as /healthz');
  }
  return {
    path: String(path),
    interval: time(map, "interval", defaults.interval, at, context),
    timeout: time(map, "timeout", defaults.timeout, at, context),
    healthyAfter: count(map, "healthyAfter", 1, MAX_THRESHOLD, defaults.healthyAfter, at, context),
    unhealthyAfter: count(map, "unhealthyAfter", 1, MAX_THRESHOLD, defaults.unhealthyAfter, at, context),
  };
}

function mapOf(raw: unknown, at: IssuePath, keys: readonly string[], { issues }: OriginContext): RawMap | undefined {
  if (typeof raw !== "object" || raw === null || Array.isArray(raw)) {
    issues.error(at, `Must be a map with ${keys.join(", ")}`);
    return undefined;
  }
  for (const key of Object.keys(raw)) {
    if (!keys.includes(key)) issues.warning([...at, key], `Unknown key "${key}"`, didYouMean(nearest(key, keys)));
  }
  return { ...raw };
}

function count(
  map: RawMap,
  key: string,
  min: number,
  max: number,
  otherwise: number,
  at: IssuePath,
  { issues }: OriginContext,
): number {
  const value = map[key] ?? otherwise;
  if (typeof value === "number" && Number.isInteger(value) && value >= min && value <= max) return value;
  issues.error([...at, key], `"${key}" must be a whole number from ${min} to ${max}`);
  return otherwise;
}

/** No time at all is a typing error for each of these. */
function time(map: RawMap, key: string, otherwise: number, at: IssuePath, context: OriginContext): number {
  const value = map[key];
  if (value === undefined || value === null) return otherwise;
  const ms = readDuration(value, [...at, key], context);
  if (ms !== undefined && ms < MIN_INTERVAL_MS) {
    context.issues.error([...at, key], `"${key}" must be ${MIN_INTERVAL_MS}ms or longer`);
  }
  return ms ?? otherwise;
}
