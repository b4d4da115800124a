import { createServer, isIPv4 } from "node:net";
import { systemCode } from "../core/errors.ts";

/** One to four numbers, each decimal, octal or hexadecimal (WHATWG URL: IPv4 parser). */
const SHORT_IPV4 = /^(0x[0-9a-f]+|\d+)(\.(0x[0-9a-f]+|\d+)){0,3}$/i;

/** This machine to itself, in the order in which they are tried: not every machine has both. */
export const LOOPBACK_HOSTS = ["127.0.0.1", "::1"] as const;

export type LoopbackHost = (typeof LOOPBACK_HOSTS)[number];

/** A name below `localhost`, which is always this machine; not every system's resolver knows (RFC 6761 section 6.3). */
export function isLocalName(name: string): boolean {
  return /.\.localhost\.?$/i.test(name);
}

/** Whether a host that somebody wrote can only be this machine: a name, or an address with or without brackets. */
export function isLoopbackHost(host: string): boolean {
  return /^localhost\.?$/i.test(host) || isLocalName(host) || isLoopbackIp(host.replace(/^\[(.*)\]$/, "$1"));
}

/**
 * The same of a host to listen on, which the machine's resolver is asked for: a name below `localhost` may be another
 * address to it, so only `localhost` itself counts. IPv4 addresses may be short, `127.1`, as resolvers take them.
 */
export function isLoopbackListen(host: string): boolean {
  if (isLocalName(host)) return false;
  return isLoopbackHost(
    SHORT_IPV4.test(host) && URL.canParse(`http://${host}`) ? new URL(`http://${host}`).hostname : host,
  );
}

/** The same of an address in the form in which systems give it, IPv4 inside IPv6 as well. */
export function isLoopbackIp(ip: string): boolean {
  const v4 = ip.replace(/^::ffff:/i, "");
  return ip === "::1" || (v4.startsWith("127.") && isIPv4(v4));
}

/** The machine has no such address, or none of that family. */
const ABSENT: ReadonlySet<string | undefined> = new Set(["EADDRNOTAVAIL", "EAFNOSUPPORT"]);

/**
 * The first loopback address that this machine has. The first of all where it has none: whoever listens there is told
 * why that fails.
 */
export async function loopbackHost(): Promise<LoopbackHost> {
  for (const host of LOOPBACK_HOSTS) if (await exists(host)) return host;
  return LOOPBACK_HOSTS[0];
}

/** Other troubles than that there is no such address are for whoever listens there. */
function exists(host: string): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", (error) => resolve(!ABSENT.has(systemCode(error))));
    server.listen({ host, port: 0 }, () => server.close(() => resolve(true)));
  });
}
