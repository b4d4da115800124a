import type { CancelTimer, Clock } from "../../core/clock.ts";
import { ipGroup } from "../../wire/ip-bytes.ts";

/** How long a certificate waits for whoever it is for, in ms. */
const KEPT_MS = 5 * 60_000;
const MAX_KEPT = 1_000;
/** How long one question waits, in ms: cloudflared gives up after a minute, and after ten questions. */
const WAIT_MS = 50_000;
const MAX_WAITING = 200;
const MAX_WAITING_PER_ADDRESS = 10;

/** Certificates on their way from a browser to a terminal: each is fetched once, by the key that only the two know. */
export class LoginDesk {
  readonly #clock: Clock;
  readonly #stopping: AbortSignal;
  readonly #kept = new Map<string, { readonly pem: string; readonly forget: CancelTimer }>();
  readonly #waiting = new Map<string, Set<() => void>>();
  readonly #addresses = new Map<string, number>();

  constructor(clock: Clock, stopping: AbortSignal) {
    this.#clock = clock;
    this.#stopping = stopping;
  }

  /** Keeps a certificate for a key, in place of an earlier one. False = there is no room. */
  leave(key: string, pem: string): boolean {
    const known = this.#kept.get(key);
    if (known === undefined && this.#kept.size >= MAX_KEPT) return false;
    known?.forget();
    const forget = this.#clock.after(KEPT_MS, () => void this.#kept.delete(key), { background: true });
    this.#kept.set(key, { pem, forget });
    for (const wake of this.#waiting.get(key) ?? []) wake();
    return true;
  }

  /** The certificate of a key, as soon as it is there. Undefined = not by now. `full`: too many wait already. */
  async fetch(key: string, ip: string, signal: AbortSignal): Promise<string | "full" | undefined> {
    const address = ipGroup(ip);
    const here = this.#addresses.get(address) ?? 0;
    if (this.#kept.has(key)) return this.#take(key);
    if (here >= MAX_WAITING_PER_ADDRESS || sum(this.#addresses) >= MAX_WAITING) return "full";
    this.#addresses.set(address, here + 1);
    try {
      await this.#wait(key, AbortSignal.any([signal, this.#stopping]));
    } finally {
      const left = (this.#addresses.get(address) ?? 1) - 1;
      if (left === 0) this.#addresses.delete(address);
      else this.#addresses.set(address, left);
    }
    // Whoever has gone must not take it along.
    return signal.aborted ? undefined : this.#take(key);
  }

  #wait(key: string, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const waiting = this.#waiting.get(key) ?? new Set();
      this.#waiting.set(key, waiting);
      const done = (): void => {
        cancel();
        signal.removeEventListener("abort", done);
        waiting.delete(done);
        if (waiting.size === 0) this.#waiting.delete(key);
        resolve();
      };
      const cancel = this.#clock.after(WAIT_MS, done, { background: true });
      waiting.add(done);
      if (signal.aborted) done();
      else signal.addEventListener("abort", done, { once: true });
    });
  }

  #take(key: string): string | undefined {
    const kept = this.#kept.get(key);
    kept?.forget();
    this.#kept.delete(key);
    return kept?.pem;
  }
}

function sum(counts: ReadonlyMap<string, number>): number {
  return [...counts.values()].reduce((total, count) => total + count, 0);
}
