import { type Parsed, refused } from "../wire/parsed.ts";

/** Where an application is published. */
export interface AppAddress {
  /** True = TLS; false only for addresses written with `http://` or `ws://`. */
  readonly secure: boolean;
  /** Name in its ASCII form, or a literal address without brackets. */
  readonly host: string;
  readonly port: number;
  /** What Host carries: the port is left out where it is the scheme's own. */
  readonly authority: string;
  /** Path and query, `/` at least. */
  readonly target: string;
}

/** Where to dial instead of an application's own address. */
export interface ConnectTo {
  readonly host: string;
  /** Undefined = the application's port. */
  readonly port: number | undefined;
  /** Sent as SNI instead of the application's name; then the certificate is not verified. */
  readonly serverName: string | undefined;
}

const DEFAULT_PORTS = { https: 443, http: 80 } as const;

/**
 * Reads `name`, `name:port` or a URL of scheme https, wss, http or ws. Without a scheme it is https. Unlike
 * cloudflared, which turns `http://` into `https://`, clear text stays clear text where it is asked for.
 */
export function parseAppAddress(text: string): Parsed<AppAddress> {
  if (text === "") return refused("", "is missing");
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(text)?.[1]?.toLowerCase();
  const secure = scheme === undefined || scheme === "https" || scheme === "wss";
  if (!secure && scheme !== "http" && scheme !== "ws") {
    return refused("", `has the scheme "${scheme}": use https, wss, http or ws`);
  }
  const rest = scheme === undefined ? text : text.slice(scheme.length + 3);
  const name = secure ? "https" : "http";
  const url = URL.parse(`${name}://${bracketBareIpv6(rest)}`);
  if (url === null || url.hostname === "") return refused("", "is not a hostname or URL");
  if (url.username !== "" || url.password !== "") return refused("", "must not hold a user name or password");
  return {
    ok: true,
    value: {
      secure,
      host: url.hostname.replace(/^\[|\]$/g, ""),
      port: url.port === "" ? DEFAULT_PORTS[name] : Number(url.port),
      authority: url.host,
      target: `${url.pathname}${url.search}`,
    },
  };
}

/** The address as a URL, without its path. */
export function originOf(app: AppAddress): string {
  return `${app.secure ? "https" : "http"}://${app.authority}`;
}

/** Reads `host`, `host:port` or `sni:port:host` (protocol: section 9), with IPv6 in brackets. */
export function parseConnectTo(text: string): Parsed<ConnectTo> {
  const found = /^(?:([^:[\]]+):(\d{1,5}):)?(\[[0-9a-f:.]+\]|[^:[\]]+)(?::(\d{1,5}))?$/i.exec(text);
  const [, serverName, sniPort, host = "", ownPort] = found ?? [];
  const port = Number(sniPort ?? ownPort ?? 1);
  if (found === null || (sniPort !== undefined && ownPort !== undefined) || port < 1 || port > 0xffff) {
    return refused("", "must be HOST, HOST:PORT or SNI:PORT:HOST");
  }
  const given = sniPort !== undefined || ownPort !== undefined;
  return {
    ok: true,
    value: { host: host.replace(/^\[|\]$/g, ""), port: given ? port : undefined, serverName },
  };
}

/** Reads where to listen: `host:port`, `:port`, or a URL whose host and port count; a missing host is loopback. */
export function parseListenAddress(text: string): Parsed<{ readonly host: string; readonly port: number }> {
  const rest = text.replace(/^[a-z][a-z0-9+.-]*:\/\//i, "").replace(/\/.*$/, "");
  const found = /^(\[[0-9a-f:.]+\]|[^:[\]]*):(\d{1,5})$/i.exec(rest);
  const port = Number(found?.[2]);
  if (found === null || port > 0xffff) return refused("", `must be HOST:PORT, not "${text}"`);
  const host = (found[1] ?? "").replace(/^\[|\]$/g, "");
  return { ok: true, value: { host: host === "" ? "127.0.0.1" : host, port } };
}

function bracketBareIpv6(rest: string): string {
  const end = rest.search(/[/?#]/);
  const host = end < 0 ? rest : rest.slice(0, end);
  return /^[0-9a-f:.]+$/i.test(host) && host.split(":").length > 2 ? `[${host}]${rest.slice(host.length)}` : rest;
}
