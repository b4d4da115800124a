import type { Clock } from "../../core/clock.ts";
import { TunnelError } from "../../core/errors.ts";
import type { Logger } from "../../core/log.ts";
import { listen } from "../../net/listen.ts";
import { type PipeResult, pipe } from "../../net/pipe.ts";
import type { Connection, Listener } from "../../net/sockets.ts";
import { formatIp, ipGroup, ipToBytes } from "../../wire/ip-bytes.ts";
import { encodeProxyHeader } from "../../wire/proxy-protocol.ts";
import type { Dispatcher } from "../dispatcher/dispatcher.ts";
import type { TcpRoute } from "../store/port.ts";
import { openTcpStream } from "./tcp-stream.ts";

/** Counted over all TCP ports. */
export interface TcpCounters {
  connections: number;
  /** Connections whose service was not reached. */
  failed: number;
  /** Connections that a limit turned away. */
  refused: number;
  bytesIn: number;
  bytesOut: number;
}

export interface TcpPortDeps {
  readonly dispatcher: Pick<Dispatcher, "open">;
  readonly clock: Clock;
  readonly log: Logger;
  /** Connections open at once: of this port, and of one address to it. */
  readonly limits: { readonly connections: number; readonly perIp: number };
  readonly counters: TcpCounters;
  /** A new id for a connection. */
  readonly nextRay: () => string;
}

/** A public TCP port whose connections go to a service behind a tunnel. */
export class TcpPort {
  readonly #deps: TcpPortDeps;
  readonly #perIp = new Map<string, number>();
  readonly #open = new Set<(error: TunnelError) => void>();
  #route: TcpRoute;
  #listener: Listener | undefined;
  readonly #idle = Promise.withResolvers<void>();
  #closing = false;

  private constructor(route: TcpRoute, deps: TcpPortDeps) {
    this.#route = route;
    this.#deps = deps;
  }

  /** Rejects with `listen.failed`. */
  static async open(host: string, route: TcpRoute, deps: TcpPortDeps): Promise<TcpPort> {
    const port = new TcpPort(route, deps);
    port.#listener = await listen({
      host,
      port: route.port,
      maxConnections: deps.limits.connections,
      onConnection: (connection) => port.#accept(connection),
      onRefused: () => {
        deps.counters.refused += 1;
      },
    });
    return port;
  }

  /** Connections open now. */
  get size(): number {
    return this.#open.size;
  }

  /** Where further connections go; those that are open stay. */
  reroute(route: TcpRoute): void {
    this.#route = route;
  }

  /** Takes no further connections; resolves when the port is free. */
  async stop(): Promise<void> {
    await this.#listener?.close();
  }

  /** The same; resolves when the open connections are over as well. */
  async close(): Promise<void> {
    if (this.#open.size === 0) this.#idle.resolve();
    else this.#closing = true;
    await this.stop();
    await this.#idle.promise;
  }

  /** Cuts what is open. */
  abort(): void {
    for (const cut of [...this.#open]) cut(new TunnelError("aborted", "The port leads nowhere any more"));
  }

  #accept({ channel, remoteIp: peer, remotePort, localIp }: Connection): void {
    // A listener for both families shows IPv4 in its IPv6 form.
    const remoteIp = formatIp(ipToBytes(peer)) ?? peer;
    const { clock, counters, limits, log } = this.#deps;
    const group = ipGroup(remoteIp);
    const fromIp = this.#perIp.get(group) ?? 0;
    const ignore = { onData: () => {}, onEnd: () => {}, onDrain: () => {}, onClose: () => {} };
    if (fromIp >= limits.perIp) {
      counters.refused += 1;
      channel.listen(ignore);
      channel.abort(new TunnelError("aborted", "Too many connections of this address"));
      return;
    }
    counters.connections += 1;
    this.#perIp.set(group, fromIp + 1);
    const route = this.#route;
    const { port, tunnelId, hostname, proxyProtocol } = route;
    const ray = this.#deps.nextRay();
    const fields = { port, tunnelID: tunnelId, ip: remoteIp, ray };
    const startedAtMs = clock.nowMs();

    const over = (error: TunnelError | undefined, moved?: PipeResult): void => {
      if (!this.#open.delete(cut)) return;
      if (this.#closing && this.#open.size === 0) this.#idle.resolve();
      const left = (this.#perIp.get(group) ?? 1) - 1;
      if (left === 0) this.#perIp.delete(group);
      else this.#perIp.set(group, left);
      counters.bytesIn += moved?.forwardBytes ?? 0;
      counters.bytesOut += moved?.backwardBytes ?? 0;
      log.debug("TCP connection is over", {
        ...{ ...fields, error: error?.message, durationMs: Math.round(clock.nowMs() - startedAtMs) },
        ...{ bytesIn: moved?.forwardBytes, bytesOut: moved?.backwardBytes },
      });
    };
    // The visitor waits unread until the service has the stream.
    let giveUp: (error: TunnelError) => void = () => {};
    const cut = (error: TunnelError): void => {
      giveUp(error);
      channel.abort(error);
    };
    this.#open.add(cut);
    channel.listen({
      ...ignore,
      onClose: () => giveUp(new TunnelError("aborted", "The visitor closed the connection")),
    });
    channel.pause();
    giveUp = openTcpStream(
      this.#deps.dispatcher,
      { tunnelId, hostname, ip: remoteIp, ray },
      {
        onOpen: (stream) => {
          giveUp = (error) => stream.abort(error);
          if (proxyProtocol !== undefined) {
            stream.write(
              encodeProxyHeader(proxyProtocol, {
                ...{ sourceIp: remoteIp, sourcePort: remotePort },
                ...{ destinationIp: localIp ?? "", destinationPort: port },
              }),
            );
          }
          pipe(channel, stream, (moved) => over(moved.error, moved));
        },
        onFailed: (error) => {
          over(error);
          if (error.code !== "aborted") {
            counters.failed += 1;
            log.info("Cannot take a TCP connection to its service", { ...fields, hostname, error: error.message });
          }
          channel.abort(error);
        },
      },
      clock,
    );
  }
}
