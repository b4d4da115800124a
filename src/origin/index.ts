import type { Clock } from "../core/clock.ts";
import { TunnelError } from "../core/errors.ts";
import type { OriginSettings } from "../ingress/origin-request.ts";
import { formatService, type ServiceSpec } from "../ingress/service.ts";
import type { DialAddress } from "../net/sockets.ts";
import { createHelloService } from "./hello.ts";
import { createHttpService, type HttpServiceOptions } from "./http-service.ts";
import type { OriginService } from "./port.ts";
import { createStatusService } from "./status.ts";

export interface OriginDeps {
  readonly clock: Clock;
  /** Gives a file's text; throws as `node:fs` does. */
  readonly readFile: (path: string) => string;
}

/** Makes the service of a rule, or answers undefined when the rule names another kind. */
export type OriginPlugin = (spec: ServiceSpec, settings: OriginSettings, deps: OriginDeps) => OriginService | undefined;

const http: OriginPlugin = (spec, settings, deps) => {
  const target = httpTarget(spec);
  if (target === undefined) return undefined;
  const options: HttpServiceOptions = {
    label: formatService(spec),
    address: target.address,
    secure: target.secure,
    http2: usesHttp2(spec, target.secure, settings),
    connectTimeoutMs: settings.connectTimeout,
    tlsTimeoutMs: settings.tlsTimeout,
    keepAliveMs: settings.tcpKeepAlive,
    maxIdleConnections: settings.keepAliveConnections,
    idleTimeoutMs: settings.keepAliveTimeout,
    serverName: settings.originServerName === "" ? target.name : settings.originServerName,
    ca: settings.caPool === "" ? undefined : readCaPool(settings.caPool, deps.readFile),
    verify: !settings.noTLSVerify,
  };
  return createHttpService(options, deps.clock);
};

/** Where an HTTP service is, and the name its certificate should carry. */
function httpTarget(spec: ServiceSpec): { address: DialAddress; secure: boolean; name: string } | undefined {
  switch (spec.kind) {
    case "http":
    case "https":
    case "h2c":
      return { address: { host: spec.host, port: spec.port }, secure: spec.kind === "https", name: spec.host };
    case "unix":
    case "unix+tls":
      return { address: { path: spec.path }, secure: spec.kind === "unix+tls", name: "localhost" };
    default:
      return undefined;
  }
}

/** Without TLS there is no settling on a version: `true` alone means nothing there, as in cloudflared. */
function usesHttp2(spec: ServiceSpec, secure: boolean, { http2Origin }: OriginSettings): boolean {
  return spec.kind === "h2c" || http2Origin === "h2c" || (secure && http2Origin);
}

const status: OriginPlugin = (spec) => (spec.kind === "http_status" ? createStatusService(spec.status) : undefined);

const hello: OriginPlugin = (spec, _settings, deps) =>
  spec.kind === "hello_world" ? createHelloService(deps.clock) : undefined;

/** The kinds of service a rule may name. Adding one is a file and an entry here. */
const ORIGINS: readonly OriginPlugin[] = [http, status, hello];

/** The service of a rule; undefined when this program has none of that kind. Throws `config.invalid`. */
export function createOriginService(
  spec: ServiceSpec,
  settings: OriginSettings,
  deps: OriginDeps,
): OriginService | undefined {
  for (const plugin of ORIGINS) {
    const service = plugin(spec, settings, deps);
    if (service !== undefined) return service;
  }
  return undefined;
}

function readCaPool(path: string, readFile: OriginDeps["readFile"]): string {
  try {
    return readFile(path);
  } catch (cause) {
    throw new TunnelError("config.invalid", `Cannot read caPool "${path}"`, { cause });
  }
}
