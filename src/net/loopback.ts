import { createServer } from "node:net";
import { systemCode } from "../core/errors.ts";

/** This machine to itself, in the order in which they are tried: not every machine has both. */
export const LOOPBACK_HOSTS = ["127.0.0.1", "::1"] as const;

export type LoopbackHost = (typeof LOOPBACK_HOSTS)[number];

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
