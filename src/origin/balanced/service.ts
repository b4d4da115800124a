import type { Clock } from "../../core/clock.ts";
import type { Logger } from "../../core/log.ts";
import type { BalanceSettings } from "../../ingress/service.ts";
import type { OriginEvents, OriginExchange, OriginRequest, OriginService } from "../port.ts";
import { Backend } from "./backend.ts";
import { chooseBackend } from "./choose.ts";
import { BalancedExchange } from "./exchange.ts";
import { HealthChecks } from "./health.ts";
import { backendId, readCookie, stickyCookie } from "./sticky.ts";

/** One of the services behind a rule. */
export interface BalancedPart {
  readonly service: OriginService;
  readonly weight: number;
  /** What checks say as Host. */
  readonly host: string;
}

/** `services: [...]`: several services that answer the same requests; there is at least one. */
export function createBalancedService(
  label: string,
  parts: readonly BalancedPart[],
  balance: BalanceSettings,
  deps: { readonly clock: Clock; readonly log?: Logger | undefined },
): OriginService {
  const backends = parts.map(
    ({ service, weight }) => new Backend(service, { weight, id: backendId(service.label), balance }, deps),
  );
  const { healthCheck, stickyCookie: cookie } = balance;
  const checks =
    healthCheck === undefined
      ? []
      : backends.map((backend, i) => new HealthChecks(backend, healthCheck, parts[i]?.host ?? "", deps.clock));

  /** The backend that a visitor had before, as long as it is usable. */
  const former = (request: OriginRequest, tried: ReadonlySet<Backend>): Backend | undefined => {
    const id = cookie === "" ? undefined : readCookie(request.headers, cookie);
    return id === undefined
      ? undefined
      : backends.find((backend) => backend.id === id && backend.usable && !tried.has(backend));
  };

  return {
    label,
    start: async () => {
      await Promise.all(backends.map(({ service }) => service.start()));
      for (const check of checks) check.start();
    },
    close: async () => {
      for (const check of checks) check.stop();
      await Promise.allSettled(backends.map(({ service }) => service.close()));
    },
    backends: () => backends.map(({ status }) => status),
    load: () => {
      const loads = backends.flatMap(({ service }) => service.load?.() ?? []);
      return loads.length === 0
        ? undefined
        : loads.reduce((sum, load) => ({
            limit: sum.limit + load.limit,
            taken: sum.taken + load.taken,
            waiting: sum.waiting + load.waiting,
          }));
    },
    exchange: (request: OriginRequest, events: OriginEvents): OriginExchange => {
      const choose = (tried: ReadonlySet<Backend>): Backend | undefined =>
        former(request, tried) ?? chooseBackend(backends, tried);
      const first = choose(new Set()) ?? (backends[0] as Backend);
      const known = cookie === "" ? undefined : readCookie(request.headers, cookie);
      return new BalancedExchange(
        {
          request,
          events,
          choose,
          answerFields: ({ id }) =>
            cookie === "" || known === id ? [] : ["Set-Cookie", stickyCookie(cookie, id, request.headers)],
        },
        first,
      );
    },
  };
}
