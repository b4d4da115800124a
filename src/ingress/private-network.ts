import { nearest } from "../core/nearest.ts";
import { type IpRule, parseIpRules } from "./ip-rules.ts";
import { didYouMean, type IssuePath } from "./issue.ts";
import { type OriginContext, readDuration } from "./origin-request.ts";

/** What the edge may reach in this network without a rule of the ingress (surface: section 13). Durations in ms. */
export interface PrivateNetworkSettings {
  readonly connectTimeout: number;
  /** 0 = off. */
  readonly tcpKeepAlive: number;
  /** Streams at once; 0 = no bound. */
  readonly maxActiveFlows: number;
  /** Our own: addresses that may be reached; empty = all but loopback, link-local and cloud metadata. */
  readonly ipRules: readonly IpRule[];
}

export const DEFAULT_PRIVATE_NETWORK: PrivateNetworkSettings = {
  connectTimeout: 5_000,
  tcpKeepAlive: 30_000,
  maxActiveFlows: 0,
  ipRules: [],
};

export const PRIVATE_NETWORK_KEYS = ["enabled", ...Object.keys(DEFAULT_PRIVATE_NETWORK)] as const;

const MAX_FLOWS = 2 ** 31 - 1;

/**
 * Reads the `warp-routing` map; undefined = the network is closed to the edge. It opens only with `enabled: true`, as in
 * cloudflared before it opened to everybody: what a rule does not name should take a decision to reach.
 */
export function parsePrivateNetwork(raw: unknown, context: OriginContext): PrivateNetworkSettings | undefined {
  const { issues } = context;
  const at: IssuePath = ["warp-routing"];
  if (raw === undefined || raw === null) return undefined;
  if (typeof raw !== "object" || Array.isArray(raw)) {
    issues.error(at, "Must be a map of settings");
    return undefined;
  }
  const map: Readonly<Record<string, unknown>> = { ...raw };
  for (const key of Object.keys(map)) {
    if (PRIVATE_NETWORK_KEYS.includes(key)) continue;
    issues.warning([...at, key], `Unknown key "${key}"`, didYouMean(nearest(key, PRIVATE_NETWORK_KEYS)));
  }
  /** A key that is absent, or null, keeps its default. */
  const read = <T>(key: string, standard: T, reader: (value: unknown, path: IssuePath) => T | undefined): T => {
    const value = map[key];
    return value === undefined || value === null ? standard : (reader(value, [...at, key]) ?? standard);
  };
  const duration = (value: unknown, path: IssuePath): number | undefined => readDuration(value, path, context);
  const enabled = read("enabled", false, (value, path) => {
    if (typeof value === "boolean") return value;
    issues.error(path, '"enabled" must be true or false');
    return undefined;
  });
  const settings: PrivateNetworkSettings = {
    connectTimeout: read("connectTimeout", DEFAULT_PRIVATE_NETWORK.connectTimeout, duration),
    tcpKeepAlive: read("tcpKeepAlive", DEFAULT_PRIVATE_NETWORK.tcpKeepAlive, duration),
    maxActiveFlows: read("maxActiveFlows", DEFAULT_PRIVATE_NETWORK.maxActiveFlows, (value, path) => {
      if (typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= MAX_FLOWS) return value;
      issues.error(path, `"maxActiveFlows" must be a whole number from 0 to ${MAX_FLOWS}`);
      return undefined;
    }),
    ipRules: read("ipRules", DEFAULT_PRIVATE_NETWORK.ipRules, (value, path) => parseIpRules(value, path, issues)),
  };
  return enabled ? settings : undefined;
}
