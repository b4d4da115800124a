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
  /** Since when each waits, in ms; the newest last. */
  readonly waiting: Map<Waiting, number>;
  /** When the newest began to wait, in ms. */
  newestMs: number;
  /** When the sign of life was asked for that is still owed, in ms. */
  askedAtMs: number | undefined;
  /** Looks since then that came in time: this process standing still is no silence of its connectors. */
  looks: number;
}

/** A link whose requests have waited long is asked at least this often, in ms. */
const ASK_EVERY_MS = 1_000;

/**
 * Notices within a second that a connector died without a word, while requests wait for it: most deaths show as
 * silence first, and waiting for the transport to give up would cost visitors many seconds. Nothing is closed for it.
 */
export class SilenceWatch {
  readonly #clock: Clock;
  readonly #registry: Registry;
  readonly #watched = new Map<LiveConnection, Watched>();
  #timer: CancelTimer | undefined;
  #dueAtMs = 0;

  constructor(deps: { readonly clock: Clock; readonly registry: Registry }) {
    this.#clock = deps.clock;
    this.#registry = deps.registry;
  }

  add(live: LiveConnection, waiting: Waiting): void {
    let watched = this.#watched.get(live);
    if (watched === undefined) {
      watched = { waiting: new Map(), newestMs: 0, askedAtMs: undefined, looks: 0 };
      this.#watched.set(live, watched);
    }
    watched.newestMs = this.#clock.nowMs();
    watched.waiting.set(waiting, watched.newestMs);
    if (this.#timer === undefined) this.#lookSoon();
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
    const isLate = nowMs - this.#dueAtMs > LOOK_MS;
    for (const [live, watched] of [...this.#watched]) if (!isLate) this.#lookAt(live, watched, nowMs);
    if (this.#watched.size > 0) this.#lookSoon();
  }

  #lookSoon(): void {
    this.#dueAtMs = this.#clock.nowMs() + LOOK_MS;
    this.#timer = this.#clock.after(LOOK_MS, () => this.#look(), { background: true });
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
      // A request that has just been sent must not wait for a dead link; one that takes long has shown that it lives.
      const ageMs = nowMs - watched.newestMs;
      const quietMs = Math.min(ASK_EVERY_MS, Math.max(LOOK_MS / 2, ageMs / 4));
      const [oldestMs = nowMs] = watched.waiting.values();
      if (nowMs - Math.max(session.lastReceivedAtMs, oldestMs) < quietMs) return;
      watched.askedAtMs = nowMs;
      watched.looks = 0;
      session.ping().catch(() => {});
      return;
    }
    watched.looks += 1;
    const patienceMs = Math.max(SUSPECT_AFTER_MS, ROUND_TRIPS * (live.rttMs ?? 0));
    if (watched.looks * LOOK_MS < patienceMs || nowMs - watched.askedAtMs < patienceMs) return;
    this.#suspect(live, nowMs);
    for (const waiting of [...watched.waiting.keys()]) waiting.onSilence();
  }
}
