/** What a rule sends requests to (surface: section 10.5). */
export type ServiceSpec =
  /** `ws` and `wss` are other names of the first two. `h2c`, our own: HTTP/2 in clear text, known beforehand. */
  | { readonly kind: "http" | "https" | "h2c"; readonly host: string; readonly port: number }
  | { readonly kind: "unix" | "unix+tls"; readonly path: string }
  | { readonly kind: "http_status"; readonly status: number }
  | { readonly kind: "hello_world" | "bastion" | "socks-proxy" }
  /** Bytes inside a WebSocket. `port` is 0 when there is neither one given nor a default. */
  | { readonly kind: "tcp"; readonly scheme: string; readonly host: string; readonly port: number };

const DEFAULT_PORTS: Readonly<Record<string, number>> = { ssh: 22, rdp: 3389, smb: 445, tcp: 7864 };
const HTTP_SCHEMES: Readonly<Record<string, "http" | "https" | "h2c">> = {
  http: "http",
  ws: "http",
  https: "https",
  wss: "https",
  h2c: "h2c",
};

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
  const host = /^(\[[0-9a-f:.%\w]+\]|[^:[\]\s]+)(?::([0-9]{0,5}))?$/i.exec(authority);
  // As in any URL, a colon with nothing behind it is no port.
  const port = host?.[2] === undefined || host[2] === "" ? undefined : Number(host[2]);
  if (host?.[1] === undefined || port === 0 || (port !== undefined && port > 65_535)) {
    return { error: `Service "${text}" does not name a host and a port from 1 to 65535` };
  }
  const name = host[1].replace(/^\[|\]$/g, "");
  const http = HTTP_SCHEMES[scheme];
  if (http !== undefined) return { kind: http, host: name, port: port ?? (http === "https" ? 443 : 80) };
  return { kind: "tcp", scheme, host: name, port: port ?? DEFAULT_PORTS[scheme] ?? 0 };
}

function bracket(host: string): string {
  return host.includes(":") ? `[${host}]` : host;
}
