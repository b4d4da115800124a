import { patternBytes } from "../lab-pattern.ts";

const BLOCK = Buffer.concat([...patternBytes(65_521)]);
/** Apart by a prime, so that bodies of neighbouring requests differ from their first bytes on. */
const STEP = 7_919;

/** The body of one request: every request has its own, so that bytes of another one are wrong bytes. */
export function* contentPieces(id: number, total: number, pieceBytes = BLOCK.length): Generator<Buffer> {
  let at = (id * STEP) % BLOCK.length;
  for (let left = total; left > 0; ) {
    const piece = BLOCK.subarray(at, at + Math.min(left, pieceBytes, BLOCK.length - at));
    left -= piece.length;
    at = (at + piece.length) % BLOCK.length;
    yield piece;
  }
}

export function content(id: number, total: number): Buffer {
  return Buffer.concat([...contentPieces(id, total)]);
}

/** Compares what arrives with the body of a request. */
export class ContentCheck {
  /** Bytes that are not those of this body. */
  wrong = 0;
  bytes = 0;
  #at: number;

  constructor(id: number) {
    this.#at = (id * STEP) % BLOCK.length;
  }

  take(chunk: Uint8Array): void {
    this.bytes += chunk.length;
    for (let from = 0; from < chunk.length; ) {
      const length = Math.min(chunk.length - from, BLOCK.length - this.#at);
      const got = chunk.subarray(from, from + length);
      const expected = BLOCK.subarray(this.#at, this.#at + length);
      if (expected.compare(got) !== 0) this.wrong += got.filter((byte, index) => byte !== expected[index]).length;
      this.#at = (this.#at + length) % BLOCK.length;
      from += length;
    }
  }
}
