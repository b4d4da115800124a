import type { CancelTimer, Clock } from "../../src/core/clock.ts";

interface Timer {
  readonly atMs: number;
  readonly background: boolean;
  readonly callback: () => void;
}

/** Timers one call may fire; a timer that sets itself again without end fails its test instead of hanging it. */
const MAX_TIMERS_FIRED = 100_000;

/**
 * A clock that stands still until a test moves it. Kept from the real one: timers fire in order of their time, equal
 * times in order of creation, never during `after`; the work that one timer starts is done before the next one fires.
 */
export class VirtualClock implements Clock {
  #wallOffsetMs: number;
  readonly #timers = new Set<Timer>();
  #nowMs = 0;

  /** `wallMs`: what the wall shows at the start. @default 2026-01-01T00:00:00Z */
  constructor(options: { wallMs?: number } = {}) {
    this.#wallOffsetMs = options.wallMs ?? Date.UTC(2026, 0, 1);
  }

  nowMs(): number {
    return this.#nowMs;
  }

  wallMs(): number {
    return this.#wallOffsetMs + this.#nowMs;
  }

  after(ms: number, callback: () => void, options: { background?: boolean } = {}): CancelTimer {
    const timer = { atMs: this.#nowMs + Math.max(0, ms), background: options.background === true, callback };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  /** What a machine does that sleeps: its wall clock goes on, the monotonic one and the timers stand still. */
  sleepMachine(ms: number): void {
    this.#wallOffsetMs += ms;
  }

  /** Timers not yet fired or cancelled, background ones included: what a leak check asks for. */
  get pending(): number {
    return this.#timers.size;
  }

  /** Those of them that something waits for: the background ones left out. */
  get awaited(): number {
    return [...this.#timers].filter(({ background }) => !background).length;
  }

  /** Moves time by `ms`, firing what becomes due; ends with the work of the last timer done. */
  async advance(ms: number): Promise<void> {
    const untilMs = this.#nowMs + ms;
    await settle();
    await this.#fire(() => this.#next((timer) => timer.atMs <= untilMs));
    this.#nowMs = untilMs;
  }

  /**
   * Fires timers, however far away, until only background ones are left. Says how much time passed, in ms.
   * Throws when that takes longer than `limitMs`. @default one day
   */
  async runUntilIdle(options: { limitMs?: number } = {}): Promise<number> {
    const startMs = this.#nowMs;
    const limitMs = startMs + (options.limitMs ?? 86_400_000);
    await settle();
    await this.#fire(() => {
      if (![...this.#timers].some((timer) => !timer.background)) return undefined;
      const next = this.#next(() => true);
      if (next !== undefined && next.atMs > limitMs) throw new Error(`Not idle after ${limitMs - startMs} ms`);
      return next;
    });
    return this.#nowMs - startMs;
  }

  async #fire(choose: () => Timer | undefined): Promise<void> {
    let fired = 0;
    for (let timer = choose(); timer !== undefined; timer = choose()) {
      fired += 1;
      if (fired > MAX_TIMERS_FIRED) throw new Error(`More than ${MAX_TIMERS_FIRED} timers fired in one call`);
      this.#timers.delete(timer);
      this.#nowMs = Math.max(this.#nowMs, timer.atMs);
      timer.callback();
      await settle();
    }
  }

  #next(wanted: (timer: Timer) => boolean): Timer | undefined {
    let earliest: Timer | undefined;
    for (const timer of this.#timers) {
      if (wanted(timer) && (earliest === undefined || timer.atMs < earliest.atMs)) earliest = timer;
    }
    return earliest;
  }
}

/** Lets every promise and microtask chain that is ready run to its end: two turns of the real event loop. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 2; turn += 1) await new Promise<void>((resolve) => setImmediate(resolve));
}
