import type { Clock } from "../core/clock.ts";
import { TunnelError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import type { OriginSettings } from "../ingress/origin-request.ts";
import { formatService, type ServiceSpec } from "../ingress/service.ts";
import { createBalancedService } from "./balanced/service.ts";
import { createHelloService } from "./hello.ts";
import { createHttpOrigin } from "./http-origin.ts";
import type { OriginService } from "./port.ts";
import { createStatusService } from "./status.ts";
import { createBastionService, createSocksService, createTcpService } from "./tcp/service.ts";

export interface OriginDeps {
  readonly clock: Clock;
  /** Gives a file's text; throws as `node:fs` does. */
  readonly readFile: (path: string) => string;
  readonly log?: Logger | undefined;
}

/** Makes the service of a rule, or answers undefined when the rule names another kind. */
export type OriginPlugin = (spec: ServiceSpec, settings: OriginSettings, deps: OriginDeps) => OriginService | undefined;

const http: OriginPlugin = createHttpOrigin;

const status: OriginPlugin = (spec) => (spec.kind === "http_status" ? createStatusService(spec.status) : undefined);

const hello: OriginPlugin = (spec, _settings, deps) =>
  spec.kind === "hello_world" ? createHelloService(deps.clock) : undefined;

const streams: OriginPlugin = (spec, settings, { clock, log }) => {
  const common = {
    label: formatService(spec),
    reach: {
      connectTimeoutMs: settings.connectTimeout,
      keepAliveMs: settings.tcpKeepAlive,
      race: !settings.noHappyEyeballs,
      clock,
    },
    log,
  };
  const { ipRules, proxyType, proxyProtocol } = settings;
  switch (spec.kind) {
    case "tcp":
      return createTcpService({
        ...common,
        to: spec,
        socks: proxyType === "socks",
        proxyProtocol: proxyProtocol === "" ? undefined : proxyProtocol,
      });
    case "bastion":
      return createBastionService({ ...common, ipRules });
    case "socks-proxy":
      return createSocksService({ ...common, ipRules });
    default:
      return undefined;
  }
};

const balanced: OriginPlugin = (spec, settings, deps) => {
  if (spec.kind !== "balanced") return undefined;
  const parts = spec.backends.flatMap(({ service: one, weight }) => {
    const service = createHttpOrigin(one, settings, deps);
    const host = settings.httpHostHeader === "" ? hostOf(one) : settings.httpHostHeader;
    return service === undefined ? [] : [{ service, weight, host }];
  });
  return createBalancedService(formatService(spec), parts, spec.balance, deps);
};

/** What a service is called in a URL of its own. */
function hostOf(spec: ServiceSpec): string {
  return "host" in spec ? formatService(spec).replace(/^[^:]*:\/\//, "") : "localhost";
}

/** The kinds of service a rule may name. Adding one is a file and an entry here. */
const ORIGINS: readonly OriginPlugin[] = [http, balanced, streams, status, hello];

/** The service of a rule. Throws `config.invalid`. */
export function createOriginService(spec: ServiceSpec, settings: OriginSettings, deps: OriginDeps): OriginService {
  for (const plugin of ORIGINS) {
    const service = plugin(spec, settings, deps);
    if (service !== undefined) return service;
  }
  throw new TunnelError("config.invalid", `no service of this release takes "${formatService(spec)}"`);
}
