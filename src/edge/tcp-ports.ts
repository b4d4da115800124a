import type { CancelTimer } from "../core/clock.ts";
import { describe } from "../core/errors.ts";
import { TcpPort, type TcpPortDeps } from "./listener/tcp-port.ts";
import type { Store, TcpRoute } from "./store/port.ts";

/** How often ports are tried again that could not be opened, in ms. */
const RETRY_MS = 10_000;

/** Public TCP ports as the store has them: opened, changed and closed while the edge runs. */
export class TcpPorts {
  readonly #host: string;
  readonly #store: Store;
  readonly #deps: TcpPortDeps;
  readonly #ports = new Map<number, TcpPort>();
  /** Ports that could not be opened, and what was said about it. */
  readonly #failed = new Map<number, string>();
  readonly #endWatch: () => void;
  #cancelRetry: CancelTimer = () => {};
  #working = Promise.resolve();
  #stopped = false;

  /** `host`: the address that all ports are opened on. */
  constructor(host: string, store: Store, deps: TcpPortDeps) {
    this.#host = host;
    this.#store = store;
    this.#deps = deps;
    this.#endWatch = store.watch(({ kind }) => {
      if (kind === "tcp-routes" || kind === "tunnel" || kind === "unknown") void this.refresh();
    });
    void this.refresh();
  }

  /** Connections open now. */
  get size(): number {
    let count = 0;
    for (const port of this.#ports.values()) count += port.size;
    return count;
  }

  /** Ports that are open. */
  get open(): readonly number[] {
    return [...this.#ports.keys()];
  }

  /** Resolves once the ports are as the store has them now; never rejects. */
  refresh(): Promise<void> {
    this.#working = this.#working.then(() => this.#apply());
    return this.#working;
  }

  /** Takes nothing new; resolves when what is open is over. */
  async close(): Promise<void> {
    this.#stopped = true;
    this.#endWatch();
    this.#cancelRetry();
    await this.#working;
    await Promise.all([...this.#ports.values()].map((port) => port.close()));
  }

  abort(): void {
    for (const port of this.#ports.values()) port.abort();
  }

  async #apply(): Promise<void> {
    if (this.#stopped) return;
    const { log, clock } = this.#deps;
    let routes: ReadonlyMap<number, TcpRoute>;
    try {
      routes = new Map(this.#store.tcpRoutes.list().map((route) => [route.port, route]));
    } catch (error) {
      log.error("Cannot read the TCP ports", { error: describe(error) });
      return;
    }
    for (const [number, port] of [...this.#ports]) {
      if (routes.has(number)) continue;
      this.#ports.delete(number);
      port.abort();
      await port.stop();
      log.info("Closed a TCP port", { port: number });
    }
    for (const number of this.#failed.keys()) if (!routes.has(number)) this.#failed.delete(number);
    for (const route of routes.values()) {
      const known = this.#ports.get(route.port);
      if (known === undefined) await this.#open(route);
      else known.reroute(route);
    }
    this.#cancelRetry();
    if (this.#failed.size > 0) {
      this.#cancelRetry = clock.after(RETRY_MS, () => void this.refresh(), { background: true });
    }
  }

  /** One port that cannot be had is no reason to do without the others. */
  async #open(route: TcpRoute): Promise<void> {
    const { log } = this.#deps;
    const { port, tunnelId, hostname } = route;
    try {
      this.#ports.set(port, await TcpPort.open(this.#host, route, this.#deps));
      this.#failed.delete(port);
      log.info("Opened a TCP port", { port, tunnelID: tunnelId, hostname });
    } catch (error) {
      const why = describe(error);
      if (this.#failed.get(port) !== why) log.error("Cannot open a TCP port", { port, error: why });
      this.#failed.set(port, why);
    }
  }
}
