import type { CancelTimer, Clock } from "../../core/clock.ts";
import { TunnelError } from "../../core/errors.ts";
import type { OriginLoad } from "../port.ts";
import type { OriginConnection } from "./connection.ts";

/** Requests that wait for a connection at once; further ones fail. */
export const MAX_WAITING_REQUESTS = 1024;

/** Somebody who holds connections of a limited number. */
export interface SlotHolder {
  /** Lets go of one idle connection, if there is one, and gives its slot back. */
  dropIdle(): boolean;
}

/** A request that wants a connection. */
export interface SlotSeeker {
  /** There is a slot, taken on the seeker's behalf. */
  onSlot(): void;
  /** A connection of its holder became idle. */
  onConnection(connection: OriginConnection): void;
  onFailure(error: TunnelError): void;
}

interface Waiting {
  readonly holder: SlotHolder;
  readonly seeker: SlotSeeker;
  readonly cancelTimer: CancelTimer;
}

/** `maxConnections`: how many connections a service may have at once, shared by all pools that reach it; first come, first served. */
export class ConnectionSlots {
  readonly #limit: number;
  readonly #clock: Clock;
  readonly #maxWaitMs: number;
  readonly #holders = new Set<SlotHolder>();
  readonly #waiting: Waiting[] = [];
  #taken = 0;

  constructor(limit: number, clock: Clock, maxWaitMs: number) {
    this.#limit = limit;
    this.#clock = clock;
    this.#maxWaitMs = maxWaitMs;
  }

  get taken(): number {
    return this.#taken;
  }

  get load(): OriginLoad {
    return { limit: this.#limit, taken: this.#taken, waiting: this.#waiting.length };
  }

  join(holder: SlotHolder): void {
    this.#holders.add(holder);
  }

  leave(holder: SlotHolder): void {
    this.#holders.delete(holder);
  }

  /** Takes a slot now or when there is one; the answer comes during this call or later. Calling the result gives up. */
  seek(holder: SlotHolder, seeker: SlotSeeker): () => void {
    if (this.#taken >= this.#limit && this.#waiting.length === 0) this.#dropOneIdle();
    if (this.#taken < this.#limit && this.#waiting.length === 0) {
      this.#taken += 1;
      seeker.onSlot();
      return () => {};
    }
    if (this.#waiting.length >= MAX_WAITING_REQUESTS) {
      queueMicrotask(() => seeker.onFailure(busy("Too many requests wait for a connection to the origin")));
      return () => {};
    }
    const entry: Waiting = {
      holder,
      seeker,
      cancelTimer: this.#clock.after(this.#maxWaitMs, () => {
        this.#remove(entry);
        seeker.onFailure(busy(`All ${this.#limit} connections to the origin stayed in use for ${this.#maxWaitMs} ms`));
      }),
    };
    this.#waiting.push(entry);
    return () => this.#remove(entry);
  }

  /** Counts a connection that is there already. */
  take(): void {
    this.#taken += 1;
  }

  /** A connection is over; the next in line gets its slot. */
  release(): void {
    this.#taken -= 1;
    if (this.#taken >= this.#limit) return;
    const next = this.#waiting.shift();
    if (next === undefined) return;
    next.cancelTimer();
    this.#taken += 1;
    next.seeker.onSlot();
  }

  /**
   * A connection of this holder has become idle. True = taken care of: the first in line has it, or its slot if that
   * one cannot use it.
   */
  onIdle(holder: SlotHolder, connection: OriginConnection): boolean {
    const first = this.#waiting[0];
    if (first === undefined) return false;
    if (first.holder === holder) {
      this.#remove(first);
      first.seeker.onConnection(connection);
    } else connection.close();
    return true;
  }

  #dropOneIdle(): void {
    for (const holder of this.#holders) if (holder.dropIdle()) return;
  }

  #remove(entry: Waiting): void {
    entry.cancelTimer();
    const at = this.#waiting.indexOf(entry);
    if (at >= 0) this.#waiting.splice(at, 1);
  }
}

function busy(message: string): TunnelError {
  return new TunnelError("origin.busy", message, { retry: "elsewhere" });
}
