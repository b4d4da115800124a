import type { CancelTimer, Clock } from "../../../core/clock.ts";

/** How long an acknowledgement may wait for something to travel with, in ms; peers are told 26 (RFC 9000 13.2.1). */
const MAX_WAIT_MS = 5;
/** Received bytes that are acknowledged at once: two full packets of a network (RFC 9000 section 13.2.2). */
const AT_ONCE_BYTES = 2 * 1200;
/**
 * A packet this short may be nothing but an acknowledgement, and so what lets bytes go that the library holds back. To
 * ask the library costs no packet then, since acknowledgements are not acknowledged.
 */
const MAYBE_ACK_BYTES = 64;
/** After a loss nothing waits for this long, in ms: the peer learns of holes, and ours are filled, without delay. */
const ALERT_MS = 1_000;

/**
 * Decides when a packet goes out that would carry nothing but an acknowledgement. The library makes one for each turn
 * in which something came; for a small request that is a packet, a system call and a wake-up of the peer too many,
 * since the answer follows within moments and carries it along.
 */
export class AckDelay {
  readonly #clock: Clock;
  readonly #send: () => void;
  #bytes = 0;
  #maybeAck = false;
  #lost = 0;
  #alertUntilMs = Number.NEGATIVE_INFINITY;
  #timer: CancelTimer | undefined;

  /** `send`: called when an acknowledgement has waited long enough. */
  constructor(clock: Clock, send: () => void) {
    this.#clock = clock;
    this.#send = send;
  }

  received(bytes: number): void {
    this.#bytes += bytes;
    if (bytes <= MAYBE_ACK_BYTES) this.#maybeAck = true;
  }

  /** True = what came may wait. `lost`: packets of ours that the library has given up so far. */
  mayWait(lost: number): boolean {
    if (lost !== this.#lost) {
      this.#lost = lost;
      this.#alertUntilMs = this.#clock.nowMs() + ALERT_MS;
    }
    if (this.#maybeAck || this.#bytes >= AT_ONCE_BYTES) return false;
    if (this.#clock.nowMs() < this.#alertUntilMs) return false;
    // One timer for all that waits: it is not set again for each packet, so some wait shorter.
    if (this.#bytes > 0) this.#timer ??= this.#clock.after(MAX_WAIT_MS, () => this.#onTimer());
    return true;
  }

  sent(): void {
    this.#bytes = 0;
    this.#maybeAck = false;
  }

  stop(): void {
    this.#timer?.();
    this.#timer = undefined;
  }

  #onTimer(): void {
    this.#timer = undefined;
    if (this.#bytes > 0) this.#send();
  }
}
