import { normaliseHostname } from "./hostname.ts";

/** What load balancers and pools may be, for whoever takes them from outside. */

export const MAX_MEMBERS = 100;
export const MAX_POOLS = 20;
export const POOL_NAME = /^[_a-zA-Z0-9][-_.a-zA-Z0-9]{0,99}$/;
/** Path and query that a monitor asks for: what can stand in a request line. */
export const MONITOR_PATH = /^\/[\x21-\x7e]{0,2047}$/;

/** The hostname that a monitor asks for, as routes have it; undefined for what is none, and for wildcards. */
export function monitorHost(text: string): string | undefined {
  const hostname = normaliseHostname(text);
  return hostname?.startsWith("*") === true ? undefined : hostname;
}
