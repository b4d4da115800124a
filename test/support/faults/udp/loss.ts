import type { Random } from "../../../../src/core/clock.ts";
import type { DatagramFault } from "./fault.ts";

/** Loses this share (0 to 1) of the datagrams. */
export function udpLoss(share: number, random: Random): DatagramFault {
  return (next) => (datagram) => {
    if (random() >= share) next(datagram);
  };
}
