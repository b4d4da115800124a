import { ipGroup } from "../../wire/ip-bytes.ts";
import type { CountedLimit, LimitName, Limits } from "./limits.ts";
import { TokenBuckets } from "./token-bucket.ts";

/** Addresses and tunnels whose rate is remembered. */
const MAX_KEYS = 65_536;
/** The most that `Retry-After` asks for, in seconds. */
const MAX_RETRY_AFTER_S = 60;

/** What a visitor's request is counted for. */
export interface Asker {
  /** Address that the request counts for: IPv6 by its /64. */
  readonly group: string;
  /** Whether defaults count for it. */
  readonly local: boolean;
}

export type Verdict =
  | { readonly kind: "admitted" }
  | {
      readonly kind: "refused";
      readonly limit: CountedLimit;
      readonly status: 429 | 503;
      readonly retryAfterS: number;
    };

const ADMITTED: Verdict = { kind: "admitted" };

/** Who asks, from an address as text. */
export function askerOf(ip: string): Asker {
  const plain = ip.startsWith("::ffff:") ? ip.slice(7) : ip;
  return { group: ipGroup(plain), local: plain.startsWith("127.") || plain === "::1" };
}

/**
 * Decides which requests may run: how many at once and how many a second, for each address and for each tunnel. Time
 * is handed in. Every admitted request must be released once.
 */
export class Admission {
  readonly #limits: Limits;
  readonly #running = { ip: new Map<string, number>(), tunnel: new Map<string, number>() };
  readonly #ipRate: TokenBuckets | undefined;
  readonly #tunnelRate: TokenBuckets | undefined;

  constructor(limits: Limits) {
    this.#limits = limits;
    this.#ipRate = buckets(limits.values["rate-per-ip"], limits.values["burst-per-ip"]);
    this.#tunnelRate = buckets(limits.values["rate-per-tunnel"], limits.values["burst-per-tunnel"]);
  }

  /** What is remembered, for tests and metrics: all of it is bounded. */
  get sizes(): { readonly addresses: number; readonly tunnels: number } {
    return {
      addresses: this.#running.ip.size + (this.#ipRate?.size ?? 0),
      tunnels: this.#running.tunnel.size + (this.#tunnelRate?.size ?? 0),
    };
  }

  /** Asks for the address alone: before anything is looked up for it. */
  admitAsker(asker: Asker, nowMs: number): Verdict {
    if (this.#holds("requests-per-ip", asker) && this.#isFull("ip", asker.group, "requests-per-ip")) {
      return { kind: "refused", limit: "requests-per-ip", status: 429, retryAfterS: 1 };
    }
    if (this.#ipRate !== undefined && this.#holds("rate-per-ip", asker)) {
      const waitMs = this.#ipRate.take(asker.group, nowMs);
      if (waitMs > 0) return { kind: "refused", limit: "rate-per-ip", status: 429, retryAfterS: seconds(waitMs) };
    }
    add(this.#running.ip, asker.group, 1);
    return ADMITTED;
  }

  /** Asks for the tunnel, once the address is admitted. */
  admitTunnel(tunnelId: string, nowMs: number): Verdict {
    if (this.#isFull("tunnel", tunnelId, "requests-per-tunnel")) {
      return { kind: "refused", limit: "requests-per-tunnel", status: 503, retryAfterS: 1 };
    }
    const waitMs = this.#tunnelRate?.take(tunnelId, nowMs) ?? 0;
    if (waitMs > 0) return { kind: "refused", limit: "rate-per-tunnel", status: 429, retryAfterS: seconds(waitMs) };
    add(this.#running.tunnel, tunnelId, 1);
    return ADMITTED;
  }

  releaseAsker(asker: Asker): void {
    add(this.#running.ip, asker.group, -1);
  }

  releaseTunnel(tunnelId: string): void {
    add(this.#running.tunnel, tunnelId, -1);
  }

  /** Called every second or so. */
  sweep(nowMs: number): void {
    this.#ipRate?.sweep(nowMs);
    this.#tunnelRate?.sweep(nowMs);
  }

  /** A proxy in front on this machine carries everybody's requests, so only what was asked for counts for it. */
  #holds(limit: LimitName, asker: Asker): boolean {
    return !asker.local || this.#limits.chosen.has(limit);
  }

  #isFull(what: "ip" | "tunnel", key: string, limit: LimitName): boolean {
    const max = this.#limits.values[limit];
    return max > 0 && (this.#running[what].get(key) ?? 0) >= max;
  }
}

function buckets(perSecond: number, burst: number): TokenBuckets | undefined {
  if (perSecond <= 0) return undefined;
  return new TokenBuckets({ perSecond, burst: burst > 0 ? burst : Math.max(1, 2 * perSecond) }, MAX_KEYS);
}

function add(counts: Map<string, number>, key: string, by: 1 | -1): void {
  const count = (counts.get(key) ?? 0) + by;
  if (count <= 0) counts.delete(key);
  else counts.set(key, count);
}

function seconds(ms: number): number {
  return Math.min(MAX_RETRY_AFTER_S, Math.max(1, Math.ceil(ms / 1_000)));
}
