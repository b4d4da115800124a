import type { OriginSettings } from "./origin-request.ts";
import type { ServiceSpec } from "./service.ts";

/** What in these settings cannot go together for this service; undefined = nothing. */
export function settingsConflict(service: ServiceSpec, settings: OriginSettings): string | undefined {
  if (service.kind === "balanced") {
    const conflicts = service.backends.map((backend) => settingsConflict(backend.service, settings));
    return conflicts.find((conflict) => conflict !== undefined);
  }
  if ((settings.clientCert === "") !== (settings.clientKey === "")) {
    return '"clientCert" and "clientKey" belong together: give both or neither';
  }
  if (settings.proxyProtocol !== "" && speaksHttp2(service, settings)) {
    return '"proxyProtocol" names one visitor for a whole connection, and HTTP/2 carries many: leave one of them out';
  }
  return undefined;
}

/** Without TLS there is no settling on a version: `http2Origin: true` alone means nothing there, as in cloudflared. */
export function speaksHttp2(service: ServiceSpec, { http2Origin }: OriginSettings): boolean {
  const http = service.kind === "http" || service.kind === "unix";
  const secure = service.kind === "https" || service.kind === "unix+tls";
  if (service.kind === "h2c") return true;
  return (secure && http2Origin !== false) || (http && http2Origin === "h2c");
}
