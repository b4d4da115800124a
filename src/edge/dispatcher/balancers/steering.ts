import type { Random } from "../../../core/clock.ts";
import type { TunnelId } from "../../../core/ids.ts";
import { ipGroup } from "../../../wire/ip-bytes.ts";
import type { Steering } from "../../store/port.ts";

/** A tunnel that may get the request. */
export interface Candidate {
  readonly tunnelId: TunnelId;
  /** Share of the traffic beside the others, above 0. */
  readonly weight: number;
  /** Requests that run on it now. */
  readonly running: number;
}

/** What a balancer remembers between requests: each tunnel's standing in the round. */
export type Round = Map<TunnelId, number>;

/** What the choice hangs on, beside the candidates. */
export interface Draw {
  /** The visitor's address; an IPv6 one counts by its network, as the rest is its owner's choice. */
  readonly ip: string;
  readonly round: Round;
  readonly random: Random;
}

/**
 * The tunnel for a request; undefined = there is no candidate. `candidates` stand in the order of the pool. A visitor
 * whose cookie names a candidate never gets here: `hash_cookie` gives the others their turns.
 */
export function steer<C extends Candidate>(steering: Steering, candidates: readonly C[], draw: Draw): C | undefined {
  if (candidates.length < 2) return candidates[0];
  switch (steering) {
    case "failover":
      return candidates[0];
    case "random":
      return drawByWeight(candidates, draw.random);
    case "round_robin":
    case "hash_cookie":
      return takeTurn(candidates, draw.round);
    case "least_outstanding":
      return leastBusy(candidates, draw.round);
    case "hash_ip":
      return rendezvous(candidates, ipGroup(draw.ip));
  }
}

function drawByWeight<C extends Candidate>(candidates: readonly C[], random: Random): C | undefined {
  let point = random() * candidates.reduce((sum, { weight }) => sum + weight, 0);
  for (const candidate of candidates) {
    point -= candidate.weight;
    if (point < 0) return candidate;
  }
  return candidates.at(-1);
}

/** Smooth weighted round-robin: each gains its weight, the richest is chosen and pays for all. */
function takeTurn<C extends Candidate>(candidates: readonly C[], round: Round): C | undefined {
  let total = 0;
  let richest: C | undefined;
  let most = Number.NEGATIVE_INFINITY;
  for (const candidate of candidates) {
    total += candidate.weight;
    const credit = (round.get(candidate.tunnelId) ?? 0) + candidate.weight;
    round.set(candidate.tunnelId, credit);
    if (credit > most) {
      richest = candidate;
      most = credit;
    }
  }
  if (richest !== undefined) round.set(richest.tunnelId, most - total);
  return richest;
}

/** The one with the least to do for its weight, counting the request itself; equals take turns. */
function leastBusy<C extends Candidate>(candidates: readonly C[], round: Round): C | undefined {
  const loads = candidates.map(({ running, weight }) => (running + 1) / weight);
  const least = Math.min(...loads);
  return takeTurn(
    candidates.filter((_, i) => loads[i] === least),
    round,
  );
}

/**
 * Weighted rendezvous hashing: each tunnel draws a number from the visitor's address, and the best one wins. When a
 * tunnel comes or goes only its own visitors move.
 */
function rendezvous<C extends Candidate>(candidates: readonly C[], key: string): C | undefined {
  let best: C | undefined;
  let highest = Number.NEGATIVE_INFINITY;
  for (const candidate of candidates) {
    const score = -candidate.weight / Math.log(unitHash(`${key}|${candidate.tunnelId}`));
    if (score > highest) {
      best = candidate;
      highest = score;
    }
  }
  return best;
}

/** A number strictly between 0 and 1 that hangs on every character: FNV-1a with MurmurHash3's last step. */
function unitHash(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i += 1) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (((hash ^ (hash >>> 16)) >>> 0) + 0.5) / 2 ** 32;
}
