import type { TunnelId } from "../core/ids.ts";
import { Histogram } from "../ops/histogram.ts";
import type { AccessEntry, HttpVersion, StatusClass } from "./listener/visitor-deps.ts";
import type { Store } from "./store/port.ts";

/** Tunnels that are counted by themselves; all others are counted together. A deleted tunnel makes room. */
export const MAX_COUNTED_TUNNELS = 200;

/** Upper ends of the buckets that times to the first byte are counted in, in seconds. */
export const LATENCY_BOUNDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10] as const;

/** What went to one tunnel since the edge started. */
export class TunnelCounts {
  requests = 0;
  /** By the first digit of the status; 0 = the visitor left without an answer. */
  readonly answers: Record<StatusClass, number> = { 0: 0, 1: 0, 2: 0, 3: 0, 4: 0, 5: 0 };
  bytesIn = 0;
  bytesOut = 0;
  /** From the head of a request to that of its answer, in seconds. */
  readonly latency = new Histogram(LATENCY_BOUNDS);
  /** The same by bucket, for readers that are not Prometheus. */
  readonly buckets: number[] = new Array<number>(LATENCY_BOUNDS.length + 1).fill(0);

  add({ status, bytesIn, bytesOut, firstByteMs }: AccessEntry): void {
    this.requests += 1;
    this.answers[status === undefined ? 0 : (Math.min(5, Math.floor(status / 100)) as StatusClass)] += 1;
    this.bytesIn += bytesIn;
    this.bytesOut += bytesOut;
    if (firstByteMs === undefined) return;
    const bucket = this.latency.observe(firstByteMs / 1_000);
    this.buckets[bucket] = (this.buckets[bucket] ?? 0) + 1;
  }
}

/** Counts what visitors ask of each tunnel, with a bound on how many are told apart. */
export class TunnelStats {
  readonly #counts = new Map<TunnelId, TunnelCounts>();
  readonly #endWatch: () => void;
  /** What went to tunnels beyond the bound. */
  readonly other = new TunnelCounts();
  readonly protocols: Record<HttpVersion, number> = { "HTTP/1.0": 0, "HTTP/1.1": 0, "HTTP/2.0": 0 };

  constructor(store: Pick<Store, "watch" | "tunnels">) {
    this.#endWatch = store.watch((change) => {
      if (change.kind === "tunnel") this.#forgetDeleted(store, [change.tunnelId]);
      else if (change.kind === "unknown") this.#forgetDeleted(store, [...this.#counts.keys()]);
    });
  }

  /** By tunnel, in the order in which they were first asked. */
  get tunnels(): ReadonlyMap<TunnelId, TunnelCounts> {
    return this.#counts;
  }

  add(entry: AccessEntry): void {
    this.protocols[entry.protocol] += 1;
    const { tunnelId } = entry;
    if (tunnelId === undefined) return;
    this.#of(tunnelId).add(entry);
  }

  stop(): void {
    this.#endWatch();
  }

  #of(tunnelId: TunnelId): TunnelCounts {
    const known = this.#counts.get(tunnelId);
    if (known !== undefined) return known;
    if (this.#counts.size >= MAX_COUNTED_TUNNELS) return this.other;
    const counts = new TunnelCounts();
    this.#counts.set(tunnelId, counts);
    return counts;
  }

  #forgetDeleted(store: Pick<Store, "tunnels">, tunnels: readonly TunnelId[]): void {
    for (const id of tunnels) {
      if (!this.#counts.has(id)) continue;
      try {
        const tunnel = store.tunnels.get(id);
        if (tunnel !== undefined && tunnel.deletedAtMs === undefined) continue;
      } catch {
        // Whoever works on the store says that it is broken.
        return;
      }
      this.#counts.delete(id);
    }
  }
}
