import { lookup, Resolver } from "node:dns/promises";
import { describe, systemCode, TunnelError } from "../../core/errors.ts";
import { lookupLocal } from "../../net/local-names.ts";
import type { SrvRecord } from "./service.ts";

/**
 * The questions that discovery asks. Both reject when there is no answer, with an error whose message is the reason
 * only. A signal that aborts gives up where the resolver can, so callers bound the wait themselves.
 */
export interface Dns {
  /** SRV records in the order of the answer; may be empty. */
  srv(name: string, signal: AbortSignal): Promise<readonly SrvRecord[]>;
  /** IPv4 and IPv6 addresses, in the order to prefer them. */
  addresses(name: string, signal: AbortSignal): Promise<readonly string[]>;
}

/** The name server's answer, as far as it says more than "failed". */
const REASONS: Readonly<Record<string, string>> = {
  ECANCELLED: "given up",
  ECONNREFUSED: "the name server cannot be reached",
  ENODATA: "the name has no such record",
  ENOTFOUND: "no such name",
  EREFUSED: "the name server refused",
  ESERVFAIL: "the name server failed",
  ETIMEOUT: "the name server does not answer",
};

/**
 * The resolver of this system. Addresses come from it as for any program, with `/etc/hosts` and sorted by what this
 * machine can reach (RFC 6724), and names below `localhost` are this machine (RFC 6761); SRV records need the name servers themselves.
 */
export function createSystemDns(newResolver: () => Resolver = () => new Resolver()): Dns {
  return {
    async srv(name, signal) {
      const resolver = newResolver();
      const onAbort = (): void => resolver.cancel();
      signal.addEventListener("abort", onAbort, { once: true });
      try {
        const records = await resolver.resolveSrv(name);
        return records.map(({ priority, weight, port, name: target }) => ({ priority, weight, port, target }));
      } catch (error) {
        throw lookupError(error);
      } finally {
        signal.removeEventListener("abort", onAbort);
      }
    },
    async addresses(name) {
      try {
        const local = await lookupLocal(name);
        if (local !== undefined) return local;
        const found = await lookup(name, { all: true, verbatim: true });
        return found.map(({ address }) => address);
      } catch (error) {
        throw lookupError(error);
      }
    },
  };
}

function lookupError(cause: unknown): TunnelError {
  const code = systemCode(cause);
  const reason = (code === undefined ? undefined : REASONS[code]) ?? describe(cause);
  return new TunnelError("edge.discovery", reason, { retry: "same", cause });
}
