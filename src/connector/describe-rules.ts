import { DEFAULT_ORIGIN_SETTINGS, type OriginSettings } from "../ingress/origin-request.ts";
import { DEFAULT_PRIVATE_NETWORK } from "../ingress/private-network.ts";
import type { IngressRules } from "../ingress/rules.ts";
import { formatService } from "../ingress/service.ts";

// Rules as JSON, in cloudflared's shapes; durations in seconds.

/** Flags that an edge is told of when somebody set them (protocol: section 6). None of them is a secret. */
const REPORTED_FLAGS: ReadonlySet<string> = new Set([
  "autoupdate-freq",
  "edge-bind-address",
  "edge-ip-version",
  "loglevel",
  "max-active-flows",
  "metrics",
  "metrics-update-freq",
  "no-autoupdate",
  "origincert",
  "protocol",
  "retries",
  "transport-loglevel",
]);

/** Text of a flag as somebody set it. */
export interface SetFlag {
  readonly name: string;
  /** Masked where it is a secret. */
  readonly value: string;
  /** @default false */
  readonly secret?: boolean;
}

/**
 * What the edge is told of local rules: settings only where they differ from the defaults, and of `flags` those that it
 * may know (protocol: section 6).
 */
export function describeRules(rules: IngressRules, flags: readonly SetFlag[] = []): string {
  const ingress = rules.rules.map((rule) => ({
    ...(rule.hostname === "" ? {} : { hostname: rule.hostname }),
    ...(rule.path === undefined ? {} : { path: rule.path.source }),
    service: formatService(rule.service),
    originRequest: inSeconds(reportedSettings(rule.settings)),
  }));
  const reported = flags.filter(({ name }) => REPORTED_FLAGS.has(name));
  return JSON.stringify({
    __configuration_flags: Object.fromEntries(reported.map(({ name, value }) => [name, value])),
    ingress,
    "warp-routing": describePrivateNetwork(rules, { changedOnly: true }),
  });
}

/** What `/config` of the metrics server shows: every setting of every rule (surface: section 15). */
export function describeConfiguration(rules: IngressRules, version: number): string {
  const ingress = rules.rules.map((rule) => ({
    hostname: rule.hostname,
    path: rule.path?.source ?? null,
    service: formatService(rule.service),
    originRequest: inSeconds(rule.settings),
  }));
  const originRequest = inSeconds(rules.defaults ?? DEFAULT_ORIGIN_SETTINGS);
  const network = describePrivateNetwork(rules, { changedOnly: false });
  return JSON.stringify({ version, config: { ingress, "warp-routing": network, originRequest } });
}

/** The settings that are not the defaults, in ms where they are times. */
export function changedSettings(settings: OriginSettings): Partial<OriginSettings> {
  return changed(settings, DEFAULT_ORIGIN_SETTINGS);
}

/** `access` as cloudflared says it: not at all where it asks nothing of anybody, and without what is empty. */
function reportedSettings(settings: OriginSettings): Record<string, unknown> {
  const { access: _access, ...others } = changedSettings(settings);
  const { access } = settings;
  if (!access.required) return others;
  return { ...others, access: Object.fromEntries(Object.entries(access).filter(([, value]) => value !== "")) };
}

function changed<T extends object>(settings: T, defaults: T): Partial<T> {
  const standard = new Map<string, unknown>(Object.entries(defaults));
  const entries = Object.entries(settings).filter(
    ([key, value]) => JSON.stringify(value) !== JSON.stringify(standard.get(key)),
  );
  return Object.fromEntries(entries) as Partial<T>;
}

/** True for settings that are durations. */
export function isDuration(key: string): boolean {
  return /Timeout$|KeepAlive$/.test(key);
}

/** Nothing = closed. */
function describePrivateNetwork(
  { privateNetwork }: IngressRules,
  { changedOnly }: { readonly changedOnly: boolean },
): Record<string, unknown> {
  if (privateNetwork === undefined) return {};
  const settings = changedOnly ? changed(privateNetwork, DEFAULT_PRIVATE_NETWORK) : privateNetwork;
  return { enabled: true, ...inSeconds(settings) };
}

function inSeconds(settings: object): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(settings).map(([key, value]) => [key, isDuration(key) ? Number(value) / 1000 : value]),
  );
}
