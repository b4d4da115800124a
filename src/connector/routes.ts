import type { Clock } from "../core/clock.ts";
import { describe, TunnelError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import { accessAuthority } from "../ingress/access-settings.ts";
import type { OriginSettings } from "../ingress/origin-request.ts";
import { createPathRewrite } from "../ingress/path-rewrite.ts";
import { type IngressRules, matchRule } from "../ingress/rules.ts";
import type { ServiceSpec } from "../ingress/service.ts";
import { createOriginService } from "../origin/index.ts";
import type { OriginService } from "../origin/port.ts";
import { createPrivateNetwork, type PrivateNetwork } from "../origin/tcp/private-network.ts";
import { type AccessCheck, createAccessCheck } from "../proxy/access-check.ts";
import { AccessKeys } from "../proxy/access-keys.ts";
import type { Route, Router } from "../proxy/proxy.ts";

/** What rules become: each with its service. */
export interface RouteTable {
  readonly rules: IngressRules;
  readonly route: Router;
  /** By what makes them the same service in another table. */
  readonly services: ReadonlyMap<string, RuleService>;
  /** What streams without a rule may reach; undefined = nothing. */
  readonly privateNetwork: PrivateNetwork | undefined;
  /** By URL. */
  readonly accessKeys: ReadonlyMap<string, AccessKeys>;
}

export interface RuleService {
  readonly service: OriginService;
  /** The rule that has it, from 0. */
  readonly ruleIndex: number;
  /** Files it was made from, by path: when their text is another, so is the service. */
  readonly files: ReadonlyMap<string, string>;
}

export interface RouteDeps {
  readonly clock: Clock;
  readonly tags: ReadonlyArray<readonly [name: string, value: string]>;
  /** Gives the text of a `caPool`; throws as `node:fs` does. */
  readonly readFile: (path: string) => string;
  /** @default nothing is logged */
  readonly log?: Logger | undefined;
}

/** What is wrong with one rule, its number not in it. */
export interface RouteProblem {
  /** From 0. */
  readonly ruleIndex: number;
  readonly message: string;
}

/** Rules that this connector cannot serve: all that is wrong with them. */
export class RoutesError extends TunnelError {
  readonly problems: readonly RouteProblem[];

  constructor(problems: readonly RouteProblem[]) {
    super("config.invalid", problems.map(formatRouteProblem).join("; "));
    this.problems = problems;
  }
}

export function formatRouteProblem({ ruleIndex, message }: RouteProblem): string {
  return `Rule #${ruleIndex + 1}: ${message}`;
}

/**
 * Builds the services of these rules, and takes those from `before` that would be the same: what has not changed keeps
 * its connections. Throws a {@link RoutesError} for rules that cannot be served.
 */
export function createRoutes(rules: IngressRules, deps: RouteDeps, before?: RouteTable): RouteTable {
  const services = new Map<string, RuleService>();
  const accessKeys = new Map<string, AccessKeys>();
  const problems: RouteProblem[] = [];
  const routes: Route[] = [];
  for (const [ruleIndex, { service: spec, settings }] of rules.rules.entries()) {
    const hostHeader = settings.httpHostHeader === "" ? undefined : settings.httpHostHeader;
    try {
      const key = freeKey(services, JSON.stringify([spec, settings]));
      const kept = before?.services.get(key);
      const made = kept !== undefined && isUpToDate(kept, deps) ? kept : createService(spec, settings, deps);
      services.set(key, { ...made, ruleIndex });
      routes.push({
        ruleIndex,
        service: made.service,
        headers: { hostHeader, tags: deps.tags },
        access: accessOf(settings, accessKeys, deps, before),
        rewrite: createPathRewrite(settings.pathPrefixStrip, settings.pathRewrite),
      });
    } catch (error) {
      problems.push({ ruleIndex, message: describe(error) });
    }
  }
  if (problems.length > 0) throw new RoutesError(problems);
  return {
    rules,
    services,
    privateNetwork:
      rules.privateNetwork === undefined ? undefined : createPrivateNetwork(rules.privateNetwork, deps.clock),
    accessKeys,
    route: (host, path) => {
      const match = matchRule(rules, host, path);
      return match.kind === "rule" ? (routes[match.index] as Route) : match;
    },
  };
}

/** Rules of one team share its keys, also from one table to the next. */
function accessOf(
  { access }: OriginSettings,
  accessKeys: Map<string, AccessKeys>,
  deps: RouteDeps,
  before: RouteTable | undefined,
): AccessCheck | undefined {
  if (!access.required) return undefined;
  const { issuer, certsUrl } = accessAuthority(access) ?? { issuer: "", certsUrl: "" };
  const keys = accessKeys.get(certsUrl) ?? before?.accessKeys.get(certsUrl) ?? new AccessKeys(certsUrl, deps);
  accessKeys.set(certsUrl, keys);
  // Without an issuer there is no audience either (parseAccess), so nobody passes and nobody is asked for keys.
  return createAccessCheck({ issuer, audiences: issuer === "" ? [] : access.audTag }, keys, deps.clock);
}

function isUpToDate({ files }: RuleService, deps: RouteDeps): boolean {
  try {
    return [...files].every(([path, text]) => deps.readFile(path) === text);
  } catch {
    return false;
  }
}

/** Rules that say the same have a service each, with limits of its own. */
function freeKey(services: ReadonlyMap<string, RuleService>, key: string): string {
  let free = key;
  for (let again = 1; services.has(free); again += 1) free = `${key}#${again}`;
  return free;
}

function createService(
  spec: ServiceSpec,
  settings: OriginSettings,
  deps: RouteDeps,
): Pick<RuleService, "service" | "files"> {
  const files = new Map<string, string>();
  const readFile = (path: string): string => {
    const text = deps.readFile(path);
    files.set(path, text);
    return text;
  };
  return { service: createOriginService(spec, settings, { ...deps, readFile }), files };
}
