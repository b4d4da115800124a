import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import type { Fault, FaultLink } from "./faults/fault.ts";

export interface FaultPlan {
  /** Faults on bytes from the client to the target, applied in order. */
  readonly up?: readonly Fault[];
  /** Faults on bytes from the target to the client. */
  readonly down?: readonly Fault[];
}

/** A TCP proxy on loopback between a client and a target, which does to their bytes what a bad network does. */
export interface FaultProxy extends AsyncDisposable {
  readonly host: string;
  readonly port: number;
  /** Connections open now. */
  readonly open: number;
  /** Connections accepted since the start. */
  readonly accepted: number;
  /** Faults for connections that come from now on. */
  setPlan(plan: FaultPlan): void;
  /** Resets every open connection, as a rebooting router does. */
  resetAll(): void;
}

export async function startFaultProxy(
  target: { readonly host: string; readonly port: number },
  firstPlan: FaultPlan = {},
): Promise<FaultProxy> {
  let plan = firstPlan;
  let accepted = 0;
  const links = new Set<Link>();

  // Half-close must pass through, so neither side may end by itself when the other does.
  const server = createServer({ allowHalfOpen: true }, (client) => {
    accepted += 1;
    const upstream = connect({ host: target.host, port: target.port, allowHalfOpen: true });
    const link = new Link(client, upstream);
    links.add(link);
    void link.closed.then(() => links.delete(link));
    void link.run(plan);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;

  return {
    host: "127.0.0.1",
    port,
    get open() {
      return links.size;
    },
    get accepted() {
      return accepted;
    },
    setPlan: (next) => {
      plan = next;
    },
    resetAll: () => {
      for (const link of links) link.reset();
    },
    [Symbol.asyncDispose]: async () => {
      const closed = [...links].map((link) => link.closed);
      for (const link of links) link.cut();
      await Promise.all([...closed, closeServer(server)]);
    },
  };
}

function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => server.close(() => resolve()));
}

class Link implements FaultLink {
  readonly closed: Promise<void>;
  readonly #client: Socket;
  readonly #upstream: Socket;
  #isClosed = false;

  constructor(client: Socket, upstream: Socket) {
    this.#client = client;
    this.#upstream = upstream;
    this.closed = Promise.all([closeOf(client), closeOf(upstream)]).then(() => {
      this.#isClosed = true;
    });
  }

  async run(plan: FaultPlan): Promise<void> {
    await Promise.all([
      this.#pump(this.#client, this.#upstream, plan.up ?? []),
      this.#pump(this.#upstream, this.#client, plan.down ?? []),
    ]);
  }

  cut(): void {
    this.#client.destroy();
    this.#upstream.destroy();
  }

  reset(): void {
    this.#client.resetAndDestroy();
    this.#upstream.resetAndDestroy();
  }

  wait(ms: number): Promise<void> {
    if (this.#isClosed) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      void this.closed.then(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  async #pump(from: Socket, to: Socket, faults: readonly Fault[]): Promise<void> {
    let stream: AsyncIterable<Uint8Array> = from.iterator({ destroyOnReturn: false });
    for (const fault of faults) stream = fault(stream, this);
    try {
      for await (const chunk of stream) {
        if (!to.write(chunk)) await this.#room(to);
      }
      to.end();
    } catch {
      // The one side broke: the other shall see the same.
      this.reset();
    }
  }

  #room(socket: Socket): Promise<void> {
    return new Promise((resolve) => {
      socket.once("drain", resolve);
      void this.closed.then(resolve);
    });
  }
}

function closeOf(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    socket.once("close", () => resolve());
    // The pump sees the error too; without a listener it would end the process.
    socket.on("error", () => {});
  });
}
