import type { DatagramFault } from "./fault.ts";

/** What a router keeps for a slow link, in bytes; what comes on top is lost. */
const DEFAULT_QUEUE_BYTES = 64 * 1024;

/** Passes at most this many bytes a second; beyond the queue datagrams are lost, as in a router. */
export function udpRate(bytesPerSecond: number, queueBytes = DEFAULT_QUEUE_BYTES): DatagramFault {
  return (next, link) => {
    let freeAtMs = 0;
    return (datagram) => {
      const nowMs = performance.now();
      const waitMs = Math.max(0, freeAtMs - nowMs);
      if ((waitMs * bytesPerSecond) / 1_000 > queueBytes) return;
      freeAtMs = nowMs + waitMs + (datagram.length / bytesPerSecond) * 1_000;
      if (waitMs === 0) next(datagram);
      else link.after(waitMs, () => next(datagram));
    };
  };
}
