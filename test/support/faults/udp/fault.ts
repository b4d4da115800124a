/** Delivers one datagram to what comes next on its way. */
export type Deliver = (datagram: Uint8Array) => void;

/** What a fault may do on the way of datagrams between one client and the target. */
export interface DatagramLink {
  /** Calls back after this long, unless the way is closed by then. */
  after(ms: number, callback: () => void): void;
}

/** One thing that can go wrong with one direction of datagrams: what is given to the result may come out of `next`. */
export type DatagramFault = (next: Deliver, link: DatagramLink) => Deliver;
