import type { Clock } from "../core/clock.ts";
import { TunnelError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import { settingsConflict, speaksHttp2 } from "../ingress/origin-conflicts.ts";
import type { OriginSettings } from "../ingress/origin-request.ts";
import { formatService, type ServiceSpec } from "../ingress/service.ts";
import type { DialAddress } from "../net/sockets.ts";
import { createHttpService } from "./http-service.ts";
import type { OriginService } from "./port.ts";
import { TlsFiles } from "./tls-files.ts";

/** The service of a rule that speaks HTTP; undefined for other kinds. Throws `config.invalid`. */
export function createHttpOrigin(
  spec: ServiceSpec,
  settings: OriginSettings,
  deps: { readonly clock: Clock; readonly readFile: (path: string) => string; readonly log?: Logger | undefined },
): OriginService | undefined {
  const target = httpTarget(spec);
  if (target === undefined) return undefined;
  const conflict = settingsConflict(spec, settings);
  if (conflict !== undefined) throw new TunnelError("config.invalid", conflict);
  const { caPool, clientCert, clientKey } = settings;
  const named = caPool !== "" || clientCert !== "";
  return createHttpService(
    {
      label: formatService(spec),
      address: target.address,
      secure: target.secure,
      http2: speaksHttp2(spec, settings),
      connectTimeoutMs: settings.connectTimeout,
      tlsTimeoutMs: settings.tlsTimeout,
      keepAliveMs: settings.tcpKeepAlive,
      maxIdleConnections: settings.keepAliveConnections,
      idleTimeoutMs: settings.keepAliveTimeout,
      raceAddresses: !settings.noHappyEyeballs,
      serverName: settings.originServerName === "" ? target.name : settings.originServerName,
      serverNameFromHost: target.secure && settings.matchSNItoHost,
      // A file that cannot be read is an error even for a service without TLS: somebody meant it to be used.
      tlsFiles: named ? new TlsFiles({ caPool, clientCert, clientKey }, deps) : undefined,
      verify: !settings.noTLSVerify,
      proxyProtocol: settings.proxyProtocol === "" ? undefined : settings.proxyProtocol,
      maxConnections: settings.maxConnections,
      answerTimeoutMs: settings.responseHeaderTimeout,
      // HTTP/2 that is known beforehand has no such encoding, and its streams must not wait for an end.
      chunkedRequests: !settings.disableChunkedEncoding || spec.kind === "h2c",
    },
    deps.clock,
  );
}

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
