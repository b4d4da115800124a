import { createHash } from "node:crypto";

/** One gibibyte, the size of the big transfers. */
export const GIBIBYTE = 1024 ** 3;

/** A prime length: no power-of-two frame, window or buffer size can line up with it and hide a lost or doubled piece. */
const BLOCK_BYTES = 65_521;
const BLOCK = makeBlock();
const digests = new Map<number, string>();

function makeBlock(): Buffer {
  const block = Buffer.alloc(BLOCK_BYTES);
  for (let at = 0, state = 0x9e3779b9; at < block.length; at += 1) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    block[at] = state >>> 24;
  }
  return block;
}

/** `total` bytes that every test knows, piece by piece. */
export function* patternBytes(total: number): Generator<Buffer> {
  for (let left = total; left > 0; left -= BLOCK_BYTES) {
    yield left >= BLOCK_BYTES ? BLOCK : BLOCK.subarray(0, left);
  }
}

/** SHA-256 of the first `total` bytes of the pattern. */
export function patternDigest(total: number): string {
  const known = digests.get(total);
  if (known !== undefined) return known;
  const hash = createHash("sha256");
  for (const piece of patternBytes(total)) hash.update(piece);
  const digest = hash.digest("hex");
  digests.set(total, digest);
  return digest;
}
