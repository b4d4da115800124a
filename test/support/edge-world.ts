import type { EdgeAddress } from "../../src/supervisor/addresses.ts";
import type { Attempt, SlotEnd } from "../../src/supervisor/model.ts";
import { type SlotConnection, startSupervisor } from "../../src/supervisor/runner.ts";
import { VirtualClock } from "./virtual-clock.ts";

/** Time a dial takes where the edge answers, in ms. */
const ROUND_TRIP_MS = 20;
/** When a dial into silence gives up; as the connector's bound on dials. */
const DIAL_TIMEOUT_MS = 2_000;
/** When the connector notices that a served connection went silent, by transport (QUIC's idle timeout first). */
const SILENCE_MS = [5_000, 8_000];
export const QUIC = 0;
export const HTTP2 = 1;

/** What an edge address does with connections. */
export type Behaviour = "serves" | "refuses-tcp" | "dark" | "mute" | SlotEnd;

interface Life {
  readonly attempt: Attempt;
  registered: boolean;
  /** Its network is gone for good, whatever the edge does. */
  lost: boolean;
  readonly leave: () => void;
  readonly end: (end: SlotEnd) => void;
}

/**
 * A network with edges in it, on virtual time, under a real supervisor: connections are simulated as far as the
 * supervisor can tell, with the times the real ones take.
 */
export class EdgeWorld {
  readonly clock = new VirtualClock();
  readonly addresses: EdgeAddress[];
  readonly supervisor;
  /** What is not listed serves. By host. */
  readonly behaviour = new Map<string, Behaviour>();
  udpBlocked = false;
  dnsDead = false;
  dials = 0;
  lookups = 0;
  /** Served connections that were cut while they served: what a move must never do. */
  cut = 0;
  readonly #lives = new Map<number, Life>();

  constructor(options: {
    addresses: readonly (Partial<EdgeAddress> & { host: string })[];
    haConnections?: number;
    transports?: number;
    chance?: () => number;
    dnsDead?: boolean;
  }) {
    this.dnsDead = options.dnsDead ?? false;
    this.addresses = options.addresses.map((given, i) => ({
      id: `${i}`,
      port: 7844,
      region: i % 2 === 0 ? "a" : "b",
      family: 4,
      ...given,
    }));
    this.supervisor = startSupervisor({
      haConnections: options.haConnections ?? 4,
      maxConnections: undefined,
      transports: options.transports ?? 2,
      maxDoublings: 5,
      triesEach: 1,
      clock: this.clock,
      // The longest wait: what is shown to hold then holds always.
      random: options.chance ?? (() => 0.999),
      discover: async () => {
        this.lookups += 1;
        if (this.dnsDead) throw new Error("no name server answers");
        return [...this.addresses];
      },
      connect: ({ attempt }, events) => this.#connect(attempt, events),
    });
  }

  /** Connections that are registered and whose network works: what visitors can use. */
  get usable(): readonly Attempt[] {
    return [...this.#lives.values()]
      .filter((life) => life.registered && !this.#isGone(life))
      .map((life) => life.attempt);
  }

  usableOver(transport: number): number {
    return this.usable.filter((attempt) => attempt.transport === transport).length;
  }

  regions(): string[] {
    return this.usable.map(({ address }) => address.region).sort();
  }

  /** Changes what edges do; connections notice as real ones would. */
  async become(change: () => void): Promise<void> {
    change();
    for (const life of [...this.#lives.values()]) {
      if (!life.registered) continue;
      const behaviour = this.behaviour.get(life.attempt.address.host) ?? "serves";
      if (this.#isDark(life.attempt)) this.#noticeSilence(life);
      else if (behaviour !== "serves") life.end({ kind: "lost", silent: false });
    }
    await this.clock.advance(0);
  }

  /** The network under this connection is gone, and nobody says so. */
  lose(attempt: number): void {
    const life = this.#lives.get(attempt);
    if (life === undefined) return;
    life.lost = true;
    this.#noticeSilence(life);
  }

  /** The edge at this host says that it will go. */
  leave(host: string): void {
    for (const life of [...this.#lives.values()]) if (life.attempt.address.host === host) life.leave();
  }

  /** Asks whether something holds, and moves time until it does. Throws when that takes longer than `limitMs`. */
  async until(what: string, holds: () => boolean, limitMs: number): Promise<number> {
    const fromMs = this.clock.nowMs();
    while (!holds()) {
      if (this.clock.nowMs() - fromMs > limitMs) throw new Error(`Not within ${limitMs} ms: ${what}`);
      await this.clock.advance(50);
    }
    return this.clock.nowMs() - fromMs;
  }

  #isDark(attempt: Attempt): boolean {
    return this.behaviour.get(attempt.address.host) === "dark" || (attempt.transport === QUIC && this.udpBlocked);
  }

  #noticeSilence(life: Life): void {
    this.clock.after(SILENCE_MS[life.attempt.transport] ?? 0, () => {
      if (this.#isGone(life)) life.end({ kind: "lost", silent: true });
    });
  }

  #isGone(life: Life): boolean {
    return life.lost || this.#isDark(life.attempt);
  }

  #connect(
    attempt: Attempt,
    events: { onRegistered: () => void; onLeaving: () => void; onEnd: (end: SlotEnd) => void },
  ): SlotConnection {
    this.dials += 1;
    let over = false;
    const life: Life = {
      attempt,
      registered: false,
      lost: false,
      leave: events.onLeaving,
      end: (end) => {
        if (over) return;
        over = true;
        this.#lives.delete(attempt.id);
        events.onEnd(end);
      },
    };
    this.#lives.set(attempt.id, life);
    this.#dial(life, () => {
      life.registered = true;
      events.onRegistered();
    });
    return {
      unregister: () => void this.clock.after(ROUND_TRIP_MS, () => life.end({ kind: "drained" })),
      cancel: () => {
        if (life.registered) this.cut += 1;
        this.clock.after(0, () => life.end({ kind: "drained" }));
      },
      probe: () => {
        if (this.#isGone(life)) this.clock.after(3_000, () => life.end({ kind: "lost", silent: true }));
      },
    };
  }

  #dial(life: Life, onRegistered: () => void): void {
    const { attempt } = life;
    const behaviour = this.behaviour.get(attempt.address.host) ?? "serves";
    const fails = (ms: number): void => void this.clock.after(ms, () => life.end({ kind: "dial-failed" }));
    if (behaviour === "mute") {
      // A peer that accepts and never speaks: the owner's bounds on control stream and registration.
      fails(10_000);
    } else if (this.#isDark(attempt) || (behaviour === "refuses-tcp" && attempt.transport === QUIC)) {
      fails(DIAL_TIMEOUT_MS);
    } else if (behaviour === "refuses-tcp") {
      fails(1);
    } else if (typeof behaviour === "object") {
      this.clock.after(2 * ROUND_TRIP_MS, () => life.end(behaviour));
    } else {
      this.clock.after(2 * ROUND_TRIP_MS, () => {
        if (this.#isDark(attempt)) life.end({ kind: "dial-failed" });
        else onRegistered();
      });
    }
  }
}
