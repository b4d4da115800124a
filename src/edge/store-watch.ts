import type { CancelTimer, Clock } from "../core/clock.ts";
import { describe } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import type { Change, Store } from "./store/port.ts";

/** How often other processes' changes to the store are looked for, in ms. */
const POLL_MS = 1_000;

/** Asks the store again and again whether another process wrote, and keeps count of how it is. */
export class StoreWatch {
  readonly #deps: { readonly store: Store; readonly clock: Clock; readonly log: Logger };
  readonly #endWatch: () => void;
  #cancel: CancelTimer;
  #sizes: { readonly tunnels: number; readonly hostnames: number } | undefined;
  /** Changes that were noticed. */
  readonly changes: Record<Change["kind"], number> = {
    ...{ tunnel: 0, configuration: 0, hostnames: 0, balancers: 0, "tcp-routes": 0, unknown: 0 },
  };
  /** Times that it could not be read. */
  failures = 0;
  /** How long the last look took, in ms. */
  lastLookMs = 0;

  constructor(deps: { readonly store: Store; readonly clock: Clock; readonly log: Logger }) {
    this.#deps = deps;
    this.#endWatch = deps.store.watch(({ kind }) => {
      this.changes[kind] += 1;
      this.#sizes = undefined;
    });
    this.#cancel = this.#again();
  }

  /** How much there is, counted once for each change; undefined = the store cannot be read. */
  get sizes(): { readonly tunnels: number; readonly hostnames: number } | undefined {
    const { store } = this.#deps;
    const none = { offset: 0, limit: 0 };
    try {
      this.#sizes ??= {
        tunnels: store.tunnels.find({ deleted: false }, none).total,
        hostnames: store.hostnames.find({}, none).total,
      };
    } catch {
      this.failures += 1;
    }
    return this.#sizes;
  }

  stop(): void {
    this.#cancel();
    this.#endWatch();
  }

  #again(): CancelTimer {
    return this.#deps.clock.after(
      POLL_MS,
      () => {
        this.#look();
        this.#cancel = this.#again();
      },
      { background: true },
    );
  }

  #look(): void {
    const { store, clock, log } = this.#deps;
    const fromMs = clock.nowMs();
    try {
      store.poll();
    } catch (error) {
      this.failures += 1;
      log.error("Cannot see whether the store has changed", { error: describe(error) });
    }
    this.lastLookMs = clock.nowMs() - fromMs;
  }
}
