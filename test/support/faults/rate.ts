import type { Fault } from "./fault.ts";

/** Length of one portion, in ms: short enough to look even, long enough for a timer. */
const PORTION_MS = 20;

/** Passes at most this many bytes a second; the sender is held back. */
export function rate(bytesPerSecond: number): Fault {
  const portionBytes = Math.max(1, Math.floor((bytesPerSecond * PORTION_MS) / 1_000));
  return async function* (source, link) {
    for await (const chunk of source) {
      for (let at = 0; at < chunk.length; at += portionBytes) {
        yield chunk.subarray(at, at + portionBytes);
        await link.wait(PORTION_MS);
      }
    }
  };
}
