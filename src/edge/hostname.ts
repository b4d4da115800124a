import { isIP } from "node:net";
import { domainToASCII } from "node:url";

const HOSTNAME = /^(\*\.)?([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/;
const MAX_CHARS = 253;
/** What {@link readDomain} takes, for messages. */
export const DOMAIN_SHAPE = "a hostname such as edge.example.com (no scheme, port, path, wildcard or address)";

/**
 * A hostname as routes have it: lower case, punycode, without a dot at the end, `*.` in front for a wildcard; `*` alone
 * is every hostname. Undefined for what is none.
 */
export function normaliseHostname(text: string): string | undefined {
  if (text === "*") return text;
  // The conversion would leave tabs and the ends of lines out.
  if (/[\s\p{Cc}]/u.test(text)) return undefined;
  const [, wildcard = "", name = ""] = /^(\*\.)?(.*)$/s.exec(text) ?? [];
  // ASCII names may hold underscores, which the conversion would refuse.
  const ascii = /^[\x21-\x7e]*$/.test(name) ? name.toLowerCase() : domainToASCII(name);
  const hostname = wildcard + ascii.replace(/\.$/, "");
  return hostname.length <= MAX_CHARS && HOSTNAME.test(hostname) ? hostname : undefined;
}

/** The name of an edge itself: a hostname that is neither a wildcard nor an address. Undefined for what is none. */
export function readDomain(text: string): string | undefined {
  const hostname = normaliseHostname(text);
  if (hostname === undefined || hostname.startsWith("*")) return undefined;
  // No name ends in a number: such a text is an IPv4 address to URLs, or a broken one (RFC 3696 section 2).
  const last = hostname.slice(hostname.lastIndexOf(".") + 1);
  return isIP(hostname) !== 0 || /^(\d+|0x[0-9a-f]*)$/.test(last) ? undefined : hostname;
}
