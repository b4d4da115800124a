import type { CancelTimer, Clock } from "../../core/clock.ts";
import type { LiveConnection, Registry } from "../registry.ts";

/** How often connections with unanswered requests are looked at, in ms. */
export const LOOK_MS = 150;
/** A connection that was asked for a sign of life and gave none for this long, or three round trips, is suspect, in ms. */
export const SUSPECT_AFTER_MS = 400;
const ROUND_TRIPS = 3;

/** A request that waits for its answer. */
export interface Waiting {
  /** Its connection is silent: take the request elsewhere, if that does no harm. */
  onSilence(): void;
}

interface Watched {
  readonly waiting: Map<Waiting, number>;
  /** When the sign of life was asked for that is still owed, in ms. */
  askedAtMs: number | undefined;
}

/**
 * Notices within a second that a connector died without a word, while requests wait for it: most deaths show as
 * silence first, and waiting for the transport to give up would cost visitors many seconds. Nothing is closed for it.
 */
export class SilenceWatch {
  readonly #clock: Clock;
  readonly #registry: Registry;
  readonly #watched = new Map<LiveConnection, Watched>();
  #timer: CancelTimer | undefined;

  constructor(deps: { readonly clock: Clock; readonly registry: Registry }) {
    this.#clock = deps.clock;
    this.#registry = deps.registry;
  }

  add(live: LiveConnection, waiting: Waiting): void {
    let watched = this.#watched.get(live);
    if (watched === undefined) {
      watched = { waiting: new Map(), askedAtMs: undefined };
      this.#watched.set(live, watched);
    }
    watched.waiting.set(waiting, this.#clock.nowMs());
    this.#timer ??= this.#clock.after(LOOK_MS, () => this.#look(), { background: true });
  }

  remove(live: LiveConnection, waiting: Waiting): void {
    const watched = this.#watched.get(live);
    if (watched === undefined) return;
    watched.waiting.delete(waiting);
    if (watched.waiting.size > 0) return;
    this.#watched.delete(live);
  }

  #look(): void {
    this.#timer = undefined;
    const nowMs = this.#clock.nowMs();
    for (const [live, watched] of [...this.#watched]) this.#lookAt(live, watched, nowMs);
    if (this.#watched.size > 0) this.#timer = this.#clock.after(LOOK_MS, () => this.#look(), { background: true });
  }

  /** What killed one connection of a connector has mostly killed the others; one that lives says so when asked. */
  #suspect(live: LiveConnection, nowMs: number): void {
    for (const other of this.#registry.connections(live.tunnelId)) {
      if (other.connectorId !== live.connectorId) continue;
      other.suspectedAtMs = nowMs;
      if (other !== live) other.session.ping().catch(() => {});
    }
  }

  #lookAt(live: LiveConnection, watched: Watched, nowMs: number): void {
    const { session } = live;
    if (watched.askedAtMs !== undefined && session.lastReceivedAtMs >= watched.askedAtMs) watched.askedAtMs = undefined;
    if (watched.askedAtMs === undefined) {
      const [oldestMs = nowMs] = watched.waiting.values();
      if (nowMs - Math.max(session.lastReceivedAtMs, oldestMs) < LOOK_MS / 2) return;
      watched.askedAtMs = nowMs;
      session.ping().catch(() => {});
      return;
    }
    if (nowMs - watched.askedAtMs < Math.max(SUSPECT_AFTER_MS, ROUND_TRIPS * (live.rttMs ?? 0))) return;
    this.#suspect(live, nowMs);
    for (const waiting of [...watched.waiting.keys()]) waiting.onSilence();
  }
}
