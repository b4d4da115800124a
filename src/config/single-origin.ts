import { HOST_HEADER_SHAPE, isHostHeader, type OriginSettings } from "../ingress/origin-request.ts";
import { type IngressRules, singleRule } from "../ingress/rules.ts";
import { parseService, type ServiceSpec } from "../ingress/service.ts";
import type { Values } from "./values.ts";

/** Schemes that `--url` takes; the others are left to rules. */
const URL_SCHEMES: ReadonlySet<string> = new Set(["http", "https", "h2c", "rdp", "ssh", "smb", "tcp"]);

export type SingleOrigin =
  | { readonly kind: "rules"; readonly rules: IngressRules; readonly from: string; readonly warning?: string }
  | { readonly kind: "none" }
  | { readonly kind: "wrong"; readonly message: string };

/**
 * The one service that flags name, when there are no rules (surface: section 2.4): `hello-world` goes before `bastion`,
 * `url` and `unix-socket`. `base` is what the config file's `originRequest` says; flags that somebody set go before it.
 */
export function readSingleOrigin(values: Values, base: OriginSettings): SingleOrigin {
  const settings = flagSettings(values, base);
  const hostHeader = values.string("http-host-header");
  if (hostHeader !== undefined && !isHostHeader(hostHeader)) {
    return wrong(`--http-host-header ${JSON.stringify(hostHeader)} must be ${HOST_HEADER_SHAPE}`);
  }
  const rules = (service: ServiceSpec, from: string): SingleOrigin => ({
    kind: "rules",
    rules: singleRule(service, settings),
    from,
  });
  const url = values.string("url");
  const socket = values.string("unix-socket");
  if (url !== undefined && socket !== undefined) return wrong("Give either --url or --unix-socket, not both");
  if (values.bool("hello-world")) return rules({ kind: "hello_world" }, "--hello-world");
  if (values.bool("bastion") || settings.bastionMode) return rules({ kind: "bastion" }, "--bastion");
  if (socket !== undefined) return rules({ kind: "unix", path: socket }, "--unix-socket");
  return url === undefined ? { kind: "none" } : urlOrigin(url, settings);
}

function urlOrigin(url: string, settings: OriginSettings): SingleOrigin {
  // To cloudflared it is the address 0.0.11.184, which nobody means; to `culvert up` it is a port.
  if (/^[0-9]+$/.test(url)) return wrong(`--url "${url}" names no host: did you mean http://localhost:${url}?`);
  const parts = /^(?:([a-z][a-z0-9+.-]*):\/\/)?([^/?#]*)([^?#]*)/i.exec(url);
  const scheme = (parts?.[1] ?? "http").toLowerCase();
  if (!URL_SCHEMES.has(scheme)) {
    return wrong(
      `--url "${url}" must start with one of ${[...URL_SCHEMES].join(", ")}; rules in a file take others too`,
    );
  }
  const service = parseService(`${scheme}://${parts?.[2] ?? ""}`);
  if ("error" in service) return wrong(`--url "${url}" must name a host and a port, such as http://localhost:8080`);
  const path = parts?.[3] ?? "";
  return {
    kind: "rules",
    rules: singleRule(service, settings),
    from: "--url",
    ...(path === "" || path === "/"
      ? {}
      : { warning: `The path of --url "${url}" is not used: requests keep their own` }),
  };
}

function flagSettings(values: Values, base: OriginSettings): OriginSettings {
  const set = (flag: string): boolean => !["default", undefined].includes(values.source(flag));
  const number = (flag: string, other: number): number => (set(flag) ? values.number(flag) : other);
  const text = (flag: string, other: string): string => values.string(flag) ?? other;
  const bool = (flag: string, other: boolean): boolean => (set(flag) ? values.bool(flag) : other);
  return {
    ...base,
    connectTimeout: number("proxy-connect-timeout", base.connectTimeout),
    tlsTimeout: number("proxy-tls-timeout", base.tlsTimeout),
    tcpKeepAlive: number("proxy-tcp-keepalive", base.tcpKeepAlive),
    noHappyEyeballs: bool("proxy-no-happy-eyeballs", base.noHappyEyeballs),
    keepAliveConnections: number("proxy-keepalive-connections", base.keepAliveConnections),
    keepAliveTimeout: number("proxy-keepalive-timeout", base.keepAliveTimeout),
    httpHostHeader: text("http-host-header", base.httpHostHeader),
    originServerName: text("origin-server-name", base.originServerName),
    caPool: text("origin-ca-pool", base.caPool),
    noTLSVerify: bool("no-tls-verify", base.noTLSVerify),
    http2Origin: set("http2-origin") ? values.bool("http2-origin") : base.http2Origin,
    disableChunkedEncoding: bool("no-chunked-encoding", base.disableChunkedEncoding),
    proxyType: values.bool("socks5") ? "socks" : base.proxyType,
  };
}

function wrong(message: string): SingleOrigin {
  return { kind: "wrong", message };
}
