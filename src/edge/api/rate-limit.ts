import { CODE, Problem } from "./problem.ts";

/** Calls of one token or address in one window; as many as Cloudflare allows a user. */
const MAX_CALLS = 1_200;
const WINDOW_MS = 5 * 60_000;
/**
 * Calls by which open pages of the dashboard keep up, of one token in one window: 60 pages of a tunnel, each with two
 * calls every three seconds.
 */
const MAX_REFRESHES = 12_000;
/** Calls with a wrong token of one address in one window, which are answered as such. */
const MAX_FAILURES = 60;
/** Callers remembered at once; beyond it the oldest window is forgotten. */
const MAX_CALLERS = 10_000;

/** What a call counts against: pages that refresh themselves must not use up what people and scripts have. */
export type CallBudget = "calls" | "refreshes";

interface Window {
  readonly startMs: number;
  calls: number;
}

/** Counts calls in windows of five minutes, each caller's own. */
export class RateLimit {
  readonly #limit: number;
  readonly #windows = new Map<string, Window>();

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** How many more there may be; throws a Problem of 429 once a caller has used up its window. */
  count(caller: string, nowMs: number): number {
    let window = this.#windows.get(caller);
    // A clock that was set back must not keep anybody out for longer.
    if (window === undefined || nowMs - window.startMs >= WINDOW_MS || nowMs < window.startMs) {
      this.#windows.delete(caller);
      window = { startMs: nowMs, calls: 0 };
      this.#remember(caller, window);
    }
    window.calls += 1;
    if (window.calls <= this.#limit) return this.#limit - window.calls;
    const waitS = Math.max(1, Math.ceil((window.startMs + WINDOW_MS - nowMs) / 1_000));
    throw new Problem(429, CODE.rateLimited, `Too many requests: come back in ${waitS} s`, {
      "Retry-After": String(waitS),
    });
  }

  #remember(caller: string, window: Window): void {
    const [oldest] = this.#windows.keys();
    if (this.#windows.size >= MAX_CALLERS && oldest !== undefined) this.#windows.delete(oldest);
    this.#windows.set(caller, window);
  }
}

export const callLimit = (): RateLimit => new RateLimit(MAX_CALLS);
export const refreshLimit = (): RateLimit => new RateLimit(MAX_REFRESHES);
export const failureLimit = (): RateLimit => new RateLimit(MAX_FAILURES);
