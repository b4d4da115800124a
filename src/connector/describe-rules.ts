import { DEFAULT_ORIGIN_SETTINGS, type OriginSettings } from "../ingress/origin-request.ts";
import type { IngressRules } from "../ingress/rules.ts";
import { formatService } from "../ingress/service.ts";

// Rules as JSON, in cloudflared's shapes; durations in whole seconds.

/** What the edge is told of local rules: settings only where they differ from the defaults (protocol: section 6). */
export function describeRules(rules: IngressRules): string {
  const ingress = rules.rules.map((rule) => ({
    ...(rule.hostname === "" ? {} : { hostname: rule.hostname }),
    ...(rule.path === undefined ? {} : { path: rule.path.source }),
    service: formatService(rule.service),
    originRequest: inSeconds(changedSettings(rule.settings)),
  }));
  return JSON.stringify({ __configuration_flags: {}, ingress, "warp-routing": {} });
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
  return JSON.stringify({ version, config: { ingress, "warp-routing": {}, originRequest } });
}

/** The settings that are not the defaults, in ms where they are times. */
export function changedSettings(settings: OriginSettings): Partial<OriginSettings> {
  const defaults: Record<string, unknown> = { ...DEFAULT_ORIGIN_SETTINGS };
  return Object.fromEntries(
    Object.entries(settings).filter(([key, value]) => JSON.stringify(value) !== JSON.stringify(defaults[key])),
  );
}

/** True for settings that are durations. */
export function isDuration(key: string): boolean {
  return /Timeout$|KeepAlive$/.test(key);
}

function inSeconds(settings: Partial<OriginSettings>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(settings).map(([key, value]) => [key, isDuration(key) ? Math.round(Number(value) / 1000) : value]),
  );
}
