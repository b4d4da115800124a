/** Views at least this long are worth keeping as they are, in bytes. */
const WORTH_KEEPING_BYTES = 16 * 1024;

/**
 * Bytes to be kept for a while. What comes from a socket is a view of something much larger, which a single kept byte
 * would hold in memory: so short ones are copied.
 */
export function owned(chunk: Uint8Array): Uint8Array {
  return chunk.length < WORTH_KEEPING_BYTES ? chunk.slice() : chunk;
}

/** The same bytes without what `Buffer` changes: its `slice` is a view, and would keep all that was read with it. */
export function plainBytes(chunk: Uint8Array): Uint8Array {
  return new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength);
}
