import type { Clock, Random } from "../../core/clock.ts";
import { describe, TunnelError } from "../../core/errors.ts";
import type { Logger } from "../../core/log.ts";
import { bounded } from "./bounded.ts";
import type { Dns } from "./dns.ts";
import { CLOUDFLARE_RESOLVER, createDnsOverTls, type DnsOverTlsServer } from "./dns-over-tls.ts";
import { type Discover, type EdgeRegion, edgeAddresses } from "./regions.ts";
import { edgeServiceName, orderSrv, serviceTargets } from "./service.ts";

/** Servers after the second are for others (protocol: section 1.1). */
const REGIONS = 2;
/** Bound on each of the two steps, SRV and then addresses, in ms. A first name server that is dead costs 5 s. */
const SYSTEM_STEP_MS = 8_000;
/** The same over TLS; 15 s together (protocol: section 1.1). */
const OVER_TLS_STEP_MS = 7_500;

export interface CloudflareOptions {
  /** Value of `--region`, or of the credentials' endpoint; undefined or "" = anywhere. */
  readonly region: string | undefined;
  /** Who is asked when the system's resolver does not help. @default Cloudflare's 1.1.1.1:853 */
  readonly overTls?: DnsOverTlsServer;
  /** Bounds on each step, in ms. @default 8_000 and 7_500 */
  readonly systemStepMs?: number;
  readonly overTlsStepMs?: number;
}

export interface CloudflareDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  /** The system's resolver. */
  readonly dns: Dns;
}

/** One who can be asked. */
interface Source {
  readonly name: string;
  readonly dns: Dns;
  readonly stepMs: number;
}

/** What the answers of one source come to; `missing` says why there are not two regions. */
interface Finding {
  readonly regions: readonly EdgeRegion[];
  readonly missing: readonly string[];
}

/**
 * Finds Cloudflare's edge: SRV records, and all addresses of the first two servers they name, each of which is a
 * region (protocol: section 1.1). The system's resolver is asked first, then a resolver over TLS. When both know only
 * one region's addresses, that one is given, with a warning. Takes 31 s at most. Throws `config.invalid` for a region
 * that cannot be part of a name.
 */
export function discoverCloudflare(options: CloudflareOptions, deps: CloudflareDeps): Discover {
  const { region, overTls = CLOUDFLARE_RESOLVER } = options;
  const { log } = deps;
  const service = edgeServiceName(region);
  const overTlsName = `DNS over TLS at ${overTls.host}:${overTls.port}`;
  const sources: readonly Source[] = [
    { name: "the system's resolver", dns: deps.dns, stepMs: options.systemStepMs ?? SYSTEM_STEP_MS },
    {
      name: overTlsName,
      dns: createDnsOverTls(overTls, deps.random),
      stepMs: options.overTlsStepMs ?? OVER_TLS_STEP_MS,
    },
  ];

  return async (signal) => {
    const reasons: string[] = [];
    let partial: readonly EdgeRegion[] = [];
    for (const { name, dns, stepMs } of sources) {
      const { regions, missing } = await ask(dns, service, { ...deps, stepMs, signal });
      if (regions.length >= REGIONS) {
        if (reasons.length > 0) log.warn(`Edge found only with ${name}`, { error: reasons.join("; ") });
        return regions;
      }
      if (partial.length === 0) partial = regions;
      reasons.push(`${name}: ${missing.join(", ")}`);
    }
    if (partial.length > 0) {
      log.warn("Only one region of the edge has addresses", { error: reasons.join("; ") });
      return partial;
    }
    const typo = region === undefined || region === "" ? "" : `; check that region "${region}" is one of Cloudflare's`;
    throw new TunnelError(
      "edge.discovery",
      `Cannot find Cloudflare's edge (${reasons.join("; ")}). Make DNS work, or allow TCP to ${overTls.host}:${overTls.port}${typo}`,
      { retry: "same" },
    );
  };
}

/** Never rejects but with `aborted`. */
async function ask(
  dns: Dns,
  service: string,
  options: CloudflareDeps & { readonly stepMs: number; readonly signal: AbortSignal },
): Promise<Finding> {
  const { clock, random, stepMs: ms, signal } = options;
  try {
    const records = await bounded((given) => dns.srv(service, given), { ms, clock, signal });
    const targets = serviceTargets(orderSrv(records, random), REGIONS);
    if (targets.length < REGIONS)
      return { regions: [], missing: [`${service}: names ${targets.length} of ${REGIONS} servers`] };

    const lookUp = (host: string) => bounded((given) => dns.addresses(host, given), { ms, clock, signal });
    const answers = await Promise.allSettled(targets.map(({ host }) => lookUp(host)));
    if (signal.aborted) throw new TunnelError("aborted", "Given up");

    const regions: EdgeRegion[] = [];
    const missing: string[] = [];
    for (const [index, { host, port }] of targets.entries()) {
      const answer = answers[index];
      const addresses = answer?.status === "fulfilled" ? edgeAddresses(answer.value, port) : [];
      if (addresses.length > 0) regions.push({ name: host, addresses });
      else missing.push(`${host}: ${answer?.status === "rejected" ? describe(answer.reason) : "no usable address"}`);
    }
    return { regions, missing };
  } catch (error) {
    if (signal.aborted) throw new TunnelError("aborted", "Discovery of the edge given up");
    return { regions: [], missing: [`${service}: ${describe(error)}`] };
  }
}
