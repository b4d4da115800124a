import { createSocket, type RemoteInfo, type Socket } from "node:dgram";
import type { DatagramFault, DatagramLink, Deliver } from "./faults/udp/fault.ts";

export interface UdpFaultPlan {
  /** Faults on datagrams from a client to the target, applied in order. */
  readonly up?: readonly DatagramFault[];
  /** Faults on datagrams from the target to a client. */
  readonly down?: readonly DatagramFault[];
}

/**
 * A UDP proxy on loopback between clients and a target, which does to their datagrams what a bad network does. As a NAT
 * does, it gives each client a port of its own towards the target.
 */
export interface UdpFaultProxy extends AsyncDisposable {
  readonly host: string;
  readonly port: number;
  /** Clients that have a port towards the target. */
  readonly clients: number;
  /** Faults from now on, also for clients that are known. Datagrams under way arrive. */
  setPlan(plan: UdpFaultPlan): void;
  /** Gives every client another port towards the target; what comes to the old one is lost. */
  rebind(): Promise<void>;
}

export async function startUdpFaultProxy(
  target: { readonly host: string; readonly port: number },
  firstPlan: UdpFaultPlan = {},
): Promise<UdpFaultProxy> {
  let plan = firstPlan;
  const inside = createSocket("udp4");
  const clients = new Map<string, Client>();
  inside.on("message", (datagram, from) => {
    const key = `${from.address}:${from.port}`;
    let client = clients.get(key);
    if (client === undefined) {
      client = new Client(target, (bytes) => reply(inside, bytes, from), plan);
      clients.set(key, client);
    }
    client.up(datagram);
  });
  await bind(inside);
  return {
    host: "127.0.0.1",
    port: inside.address().port,
    get clients() {
      return clients.size;
    },
    setPlan: (next) => {
      plan = next;
      for (const client of clients.values()) client.setPlan(next);
    },
    rebind: async () => {
      await Promise.all([...clients.values()].map((client) => client.rebind()));
    },
    [Symbol.asyncDispose]: async () => {
      await Promise.all([...clients.values()].map((client) => client.close()));
      await close(inside);
    },
  };
}

/** One client's way to the target and back. */
class Client implements DatagramLink {
  readonly #target: { readonly host: string; readonly port: number };
  readonly #toClient: Deliver;
  readonly #timers = new Set<ReturnType<typeof setTimeout>>();
  #outside: Socket;
  #bound: Promise<void>;
  #up: Deliver = () => {};
  #down: Deliver = () => {};
  #closed = false;

  constructor(target: { readonly host: string; readonly port: number }, toClient: Deliver, plan: UdpFaultPlan) {
    this.#target = target;
    this.#toClient = (datagram) => {
      if (!this.#closed) toClient(datagram);
    };
    this.#outside = this.#open();
    this.#bound = bind(this.#outside);
    this.setPlan(plan);
  }

  setPlan(plan: UdpFaultPlan): void {
    this.#up = this.#chain(plan.up, (datagram) => void this.#send(datagram));
    this.#down = this.#chain(plan.down, this.#toClient);
  }

  up(datagram: Uint8Array): void {
    this.#up(datagram);
  }

  async rebind(): Promise<void> {
    const old = this.#outside;
    this.#outside = this.#open();
    this.#bound = bind(this.#outside);
    // The old port is given back last, so that the new one cannot be the same.
    await this.#bound;
    await close(old);
  }

  after(ms: number, callback: () => void): void {
    if (this.#closed) return;
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      callback();
    }, ms);
    this.#timers.add(timer);
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const timer of this.#timers) clearTimeout(timer);
    await this.#bound;
    await close(this.#outside);
  }

  #open(): Socket {
    const socket = createSocket("udp4");
    socket.on("message", (datagram) => {
      if (socket === this.#outside) this.#down(datagram);
    });
    return socket;
  }

  async #send(datagram: Uint8Array): Promise<void> {
    await this.#bound;
    // An unreachable target is lost datagrams, no error.
    if (!this.#closed) this.#outside.send(datagram, this.#target.port, this.#target.host, () => {});
  }

  #chain(faults: readonly DatagramFault[] = [], last: Deliver): Deliver {
    return faults.reduceRight((next, fault) => fault(next, this), last);
  }
}

function reply(socket: Socket, datagram: Uint8Array, to: RemoteInfo): void {
  socket.send(datagram, to.port, to.address, () => {});
}

function bind(socket: Socket): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.once("error", reject);
    socket.bind(0, "127.0.0.1", () => {
      socket.off("error", reject);
      socket.on("error", () => {});
      resolve();
    });
  });
}

function close(socket: Socket): Promise<void> {
  return new Promise((resolve) => socket.close(() => resolve()));
}
