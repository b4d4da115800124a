import type { CancelTimer, Clock } from "../../core/clock.ts";
import type { TunnelId } from "../../core/ids.ts";
import type { TunnelWatcher } from "../registry.ts";

/** A tunnel that lost its last connection is expected back for this long, in ms: a restart takes a second or two. */
export const EXPECT_MS = 5_000;
/** Requests that wait for tunnels to come back; further ones are answered at once. */
export const MAX_WAITING = 10_000;

/**
 * A connection that has just registered gets the first requests that waited this much later, in ms, and further ones
 * bit by bit: until its connector has read the answer to its registration, it takes few.
 */
export const WAKE_AFTER_MS = 50;
const WAKE_EVERY_MS = 20;
const WAKE_AT_ONCE = 200;

interface Waiter {
  readonly tell: (returned: boolean) => void;
  readonly cancelTimer: CancelTimer;
}

/**
 * Tunnels without a connection, and the requests that wait a moment for them: the only connector of a tunnel may
 * restart, and an edge that has just begun has none at all, without visitors seeing errors.
 */
export class Absences implements TunnelWatcher {
  readonly #clock: Clock;
  readonly #startedUntilMs: number;
  readonly #sinceMs = new Map<TunnelId, number>();
  readonly #served = new Set<TunnelId>();
  readonly #waiters = new Map<TunnelId, Set<Waiter>>();
  #waiting = 0;

  /** `startGraceMs`: how long after now tunnels that were never here are expected. */
  constructor(deps: { readonly clock: Clock; readonly startGraceMs: number }) {
    this.#clock = deps.clock;
    this.#startedUntilMs = deps.clock.nowMs() + deps.startGraceMs;
  }

  onServed(tunnel: TunnelId): void {
    this.#sinceMs.delete(tunnel);
    this.#served.add(tunnel);
    if (this.#waiters.has(tunnel)) this.#wakeLater(tunnel, WAKE_AFTER_MS);
  }

  onAbsent(tunnel: TunnelId): void {
    this.#served.delete(tunnel);
    if (!this.#sinceMs.has(tunnel)) this.#sinceMs.set(tunnel, this.#clock.nowMs());
  }

  #wakeLater(tunnel: TunnelId, afterMs: number): void {
    this.#clock.after(afterMs, () => this.#wake(tunnel), { background: true });
  }

  #wake(tunnel: TunnelId): void {
    const waiters = this.#waiters.get(tunnel);
    if (waiters === undefined || this.#sinceMs.has(tunnel)) return;
    const woken = [...waiters].slice(0, WAKE_AT_ONCE);
    for (const waiter of woken) waiters.delete(waiter);
    if (waiters.size === 0) this.#waiters.delete(tunnel);
    else this.#wakeLater(tunnel, WAKE_EVERY_MS);
    for (const waiter of woken) this.#settle(waiter, true);
  }

  /** True while a request for this tunnel may wait. */
  expects(tunnel: TunnelId): boolean {
    return this.#leftMs(tunnel) > 0 && this.#waiting < MAX_WAITING;
  }

  /**
   * Tells, once, when the tunnel is back (true) or is not expected any more (false); never during this call. Returns
   * how to stop waiting, or undefined when there is nothing to wait for.
   */
  wait(tunnel: TunnelId, tell: (returned: boolean) => void): CancelTimer | undefined {
    if (!this.expects(tunnel)) return undefined;
    const waiters = this.#waiters.get(tunnel) ?? new Set<Waiter>();
    this.#waiters.set(tunnel, waiters);
    const leave = (): void => {
      if (!waiters.delete(waiter)) return;
      if (waiters.size === 0 && this.#waiters.get(tunnel) === waiters) this.#waiters.delete(tunnel);
    };
    const cancelTimer = this.#clock.after(this.#leftMs(tunnel), () => {
      leave();
      // Its turn among the woken may only not have come yet.
      this.#settle(waiter, this.#served.has(tunnel));
    });
    const waiter: Waiter = { tell, cancelTimer };
    waiters.add(waiter);
    this.#waiting += 1;
    return () => {
      if (!waiters.has(waiter)) return;
      leave();
      cancelTimer();
      this.#waiting -= 1;
    };
  }

  #settle(waiter: Waiter, returned: boolean): void {
    waiter.cancelTimer();
    this.#waiting -= 1;
    waiter.tell(returned);
  }

  #leftMs(tunnel: TunnelId): number {
    const sinceMs = this.#sinceMs.get(tunnel);
    return (sinceMs === undefined ? this.#startedUntilMs : sinceMs + EXPECT_MS) - this.#clock.nowMs();
  }
}
