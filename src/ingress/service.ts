/** What a rule sends requests to (surface: section 10.5). */
export type ServiceSpec =
  /** `ws` and `wss` are other names of the first two. `h2c`, our own: HTTP/2 in clear text, known beforehand. */
  | { readonly kind: "http" | "https" | "h2c"; readonly host: string; readonly port: number }
  | { readonly kind: "unix" | "unix+tls"; readonly path: string }
  | { readonly kind: "http_status"; readonly status: number }
  | { readonly kind: "hello_world" | "bastion" | "socks-proxy" }
  /** Bytes inside a WebSocket. */
  | { readonly kind: "tcp"; readonly scheme: string; readonly host: string; readonly port: number }
  /** Several that answer the same, our own (`services`). */
  | { readonly kind: "balanced"; readonly backends: readonly BackendSpec[]; readonly balance: BalanceSettings };

export interface BackendSpec {
  /** One that speaks HTTP. */
  readonly service: ServiceSpec;
  /** Its share of the requests in proportion to the others', from 1. */
  readonly weight: number;
}

/** How requests are spread over backends. Times in ms. */
export interface BalanceSettings {
  /** Undefined = backends are judged by requests alone. */
  readonly healthCheck: HealthCheckSettings | undefined;
  /** Name of a cookie that brings a visitor back to the same backend; empty = none. */
  readonly stickyCookie: string;
  /** Failures in a row after which a backend is left out for a while; 0 = never. */
  readonly ejectAfter: number;
  /** How long the first time; twice as long each time after. */
  readonly ejectFor: number;
}

export interface HealthCheckSettings {
  /** Asked with GET; a status from 200 to 399 is good. */
  readonly path: string;
  readonly interval: number;
  readonly timeout: number;
  /** Good answers in a row after which a backend is used again. */
  readonly healthyAfter: number;
  /** Bad ones in a row after which it is not. */
  readonly unhealthyAfter: number;
}

const DEFAULT_PORTS: ReadonlyMap<string, number> = new Map([
  ["ssh", 22],
  ["rdp", 3389],
  ["smb", 445],
  ["tcp", 7864],
]);
const HTTP_SCHEMES: ReadonlyMap<string, "http" | "https" | "h2c"> = new Map([
  ["http", "http"],
  ["ws", "http"],
  ["https", "https"],
  ["wss", "https"],
  ["h2c", "h2c"],
]);

/** Reads a service, or says what is wrong with it. */
export function parseService(text: string): ServiceSpec | { readonly error: string } {
  if (text.startsWith("unix:")) return unixService("unix", text.slice(5));
  if (text.startsWith("unix+tls:")) return unixService("unix+tls", text.slice(9));
  if (text.startsWith("http_status:")) {
    const status = Number(text.slice(12));
    return /^[0-9]{3}$/.test(text.slice(12)) && status >= 100
      ? { kind: "http_status", status }
      : { error: `Service "${text}" needs a status from 100 to 999` };
  }
  if (text === "hello_world" || text === "hello-world") return { kind: "hello_world" };
  if (text === "socks-proxy" || text === "bastion") return { kind: text };
  return urlService(text);
}

/** True for services that are no URL: those are what they are in `bastionMode` too. */
export function isNamedService(text: string): boolean {
  return /^(?:(?:unix|unix\+tls|http_status):|(?:hello[_-]world|socks-proxy|bastion)$)/.test(text);
}

/** The service as a rule writes it, for logs. */
export function formatService(spec: ServiceSpec): string {
  switch (spec.kind) {
    case "http":
    case "https":
    case "h2c":
      return `${spec.kind}://${bracket(spec.host)}:${spec.port}`;
    case "unix":
    case "unix+tls":
      return `${spec.kind}:${spec.path}`;
    case "http_status":
      return `http_status:${spec.status}`;
    case "tcp":
      return `${spec.scheme}://${bracket(spec.host)}:${spec.port}`;
    case "balanced":
      return spec.backends.map(({ service }) => formatService(service)).join(",");
    default:
      return spec.kind;
  }
}

function unixService(kind: "unix" | "unix+tls", path: string): ServiceSpec | { error: string } {
  return path === "" ? { error: `Service "${kind}:" needs the path of a socket` } : { kind, path };
}

function urlService(text: string): ServiceSpec | { error: string } {
  const parts = /^([a-z][a-z0-9+.-]*):\/\/([^/?#]*)(.*)$/i.exec(text);
  const scheme = parts?.[1]?.toLowerCase();
  const authority = parts?.[2]?.replace(/^.*@/, "");
  if (scheme === undefined || authority === undefined || authority === "") {
    return { error: `Service "${text}" is not a URL with a scheme and a host, such as http://localhost:8080` };
  }
  if (parts?.[3]?.startsWith("/") === true) {
    return { error: `Service "${text}" may not have a path: requests keep their own` };
  }
  const host = /^(\[[0-9a-f:.%\w]+\]|[^:[\]\s%\\^`{|}]+)(?::([0-9]{0,5}))?$/i.exec(authority);
  // As in any URL, a colon with nothing behind it is no port.
  const port = host?.[2] === undefined || host[2] === "" ? undefined : Number(host[2]);
  if (host?.[1] === undefined || port === 0 || (port !== undefined && port > 65_535)) {
    return { error: `Service "${text}" does not name a host and a port from 1 to 65535` };
  }
  const name = host[1].replace(/^\[|\]$/g, "");
  const http = HTTP_SCHEMES.get(scheme);
  if (http !== undefined) return { kind: http, host: name, port: port ?? (http === "https" ? 443 : 80) };
  const tcpPort = port ?? DEFAULT_PORTS.get(scheme);
  if (tcpPort === undefined) {
    return {
      error: `Service "${text}" needs a port, since "${scheme}" has none of its own: ${scheme}://${host[1]}:PORT`,
    };
  }
  return { kind: "tcp", scheme, host: name, port: tcpPort };
}

function bracket(host: string): string {
  return host.includes(":") ? `[${host}]` : host;
}
