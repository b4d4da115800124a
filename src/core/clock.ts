/** Cancels a timer. Calling it again, or after the timer fired, does nothing. */
export type CancelTimer = () => void;

/** Time as a dependency, so that tests can move it. All values are milliseconds. */
export interface Clock {
  /** Monotonic time; the zero point means nothing. */
  nowMs(): number;
  /** Wall-clock time since the Unix epoch. */
  wallMs(): number;
  /** Calls back once, after at least `ms`. The timer does not keep the process alive when `background` is true. */
  after(ms: number, callback: () => void, options?: { background?: boolean }): CancelTimer;
}

/** Runtimes take a longer wait for none at all, in ms. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** The real clock of this process. */
export const systemClock: Clock = {
  nowMs: () => performance.now(),
  wallMs: () => Date.now(),
  after(ms, callback, options) {
    const dueMs = performance.now() + ms;
    let timer: ReturnType<typeof setTimeout>;
    const arm = (leftMs: number): void => {
      timer = setTimeout(fire, Math.min(Math.ceil(leftMs), MAX_TIMER_MS));
      if (options?.background === true) (timer as { unref?: () => void }).unref?.();
    };
    // Runtimes drop fractions of a millisecond, and may be early by one: whoever then looks at the time waits for ever.
    const fire = (): void => {
      const leftMs = dueMs - performance.now();
      if (leftMs > 0) arm(leftMs);
      else callback();
    };
    arm(ms);
    return () => clearTimeout(timer);
  },
};

/** Resolves after `ms`, or at once when the signal aborts: true = the time passed, false = aborted. */
export function delay(clock: Clock, ms: number, signal?: AbortSignal): Promise<boolean> {
  if (signal?.aborted === true) return Promise.resolve(false);
  return new Promise((resolve) => {
    const onAbort = (): void => {
      cancel();
      resolve(false);
    };
    const cancel = clock.after(ms, () => {
      signal?.removeEventListener("abort", onAbort);
      resolve(true);
    });
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}

/** Chance as a dependency: a float in [0, 1). */
export type Random = () => number;

export const systemRandom: Random = () => Math.random();
