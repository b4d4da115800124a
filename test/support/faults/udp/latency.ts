import type { DatagramFault } from "./fault.ts";

/** Delivers every datagram this much later, in order. */
export function udpLatency(ms: number): DatagramFault {
  return (next, link) => (datagram) => link.after(ms, () => next(datagram));
}
