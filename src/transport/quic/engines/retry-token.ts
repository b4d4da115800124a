import { createHmac, timingSafeEqual } from "node:crypto";

/** Seconds a client has to come back with its token. */
const LIFETIME_S = 10;
const MAC_BYTES = 16;
const TIME_BYTES = 4;

/**
 * Tokens of Retry packets (RFC 9000 section 8.1.2): they prove that a client receives at its address, and carry the
 * connection id it chose first, so that nothing is remembered for it meanwhile.
 */
export class RetryTokens {
  readonly #key: Uint8Array;

  constructor(key: Uint8Array) {
    this.#key = key;
  }

  make(originalDcid: Uint8Array, newScid: Uint8Array, ip: string, port: number, nowMs: number): Uint8Array {
    const body = new Uint8Array(TIME_BYTES + originalDcid.length);
    new DataView(body.buffer).setUint32(0, Math.floor(nowMs / 1000));
    body.set(originalDcid, TIME_BYTES);
    const token = new Uint8Array(body.length + MAC_BYTES);
    token.set(body);
    token.set(this.#mac(body, newScid, ip, port), body.length);
    return token;
  }

  /**
   * The connection id the client chose first; undefined for a token that is not ours, old, from elsewhere, or not with
   * the id that the Retry packet gave: clients must not choose ids of ours.
   */
  open(token: Uint8Array, usedDcid: Uint8Array, ip: string, port: number, nowMs: number): Uint8Array | undefined {
    const bodyBytes = token.length - MAC_BYTES;
    if (bodyBytes < TIME_BYTES) return undefined;
    const body = token.subarray(0, bodyBytes);
    if (!timingSafeEqual(this.#mac(body, usedDcid, ip, port), token.subarray(bodyBytes))) return undefined;
    const madeAtS = new DataView(body.buffer, body.byteOffset).getUint32(0);
    const ageS = Math.floor(nowMs / 1000) - madeAtS;
    return ageS >= 0 && ageS <= LIFETIME_S ? body.slice(TIME_BYTES) : undefined;
  }

  #mac(body: Uint8Array, connectionId: Uint8Array, ip: string, port: number): Uint8Array {
    const id = Buffer.from(connectionId).toString("hex");
    return createHmac("sha256", this.#key).update(`${ip} ${port} ${id} `).update(body).digest().subarray(0, MAC_BYTES);
  }
}
