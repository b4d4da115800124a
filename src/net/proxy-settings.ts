import { type Parsed, refused } from "../wire/parsed.ts";
import { isLoopbackHost } from "./loopback.ts";

/** A proxy that outbound connections go through. */
export interface ProxySettings {
  readonly kind: "http" | "socks5";
  readonly host: string;
  readonly port: number;
  /** Credentials for basic authentication or SOCKS5's user name method; undefined = none. */
  readonly credentials: { readonly username: string; readonly password: string } | undefined;
}

const DEFAULT_PORTS = { http: 8080, socks5: 1080 } as const;

/**
 * Reads a proxy URL: `http://user:password@host:port` (HTTP CONNECT), `socks5://…` or `socks5h://…` (names are always
 * resolved by the proxy). Issues never quote it, since it may hold a password.
 */
export function parseProxyUrl(text: string): Parsed<ProxySettings> {
  const url = URL.parse(text.includes("://") ? text : `http://${text}`);
  if (url === null || url.hostname === "")
    return refused("", "Must be a URL such as http://host:port or socks5://host:port");
  const scheme = url.protocol.slice(0, -1);
  const kind = scheme === "http" ? "http" : scheme === "socks5" || scheme === "socks5h" ? "socks5" : undefined;
  if (kind === undefined) return refused("", `Cannot use a proxy of kind "${scheme}": use http or socks5`);
  const credentials =
    url.username === ""
      ? undefined
      : { username: decodeURIComponent(url.username), password: decodeURIComponent(url.password) };
  // `URL` drops the port that is the scheme's default.
  const port =
    url.port !== "" ? Number(url.port) : scheme === "http" && /:80(\/|$)/.test(text) ? 80 : DEFAULT_PORTS[kind];
  return { ok: true, value: { kind, host: url.hostname.replace(/^\[|\]$/g, ""), port, credentials } };
}

/** The environment variable that applies to connections to edges, in the order tools agree on, lower case first. */
export const PROXY_VARIABLES = ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] as const;

/**
 * Whether `NO_PROXY` exempts a host: a comma list of `*`, names (with their subdomains; a leading dot is allowed),
 * addresses and CIDR blocks, each with an optional port. Loopback is always exempt.
 */
export function isExempt(host: string, port: number, noProxy: string): boolean {
  const name = host.toLowerCase().replace(/^\[|\]$/g, "");
  if (isLoopbackHost(name)) return true;
  return noProxy
    .split(/[\s,]+/)
    .filter((entry) => entry !== "")
    .some((entry) => entryMatches(entry.toLowerCase(), name, port));
}

function entryMatches(entry: string, name: string, port: number): boolean {
  if (entry === "*") return true;
  const withPort = /^(.*?):(\d+)$/.exec(entry);
  let pattern = entry;
  if (withPort?.[1] !== undefined && !withPort[1].includes(":")) {
    if (Number(withPort[2]) !== port) return false;
    pattern = withPort[1];
  }
  if (pattern.includes("/")) return inBlock(name, pattern);
  const suffix = pattern.replace(/^\*?\./, "");
  return name === suffix || name.endsWith(`.${suffix}`);
}

/** IPv4 only: nobody writes IPv6 blocks into NO_PROXY, and a wrong match would leak past the proxy. */
function inBlock(name: string, block: string): boolean {
  const [base, bits] = block.split("/");
  const address = ipv4(name);
  const network = ipv4(base ?? "");
  const length = Number(bits);
  if (address === undefined || network === undefined || !(length >= 0 && length <= 32)) return false;
  const size = 2 ** (32 - length);
  return Math.floor(address / size) === Math.floor(network / size);
}

function ipv4(text: string): number | undefined {
  const parts = text.split(".");
  if (parts.length !== 4 || !parts.every((part) => /^\d{1,3}$/.test(part) && Number(part) <= 255)) return undefined;
  return parts.reduce((value, part) => value * 256 + Number(part), 0);
}
