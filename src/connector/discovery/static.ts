import type { Clock } from "../../core/clock.ts";
import { describe, TunnelError } from "../../core/errors.ts";
import type { Logger } from "../../core/log.ts";
import { bounded } from "./bounded.ts";
import type { Dns } from "./dns.ts";
import { type Discover, type EdgeAddress, edgeAddress, edgeAddresses } from "./regions.ts";

/** An edge given by hand. */
export interface StaticEdge {
  /** Host name or IP literal, without brackets. */
  readonly host: string;
  readonly port: number;
  /** Region it stands in; undefined = edges alternate between two. */
  readonly region?: string | undefined;
}

export interface StaticDeps {
  readonly clock: Clock;
  readonly log: Logger;
  readonly dns: Dns;
}

/** Bound on looking up the names, which happens at the same time for all, in ms. */
const LOOKUP_MS = 8_000;
const ALTERNATING = ["region1", "region2"] as const;

/**
 * The edges given by hand (protocol: section 1.2), of which names are looked up again at each call and give all their
 * addresses. Edges at even places go to `region1`, the others to `region2`, unless they name a region. An edge given
 * twice has its addresses twice: that is how somebody asks for two connections to it. A name without an answer is left
 * out with a warning as long as others have one. `lookupMs`: bound on the lookups. @default 8_000
 */
export function discoverStatic(
  edges: readonly StaticEdge[],
  deps: StaticDeps,
  options: { readonly lookupMs?: number } = {},
): Discover {
  const ms = options.lookupMs ?? LOOKUP_MS;
  const addressesOf = async ({ host, port }: StaticEdge, signal: AbortSignal): Promise<readonly EdgeAddress[]> => {
    const literal = edgeAddress(host, port);
    if (literal !== undefined) return [literal];
    const found = await bounded((given) => deps.dns.addresses(host, given), { ms, clock: deps.clock, signal });
    const addresses = edgeAddresses(found, port);
    if (addresses.length === 0) throw new TunnelError("edge.discovery", "no usable address");
    return addresses;
  };

  return async (signal) => {
    const answers = await Promise.allSettled(edges.map((edge) => addressesOf(edge, signal)));
    if (signal.aborted) throw new TunnelError("aborted", "Discovery of the edge given up");
    const regions = new Map<string, EdgeAddress[]>();
    const failures = new Set<string>();
    for (const [index, { host, region = ALTERNATING[index % 2] ?? "" }] of edges.entries()) {
      const answer = answers[index];
      if (answer?.status !== "fulfilled") {
        failures.add(`${host}: ${describe(answer?.reason)}`);
        continue;
      }
      const addresses = regions.get(region) ?? [];
      addresses.push(...answer.value);
      regions.set(region, addresses);
    }
    if (regions.size === 0) {
      const why = failures.size === 0 ? "none is given" : [...failures].join("; ");
      throw new TunnelError(
        "edge.discovery",
        `No edge has an address: ${why}. Check the names given with --edge, or give IP addresses`,
        { retry: "same" },
      );
    }
    for (const error of failures) deps.log.warn("An edge cannot be looked up and is left out", { error });
    return [...regions].map(([name, addresses]) => ({ name, addresses }));
  };
}
