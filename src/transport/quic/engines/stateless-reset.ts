import { createHmac, randomFillSync } from "node:crypto";

const TOKEN_BYTES = 16;
/** Shortest packet that peers take for a reset (RFC 9000 section 10.3). */
const MIN_PACKET_BYTES = 21;
/** Longer than any packet that looks like one. */
const MAX_PACKET_BYTES = 42;
/** Resets in one second; what more forgotten connections send is answered in the next ones. */
const MAX_PER_SECOND = 2_000;

/**
 * Stateless resets (RFC 9000 section 10.3): an edge that was killed and started again tells connectors at once that it
 * does not know their connections any more, instead of leaving them to their idle timeout.
 */
export class StatelessResets {
  readonly #key: Uint8Array;
  #secondStartMs = Number.NEGATIVE_INFINITY;
  #sent = 0;

  /** `key`: secret, and the same after a restart. */
  constructor(key: Uint8Array) {
    this.#key = key;
  }

  /** What proves a reset of the connection with this id; given to the peer in the handshake. */
  token(connectionId: Uint8Array): Uint8Array {
    return createHmac("sha256", this.#key).update(connectionId).digest().subarray(0, TOKEN_BYTES);
  }

  /**
   * The answer to a packet for a connection that is not there, or undefined when there should be none: it must be
   * shorter than what it answers, or two ends could reset each other for ever.
   */
  answer(packet: Uint8Array, connectionId: Uint8Array, nowMs: number): Uint8Array | undefined {
    const length = Math.min(packet.length - 1, MAX_PACKET_BYTES);
    if (length < MIN_PACKET_BYTES) return undefined;
    if (nowMs - this.#secondStartMs >= 1_000) {
      this.#secondStartMs = nowMs;
      this.#sent = 0;
    }
    if (this.#sent >= MAX_PER_SECOND) return undefined;
    this.#sent += 1;
    const reset = randomFillSync(new Uint8Array(length));
    // The form of a packet with a short header.
    reset[0] = 0x40 | ((reset[0] ?? 0) & 0x3f);
    reset.set(this.token(connectionId), length - TOKEN_BYTES);
    return reset;
  }
}
