import type { TunnelError } from "../../../core/errors.ts";
import type { TunnelId } from "../../../core/ids.ts";
import type { Monitor } from "../../store/port.ts";

/** Failures in a row after which a tunnel is left out. */
export const EJECT_AFTER = 5;
/** For how long the first time, in ms; twice as long each further time in a row, up to the second number. */
export const EJECT_MS = 10_000;
export const MAX_EJECT_MS = 300_000;
/** The most that may be left out of a pool, as a share of its members. */
const MAX_EJECTED_SHARE = 0.5;
const MAX_DOUBLINGS = 20;

/** Failures of the tunnel or of what stands behind it; a visitor's own, and those of our limits, say nothing. */
const FAULTS: ReadonlySet<TunnelError["code"]> = new Set([
  "session.lost",
  "session.closed",
  "session.protocol",
  "stream.refused",
  "stream.reset",
  "stream.protocol",
]);

/** Whether a request that failed so before its answer speaks against its tunnel. */
export function isFault(error: TunnelError): boolean {
  return FAULTS.has(error.code);
}

/** Whether an answer does: nobody behind the connector answers, or no connector. */
export function isFaulty(status: number): boolean {
  return status === 502 || status === 530;
}

interface Standing {
  failuresInRow: number;
  ejections: number;
  untilMs: number;
}

/** Which tunnels of one pool are left out for a while because their requests fail (passive checks). */
export class Ejections {
  readonly #standings = new Map<TunnelId, Standing>();

  isOut(tunnelId: TunnelId, nowMs: number): boolean {
    const standing = this.#standings.get(tunnelId);
    return standing !== undefined && nowMs < standing.untilMs;
  }

  /** A request was answered. */
  answered(tunnelId: TunnelId, nowMs: number): void {
    // An answer to what began before it was left out must not bring it back.
    if (!this.isOut(tunnelId, nowMs)) this.#standings.delete(tunnelId);
  }

  /**
   * A request failed. Says for how long the tunnel is left out from now on, in ms; undefined = it is not, or was already.
   * `members`: the tunnels of the pool that may get requests, itself among them.
   */
  failed(tunnelId: TunnelId, members: readonly TunnelId[], nowMs: number): number | undefined {
    const standing = this.#standings.get(tunnelId) ?? { failuresInRow: 0, ejections: 0, untilMs: nowMs };
    this.#standings.set(tunnelId, standing);
    if (nowMs < standing.untilMs) return undefined;
    standing.failuresInRow += 1;
    if (standing.failuresInRow < EJECT_AFTER) return undefined;
    const out = members.filter((member) => this.isOut(member, nowMs)).length;
    if (out + 1 > members.length * MAX_EJECTED_SHARE) return undefined;
    const forMs = Math.min(EJECT_MS * 2 ** standing.ejections, MAX_EJECT_MS);
    standing.ejections = Math.min(standing.ejections + 1, MAX_DOUBLINGS);
    standing.untilMs = nowMs + forMs;
    return forMs;
  }

  /** Forgets tunnels that left the pool. */
  keep(members: ReadonlySet<TunnelId>): void {
    for (const tunnelId of this.#standings.keys()) if (!members.has(tunnelId)) this.#standings.delete(tunnelId);
  }
}

/** What the checks of one tunnel say (active checks). It counts as well until they have shown the contrary. */
export class CheckHealth {
  #problem: string | undefined;
  #against = 0;

  /** What is wrong with it; undefined = it is well. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** One check's result: undefined = it passed, else what was wrong. */
  checked(problem: string | undefined, { healthyAfter, unhealthyAfter }: Monitor): void {
    const passed = problem === undefined;
    if (passed === (this.#problem === undefined)) {
      this.#against = 0;
      return;
    }
    this.#against += 1;
    if (this.#against < (passed ? healthyAfter : unhealthyAfter)) return;
    this.#against = 0;
    this.#problem = problem;
  }
}
