import type { Clock } from "../core/clock.ts";
import type { TunnelId } from "../core/ids.ts";
import type { Registry } from "./registry.ts";
import type { Store } from "./store/port.ts";

/** When a tunnel's state last changed, as far as this edge saw it since it started; wall clock. */
export interface TunnelChanges {
  readonly activeAtMs?: number;
  readonly inactiveAtMs?: number;
}

/** Remembers when living tunnels came and went: one entry for each that was ever connected. */
export class TunnelHistory {
  readonly #changes = new Map<TunnelId, TunnelChanges>();
  readonly #store: Pick<Store, "tunnels">;
  readonly #stop: readonly (() => void)[];

  constructor(deps: {
    readonly registry: Pick<Registry, "watch">;
    readonly store: Pick<Store, "tunnels" | "watch">;
    readonly clock: Clock;
  }) {
    const { registry, store, clock } = deps;
    this.#store = store;
    this.#stop = [
      registry.watch({
        onServed: (tunnel) => {
          const known = this.#changes.get(tunnel);
          if (known?.activeAtMs === undefined) this.#changes.set(tunnel, { activeAtMs: clock.wallMs() });
        },
        onAbsent: (tunnel) => {
          this.#changes.set(tunnel, { inactiveAtMs: clock.wallMs() });
          // One that was deleted loses its connections after that.
          this.#forgetDeleted([tunnel]);
        },
      }),
      store.watch((change) => {
        if (change.kind === "tunnel") this.#forgetDeleted([change.tunnelId]);
        else if (change.kind === "unknown") this.#forgetDeleted([...this.#changes.keys()]);
      }),
    ];
  }

  /** How many tunnels it remembers something of. */
  get size(): number {
    return this.#changes.size;
  }

  /** Living tunnels that were ever connected. */
  get tunnels(): Iterable<TunnelId> {
    return this.#changes.keys();
  }

  of(tunnel: TunnelId): TunnelChanges {
    return this.#changes.get(tunnel) ?? {};
  }

  stop(): void {
    for (const stop of this.#stop) stop();
  }

  #forgetDeleted(tunnels: readonly TunnelId[]): void {
    try {
      for (const id of tunnels) {
        const tunnel = this.#store.tunnels.get(id);
        if (tunnel === undefined || tunnel.deletedAtMs !== undefined) this.#changes.delete(id);
      }
    } catch {
      // A store that cannot be read now is asked again at its next change.
    }
  }
}
