import { TunnelError } from "../../core/errors.ts";
import { ipToBytes } from "../../wire/ip-bytes.ts";

/** One address of an edge; it takes TCP as well as UDP. */
export interface EdgeAddress {
  /** IP literal, without brackets. */
  readonly host: string;
  readonly port: number;
  readonly family: 4 | 6;
}

/** Addresses of one data-centre region; a connector spreads its connections over at least two where it can. */
export interface EdgeRegion {
  readonly name: string;
  /** In the order to prefer them; never empty. */
  readonly addresses: readonly EdgeAddress[];
}

/**
 * Finds the edge anew: nothing is kept from call to call, so whoever has live addresses keeps them when it fails.
 * Every wait inside is bounded. Resolves to one region or more; rejects with `edge.discovery` (retry `same`, message
 * for people that says what to do) or `aborted`.
 */
export type Discover = (signal: AbortSignal) => Promise<readonly EdgeRegion[]>;

/** Values of `--edge-ip-version`. */
export type EdgeIpVersion = "auto" | "4" | "6";

/** A region after the choice of an address family. */
export interface FamilyRegion {
  readonly name: string;
  /** Addresses of the family to use; never empty. */
  readonly preferred: readonly EdgeAddress[];
  /** Addresses of the other family, for when the preferred one has no way out; empty unless the version is `auto`. */
  readonly fallback: readonly EdgeAddress[];
}

/** Addresses taken from one name, so that no answer of a name server makes a connector try for hours. */
const MAX_ADDRESSES = 64;

/**
 * Picks the family of each region (protocol: section 1.3): with `auto` that of its first address, the other one being
 * the fallback. Order is kept. Regions without an address of the wanted family are left out; when that leaves none,
 * throws `edge.discovery`.
 */
export function chooseFamilies(regions: readonly EdgeRegion[], version: EdgeIpVersion): readonly FamilyRegion[] {
  const chosen: FamilyRegion[] = [];
  for (const { name, addresses } of regions) {
    const family = version === "auto" ? addresses[0]?.family : version === "4" ? 4 : 6;
    const preferred = addresses.filter((address) => address.family === family);
    const others = addresses.filter((address) => address.family !== family);
    if (preferred.length > 0) chosen.push({ name, preferred, fallback: version === "auto" ? others : [] });
  }
  if (chosen.length > 0) return chosen;
  const message =
    version === "auto"
      ? "The edge has no address"
      : `The edge has no IPv${version} address: set edge-ip-version to auto or ${version === "4" ? "6" : "4"}`;
  throw new TunnelError("edge.discovery", message, { retry: "same" });
}

/** The address of an IP literal; undefined when the text is none. */
export function edgeAddress(host: string, port: number): EdgeAddress | undefined {
  if (ipToBytes(host).length === 0) return undefined;
  return { host, port, family: host.includes(":") ? 6 : 4 };
}

/**
 * What a name's addresses come to: each once, at most 64. Left out is what is no address, and the unspecified ones,
 * which filtering resolvers answer for names they block.
 */
export function edgeAddresses(hosts: readonly string[], port: number): readonly EdgeAddress[] {
  const addresses: EdgeAddress[] = [];
  for (const host of new Set(hosts)) {
    const address = edgeAddress(host, port);
    if (address !== undefined && !isUnspecified(host) && addresses.length < MAX_ADDRESSES) addresses.push(address);
  }
  return addresses;
}

function isUnspecified(host: string): boolean {
  const bytes = ipToBytes(host);
  // Mapped IPv4 has ones in bytes 10 and 11, so that only its last four tell.
  return (host.includes(":") ? bytes : bytes.subarray(12)).every((byte) => byte === 0);
}
