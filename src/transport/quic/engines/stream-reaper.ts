import type { Clock } from "../../../core/clock.ts";
import { type NativeConnection, streamFailure } from "./quiche-addon.ts";

/** An abandoned stream is looked at again after this long, in ms. */
const REAP_AFTER_MS = 1_000;
const MAX_TRIES = 5;
/** Abandoned streams that wait to be forgotten; beyond it the oldest is left to the library. */
const MAX_ABANDONED = 4_096;

const NO_BYTES = new Uint8Array(0);

/**
 * Abandoned streams of a connection. One whose last event was the peer's RESET stays in the library for ever, since
 * only an acknowledgement makes it look. Sending its FIN once more brings one.
 */
export class StreamReaper {
  readonly #native: NativeConnection;
  readonly #clock: Clock;
  readonly #abandoned: { readonly id: number; readonly atMs: number; readonly tries: number }[] = [];

  constructor(native: NativeConnection, clock: Clock) {
    this.#native = native;
    this.#clock = clock;
  }

  get isEmpty(): boolean {
    return this.#abandoned.length === 0;
  }

  add(id: number): void {
    if (this.#abandoned.length >= MAX_ABANDONED) this.#abandoned.shift();
    this.#abandoned.push({ id, atMs: this.#clock.nowMs(), tries: 0 });
  }

  reap(): void {
    const nowMs = this.#clock.nowMs();
    for (let oldest = this.#abandoned[0]; oldest !== undefined; oldest = this.#abandoned[0]) {
      if (nowMs - oldest.atMs < REAP_AFTER_MS) return;
      this.#abandoned.shift();
      if (!isAlive(this.#native, oldest.id)) continue;
      try {
        this.#native.streamSend(oldest.id, NO_BYTES, true);
      } catch {
        continue;
      }
      if (oldest.tries < MAX_TRIES) this.#abandoned.push({ id: oldest.id, atMs: nowMs, tries: oldest.tries + 1 });
    }
  }
}

/** True while the library has the stream. */
export function isAlive(native: NativeConnection, id: number): boolean {
  try {
    native.streamCapacity(id);
    return true;
  } catch (thrown) {
    return streamFailure(thrown).kind !== "gone";
  }
}
