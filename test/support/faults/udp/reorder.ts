import type { Random } from "../../../../src/core/clock.ts";
import type { DatagramFault } from "./fault.ts";

/** A datagram that nothing follows is not kept longer than this, in ms. */
const HELD_AT_MOST_MS = 100;

/** Lets this share (0 to 1) of the datagrams be overtaken by the one that follows. Nothing is lost. */
export function udpReorder(share: number, random: Random): DatagramFault {
  return (next, link) => {
    let held: Uint8Array | undefined;
    const release = (): void => {
      const late = held;
      held = undefined;
      if (late !== undefined) next(late);
    };
    return (datagram) => {
      if (held === undefined && random() < share) {
        held = datagram;
        link.after(HELD_AT_MOST_MS, () => {
          if (held === datagram) release();
        });
        return;
      }
      next(datagram);
      release();
    };
  };
}
