import type { Clock, Random } from "../core/clock.ts";
import type { Logger } from "../core/log.ts";
import { formatAddress } from "../net/socket-errors.ts";
import type { EdgeAddress } from "../supervisor/addresses.ts";
import { discoverCloudflare } from "./discovery/cloudflare.ts";
import type { Dns } from "./discovery/dns.ts";
import { chooseFamilies, type Discover, type EdgeIpVersion, edgeAddress } from "./discovery/regions.ts";
import { discoverStatic, type StaticEdge } from "./discovery/static.ts";

/** Port of Cloudflare's edge, for when a proxy looks its names up. */
const CLOUDFLARE_PORT = 7844;
/** Connections worth having to each of Cloudflare's regions when only its name is known. */
const COPIES_PER_REGION = 4;

/** Where the edge is. */
export type EdgeSource =
  /** Edges by name or address; one given n times takes n connections. */
  | { readonly kind: "static"; readonly edges: readonly StaticEdge[] }
  | { readonly kind: "cloudflare"; readonly region: string | undefined; readonly ipVersion: EdgeIpVersion };

export interface EdgesDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly dns: Dns;
  /** True when connections to this edge go through a proxy, which looks names up itself. */
  readonly isProxied: (edge: { readonly host: string; readonly port: number }) => boolean;
}

/** Addresses of the edge, for the supervisor. Rejects with `edge.discovery`; bounded in time. */
export type FindAddresses = (signal: AbortSignal) => Promise<readonly EdgeAddress[]>;

/** Throws `config.invalid` for a region that cannot be part of a name. */
export function createFindAddresses(source: EdgeSource, deps: EdgesDeps): FindAddresses {
  if (source.kind === "static") return findStatic(source.edges, deps);
  const prefix = source.region === undefined || source.region === "" ? "" : `${source.region}-`;
  const names = [1, 2].map((n) => ({ host: `${prefix}region${n}.v2.argotunnel.com`, port: CLOUDFLARE_PORT }));
  if (names.some(deps.isProxied)) {
    const copies = Array.from({ length: COPIES_PER_REGION }, () => names).flat();
    return findStatic(copies, deps);
  }
  const discover = discoverCloudflare({ region: source.region }, deps);
  return async (signal) => {
    const addresses: EdgeAddress[] = [];
    for (const { name, preferred, fallback } of chooseFamilies(await discover(signal), source.ipVersion)) {
      // Connectors all over the world read the same list.
      for (const address of [...shuffled(preferred, deps.random), ...shuffled(fallback, deps.random)]) {
        addresses.push({ ...address, region: name, id: `${address.host} ${address.port}` });
      }
    }
    return addresses;
  };
}

/** Connections to edges given by hand; undefined = as many as wanted. */
export function maxConnections(source: EdgeSource): number | undefined {
  return source.kind === "static" ? source.edges.length : undefined;
}

function findStatic(edges: readonly StaticEdge[], deps: EdgesDeps): FindAddresses {
  const placed = inRegions(edges);
  const isNamed = (edge: StaticEdge): boolean => edgeAddress(edge.host, edge.port) === undefined;
  const byName = placed.filter((edge) => isNamed(edge) && deps.isProxied(edge));
  const others = placed.filter((edge) => !byName.includes(edge));
  const discover: Discover = others.length === 0 ? () => Promise.resolve([]) : discoverStatic(others, deps);
  return async (signal) => {
    const found = (await discover(signal)).flatMap(({ name, addresses }) =>
      addresses.map((address) => ({ ...address, region: name })),
    );
    const named = byName.map(({ host, port, region }) => ({ host, port, region, family: undefined }));
    const seen = new Map<string, number>();
    return [...found, ...named].map((address): EdgeAddress => {
      const key = `${address.host} ${address.port}`;
      const copy = seen.get(key) ?? 0;
      seen.set(key, copy + 1);
      return { ...address, id: `${key} ${copy}` };
    });
  };
}

/** What people know a region of this source by: edges given by hand have none but the one made up here. */
export function nameRegion(source: EdgeSource, region: string): string {
  if (source.kind === "cloudflare") return region;
  const own = inRegions(source.edges).filter((edge) => edge.region === region);
  return [...new Set(own.map(formatAddress))].join(", ");
}

function inRegions(edges: readonly StaticEdge[]): readonly (StaticEdge & { readonly region: string })[] {
  return edges.map((edge, i) => ({ ...edge, region: edge.region ?? `region${(i % 2) + 1}` }));
}

function shuffled<T>(items: readonly T[], random: Random): T[] {
  const left = [...items];
  const result: T[] = [];
  while (left.length > 0) result.push(...left.splice(Math.floor(random() * left.length), 1));
  return result;
}
