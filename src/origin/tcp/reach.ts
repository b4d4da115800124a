import { isIP } from "node:net";
import type { Clock } from "../../core/clock.ts";
import { TunnelError, toTunnelError } from "../../core/errors.ts";
import { dialName, systemLookup } from "../../net/happy-eyeballs.ts";
import { formatAddress } from "../../net/socket-errors.ts";
import type { Connection, DialOptions } from "../../net/sockets.ts";
import type { AddressPolicy } from "./address-policy.ts";

/** How a stream service dials (surface: section 11). Times in ms. */
export interface ReachOptions {
  /** Bound on connecting, resolution included; 0 = none but the system's. */
  readonly connectTimeoutMs: number;
  /** 0 = off. */
  readonly keepAliveMs: number;
  /** False: one address of a name after another, instead of racing them. */
  readonly race: boolean;
  readonly clock: Clock;
  /** Makes the bytes to send first; see `DialOptions`. */
  readonly prelude?: DialOptions["prelude"];
}

export interface Destination {
  readonly host: string;
  readonly port: number;
}

/** What stands for "as long as the system tries": its own limit is minutes. */
const UNBOUNDED_MS = 24 * 3_600_000;

/**
 * Connects to a host and port. With a policy, names are resolved first and only allowed addresses are dialled, by
 * address: what was checked is what is reached. Rejects with `origin.dial`, `origin.timeout`, `origin.forbidden`,
 * `aborted`.
 */
export async function reach(
  to: Destination,
  options: ReachOptions,
  signal: AbortSignal,
  policy?: AddressPolicy,
): Promise<Connection> {
  const { connectTimeoutMs, keepAliveMs, race, clock, prelude } = options;
  if (to.port === 0) throw new TunnelError("origin.dial", `${to.host} needs a port: none was given and none is usual`);
  if (policy !== undefined && isIP(to.host) !== 0 && !policy(to.host, to.port)) throw forbidden(to, to.host);
  let refusal: TunnelError | undefined;
  const lookup = async (name: string): Promise<readonly string[]> => {
    const found = await systemLookup(name);
    const allowed = policy === undefined ? found : found.filter((ip) => policy(ip, to.port));
    if (found[0] !== undefined && allowed.length === 0) refusal = forbidden(to, found[0]);
    return allowed;
  };
  // The limit over all: `dial` has one of its own a little later, so that running out of time is told apart.
  const overdue = new AbortController();
  const limitMs = connectTimeoutMs === 0 ? UNBOUNDED_MS : connectTimeoutMs;
  const cancel = clock.after(limitMs, () => overdue.abort(), { background: true });
  try {
    return await dialName(
      to,
      { signal: AbortSignal.any([signal, overdue.signal]), timeoutMs: limitMs * 2, keepAliveMs, race, prelude },
      { clock, lookup },
    );
  } catch (error) {
    if (overdue.signal.aborted && !signal.aborted) {
      throw new TunnelError("origin.timeout", `No connection to ${formatAddress(to)} within ${limitMs} ms`);
    }
    throw refusal ?? asOriginError(error);
  } finally {
    cancel();
  }
}

function forbidden(to: Destination, ip: string): TunnelError {
  const where = to.host === ip ? "" : ` (${ip})`;
  return new TunnelError("origin.forbidden", `This rule does not let visitors reach ${formatAddress(to)}${where}`);
}

function asOriginError(error: unknown): TunnelError {
  const known = toTunnelError(error, "origin.dial", "Cannot connect");
  return known.code === "dial.failed" ? new TunnelError("origin.dial", known.message, { cause: known.cause }) : known;
}
