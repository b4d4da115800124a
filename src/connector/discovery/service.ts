import type { Random } from "../../core/clock.ts";
import { TunnelError } from "../../core/errors.ts";

/** An SRV record (RFC 2782). */
export interface SrvRecord {
  /** Lower is used first. */
  readonly priority: number;
  /** Share of choices among records of one priority. */
  readonly weight: number;
  readonly port: number;
  /** Host name of the server; "." or "" says that there is decidedly no such service. */
  readonly target: string;
}

/** A server that an SRV record names. */
export interface ServiceTarget {
  readonly host: string;
  readonly port: number;
}

const LABEL = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?";
const HOST_NAME = new RegExp(`^${LABEL}(?:\\.${LABEL})*$`, "i");
const REGION = /^[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?$/i;

/**
 * Name of the edge's SRV records (protocol: section 1.1). Throws `config.invalid` for a region that cannot be part of
 * a name.
 */
export function edgeServiceName(region: string | undefined): string {
  if (region === undefined || region === "") return "_v2-origintunneld._tcp.argotunnel.com";
  if (!REGION.test(region)) {
    throw new TunnelError("config.invalid", `region ${JSON.stringify(region)} is none: known are "us" and "fed"`);
  }
  return `_${region.toLowerCase()}-v2-origintunneld._tcp.argotunnel.com`;
}

/** Orders records as RFC 2782 has it: by priority, among equals by chance in proportion to weight. */
export function orderSrv(records: readonly SrvRecord[], random: Random): readonly SrvRecord[] {
  const ordered: SrvRecord[] = [];
  const left = [...records].sort((a, b) => a.priority - b.priority);
  while (left.length > 0) {
    const priority = left[0]?.priority;
    const group = left.filter((record) => record.priority === priority);
    ordered.push(...left.splice(weightedIndex(group, random), 1));
  }
  return ordered;
}

/** The first `count` different servers of ordered records; what cannot be a server is passed over. */
export function serviceTargets(ordered: readonly SrvRecord[], count: number): readonly ServiceTarget[] {
  const targets = new Map<string, ServiceTarget>();
  for (const { target, port } of ordered) {
    const host = target.replace(/\.$/, "").toLowerCase();
    if (host.length > 253 || !HOST_NAME.test(host) || !(port >= 1 && port <= 65_535)) continue;
    if (!targets.has(host)) targets.set(host, { host, port });
    if (targets.size === count) break;
  }
  return [...targets.values()];
}

function weightedIndex(group: readonly SrvRecord[], random: Random): number {
  const total = group.reduce((sum, { weight }) => sum + weight, 0);
  if (total === 0) return Math.floor(random() * group.length);
  let draw = random() * total;
  for (const [index, { weight }] of group.entries()) {
    draw -= weight;
    if (draw < 0) return index;
  }
  return group.length - 1;
}
