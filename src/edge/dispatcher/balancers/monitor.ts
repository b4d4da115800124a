import type { CancelTimer, Clock, Random } from "../../../core/clock.ts";
import { TunnelError } from "../../../core/errors.ts";
import type { TunnelId } from "../../../core/ids.ts";
import { VERSION } from "../../../core/version.ts";
import type { ByteChannel } from "../../../net/channel.ts";
import type { Registry } from "../../registry.ts";
import type { Monitor } from "../../store/port.ts";

/** Checks that run at once, over all pools; further ones wait for their turn. */
export const MAX_RUNNING_CHECKS = 32;
/** Bytes of an answer's body that are read; more is none of a check's business. */
export const MAX_ANSWER_BYTES = 64 * 1024;
/** A tunnel's first check comes within this time, in ms. */
const FIRST_WITHIN_MS = 1_000;
/** Intervals differ by up to this share both ways, so that checks do not come in bursts. */
const JITTER = 0.1;

const GIVEN_UP = new TunnelError("aborted", "The health check is over");

/** A tunnel to be checked. */
export interface CheckTarget {
  /** Stays the same while its checks go on. */
  readonly key: string;
  readonly tunnelId: TunnelId;
  /** Said as Host. */
  readonly host: string;
  readonly monitor: Monitor;
  /** Undefined = the check passed, else what was wrong. Not called for a tunnel without a connection. */
  readonly onResult: (problem: string | undefined) => void;
}

interface Scheduled {
  target: CheckTarget;
  cancelTimer: CancelTimer;
  /** Ends the check that runs, without a result. */
  stop: (() => void) | undefined;
}

/** Asks the services behind tunnels, through the tunnels, again and again how they are. */
export class Monitors {
  readonly #registry: Registry;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #scheduled = new Map<string, Scheduled>();
  /** Due, without a free place; each at most once. */
  readonly #waiting = new Set<Scheduled>();
  #running = 0;

  constructor(deps: { readonly registry: Registry; readonly clock: Clock; readonly random: Random }) {
    this.#registry = deps.registry;
    this.#clock = deps.clock;
    this.#random = deps.random;
  }

  /** Checks these from now on, and no others. */
  set(targets: readonly CheckTarget[]): void {
    const wanted = new Set(targets.map(({ key }) => key));
    for (const [key, scheduled] of this.#scheduled) {
      if (wanted.has(key)) continue;
      this.#scheduled.delete(key);
      this.#waiting.delete(scheduled);
      scheduled.cancelTimer();
      scheduled.stop?.();
    }
    for (const target of targets) {
      const known = this.#scheduled.get(target.key);
      if (known !== undefined) {
        known.target = target;
        continue;
      }
      const scheduled: Scheduled = { target, cancelTimer: () => {}, stop: undefined };
      this.#scheduled.set(target.key, scheduled);
      this.#later(scheduled, this.#random() * Math.min(FIRST_WITHIN_MS, target.monitor.intervalMs));
    }
  }

  stop(): void {
    this.set([]);
  }

  #later(scheduled: Scheduled, ms: number): void {
    scheduled.cancelTimer = this.#clock.after(ms, () => this.#due(scheduled), { background: true });
  }

  #due(scheduled: Scheduled): void {
    if (this.#running >= MAX_RUNNING_CHECKS) {
      this.#waiting.add(scheduled);
      return;
    }
    this.#running += 1;
    const { target } = scheduled;
    scheduled.stop = this.#check(target, (result) => {
      scheduled.stop = undefined;
      this.#running -= 1;
      if (this.#scheduled.get(target.key) === scheduled) {
        const { intervalMs } = scheduled.target.monitor;
        this.#later(scheduled, intervalMs * (1 + JITTER * (2 * this.#random() - 1)));
        if (result !== undefined) scheduled.target.onResult(result.problem);
      }
      const [next] = this.#waiting;
      if (next === undefined) return;
      this.#waiting.delete(next);
      this.#due(next);
    });
  }

  /** Calls back once, never during this call; undefined = there was nothing to ask. Gives how to end it early. */
  #check(
    { tunnelId, host, monitor }: CheckTarget,
    done: (result: { readonly problem: string | undefined } | undefined) => void,
  ): () => void {
    let over = false;
    let channel: ByteChannel | undefined;
    let bytes = 0;
    let result: { readonly problem: string | undefined } | undefined;
    const finish = (): void => {
      if (over) return;
      over = true;
      cancelTimer();
      done(result);
    };
    const giveUp = (): void => {
      const open = channel;
      finish();
      open?.abort(GIVEN_UP);
    };
    const cancelTimer = this.#clock.after(
      monitor.timeoutMs,
      () => {
        result ??= { problem: `no answer within ${monitor.timeoutMs} ms` };
        giveUp();
      },
      { background: true },
    );
    const live = this.#registry.choose(tunnelId, []);
    if (live === undefined) {
      queueMicrotask(finish);
      return giveUp;
    }
    channel = live.session.open(
      {
        kind: "http",
        method: "GET",
        authority: host,
        path: monitor.path,
        headers: ["User-Agent", `culvert-health-check/${VERSION}`, "Accept", "*/*", "X-Forwarded-Proto", "https"],
        bodyless: true,
      },
      {
        onInformational: () => {},
        onResponse: ({ status, source }) => {
          const [from, to] = monitor.expect;
          const passed = source === "origin" && status >= from && status <= to;
          result ??= {
            problem: passed ? undefined : `status ${status}${source === "origin" ? "" : " of the connector"}`,
          };
        },
        onData: (chunk) => {
          bytes += chunk.length;
          // The head has said what there is to know.
          if (bytes > MAX_ANSWER_BYTES) giveUp();
        },
        onEnd: () => {},
        onDrain: () => {},
        onClose: (error) => {
          result ??= { problem: error?.message ?? "no answer" };
          finish();
        },
      },
    );
    return giveUp;
  }
}
