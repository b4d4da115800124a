import type { DatagramFault, Deliver } from "./fault.ts";

/** Datagrams that a stalled direction keeps; what comes on top is lost. */
const MAX_HELD = 1_000;

/** A direction that can be shut and opened again. */
export interface DatagramGate {
  readonly fault: DatagramFault;
  begin(): void;
  end(): void;
}

/** While shut, everything is lost and nobody is told: a cut cable, or a firewall that drops. */
export function createUdpCut(): DatagramGate {
  let shut = false;
  return {
    fault: (next) => (datagram) => {
      if (!shut) next(datagram);
    },
    begin: () => {
      shut = true;
    },
    end: () => {
      shut = false;
    },
  };
}

/** While shut, datagrams wait (a thousand of them at most) and come all at once afterwards. */
export function createUdpStall(): DatagramGate {
  let shut = false;
  const held: { readonly next: Deliver; readonly datagram: Uint8Array }[] = [];
  return {
    fault: (next) => (datagram) => {
      if (!shut) next(datagram);
      else if (held.length < MAX_HELD) held.push({ next, datagram });
    },
    begin: () => {
      shut = true;
    },
    end: () => {
      shut = false;
      for (const { next, datagram } of held.splice(0)) next(datagram);
    },
  };
}
