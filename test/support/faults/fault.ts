/** What a fault may do to the connection whose bytes it sees. */
export interface FaultLink {
  /** Closes both sockets as a process does that dies. */
  cut(): void;
  /** Closes both sockets with RST. */
  reset(): void;
  /** Resolves when both sockets are closed. */
  readonly closed: Promise<void>;
  /** Waits, but not beyond the end of the connection. */
  wait(ms: number): Promise<void>;
}

/** One thing that can go wrong with one direction of a connection: what goes in, and what comes out. */
export type Fault = (source: AsyncIterable<Uint8Array>, link: FaultLink) => AsyncIterable<Uint8Array>;

/** Passes exactly this many bytes, then hands over to `then`. An end before that passes as it is. */
export async function* passBytes(
  source: AsyncIterable<Uint8Array>,
  bytes: number,
  then: () => void | Promise<void>,
): AsyncGenerator<Uint8Array> {
  let left = bytes;
  for await (const chunk of source) {
    if (chunk.length < left) {
      left -= chunk.length;
      yield chunk;
      continue;
    }
    if (left > 0) yield chunk.subarray(0, left);
    await then();
    return;
  }
}
