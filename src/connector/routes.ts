import type { Clock } from "../core/clock.ts";
import { TunnelError } from "../core/errors.ts";
import type { OriginSettings } from "../ingress/origin-request.ts";
import { DEFAULT_ORIGIN_SETTINGS } from "../ingress/origin-request.ts";
import { type IngressRules, matchRule } from "../ingress/rules.ts";
import { formatService, type ServiceSpec } from "../ingress/service.ts";
import { createOriginService } from "../origin/index.ts";
import type { OriginService } from "../origin/port.ts";
import type { Route, Router } from "../proxy/proxy.ts";

/** The rules at work: each with its service. */
export interface RouteTable {
  readonly route: Router;
  start(): Promise<void>;
  close(): Promise<void>;
  /** The rules as the edge is told of them, JSON (protocol: section 6). */
  describe(): string;
}

/**
 * Builds the services of these rules. `readFile` gives the text of a `caPool`. Throws `config.invalid` for a rule
 * that this release cannot serve, naming it.
 */
export function createRoutes(
  rules: IngressRules,
  deps: {
    readonly clock: Clock;
    readonly tags: ReadonlyArray<readonly [name: string, value: string]>;
    readonly readFile: (path: string) => string;
  },
): RouteTable {
  const routes = rules.rules.map(({ service, settings }, ruleIndex): Route => {
    const hostHeader = settings.httpHostHeader === "" ? undefined : settings.httpHostHeader;
    return {
      ruleIndex,
      service: createService(service, settings, ruleIndex, deps),
      headers: { hostHeader, tags: deps.tags },
    };
  });
  return {
    route: (host, path) => {
      const match = matchRule(rules, host, path);
      return match.kind === "rule" ? (routes[match.index] as Route) : match;
    },
    start: async () => {
      for (const route of routes) await route.service.start();
    },
    close: async () => {
      for (const route of routes) await route.service.close();
    },
    describe: () => describeRules(rules),
  };
}

function createService(
  spec: ServiceSpec,
  settings: OriginSettings,
  ruleIndex: number,
  deps: { readonly clock: Clock; readonly readFile: (path: string) => string },
): OriginService {
  const service = createOriginService(spec, settings, deps);
  if (service !== undefined) return service;
  throw new TunnelError(
    "config.invalid",
    `Rule #${ruleIndex + 1}: this release does not serve "${formatService(spec)}": use http, https, unix, unix+tls, http_status or hello_world`,
  );
}

/** Rules with the settings that differ from the defaults; durations in whole seconds, as JSON has them. */
function describeRules(rules: IngressRules): string {
  const ingress = rules.rules.map((rule) => ({
    ...(rule.hostname === "" ? {} : { hostname: rule.hostname }),
    ...(rule.path === undefined ? {} : { path: rule.path.source }),
    service: formatService(rule.service),
    originRequest: changedSettings(rule.settings),
  }));
  return JSON.stringify({ __configuration_flags: {}, ingress, "warp-routing": {} });
}

function changedSettings(settings: OriginSettings): Record<string, unknown> {
  const defaults: Record<string, unknown> = { ...DEFAULT_ORIGIN_SETTINGS };
  const changed = Object.entries(settings).filter(
    ([key, value]) => JSON.stringify(value) !== JSON.stringify(defaults[key]),
  );
  return Object.fromEntries(
    changed.map(([key, value]) => [key, /Timeout$|KeepAlive$/.test(key) ? Math.round(Number(value) / 1000) : value]),
  );
}
