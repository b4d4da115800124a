import { TunnelError } from "../core/errors.ts";
import { type ByteChannel, type ChannelEvents, NO_TRAILERS } from "./channel.ts";
import { closedByPeer, DIAL_TIMEOUT_MS, dialError, HANDSHAKE_TIMEOUT_MS, listenError } from "./socket-errors.ts";
import type { Connection, DialAddress, DialOptions, Listener, ListenOptions } from "./sockets.ts";

/**
 * Sockets on Bun's own API, which costs the data path about a third less than `node:net` (one call per read and
 * write, no stream objects). Facts it rests on, all measured on Bun 1.4.5: `shutdown()` half-closes while `end()`
 * closes both ways; after our `shutdown()` the peer's FIN arrives as `close(undefined)` and not as `end`; a reset
 * always carries an error, even while paused; a paused socket does not see FIN until it is resumed.
 */
class BunChannel implements ByteChannel {
  /** The system took the bytes, or they are in `#unsent` and the answer was false. */
  readonly writesAtOnce = true;
  readonly #socket: Bun.Socket<Holder>;
  #events: ChannelEvents | undefined;
  #paused = true;
  #received: Uint8Array[] = [];
  #peerEnded = false;
  #endDelivered = false;
  #unsent: Uint8Array[] = [];
  #ended = false;
  #shutdown = false;
  #writerWaits = false;
  #scheduled = false;
  #closing: { error: TunnelError | undefined } | undefined;
  #closed = false;

  constructor(socket: Bun.Socket<Holder>) {
    this.#socket = socket;
    socket.pause();
  }

  write(chunk: Uint8Array): boolean {
    if (this.#ended || this.#closing !== undefined) return true;
    if (this.#unsent.length > 0) {
      this.#unsent.push(chunk);
      return false;
    }
    const sent = this.#socket.write(chunk);
    if (sent >= chunk.length) return true;
    // A closed socket answers -1; its close event tells the owner.
    if (sent < 0) return true;
    this.#unsent.push(sent === 0 ? chunk : chunk.subarray(sent));
    this.#writerWaits = true;
    return false;
  }

  end(): void {
    if (this.#ended || this.#closing !== undefined) return;
    this.#ended = true;
    if (this.#unsent.length === 0) this.#finishWriting();
  }

  abort(error: TunnelError): void {
    if (this.#closing !== undefined) return;
    this.#close(error);
    this.#socket.terminate();
  }

  pause(): void {
    if (this.#paused) return;
    this.#paused = true;
    this.#socket.pause();
  }

  resume(): void {
    if (!this.#paused || this.#events === undefined) return;
    this.#paused = false;
    this.#socket.resume();
    if (this.#received.length > 0 || this.#peerEnded || this.#closing !== undefined) this.#schedule();
  }

  listen(events: ChannelEvents): void {
    this.#events = events;
    this.resume();
    if (this.#closing !== undefined) this.#schedule();
  }

  /** Socket events, called by the handlers below. */
  onData(chunk: Uint8Array): void {
    if (this.#closing?.error !== undefined) return;
    const events = this.#events;
    if (events === undefined || this.#paused || this.#received.length > 0) this.#received.push(chunk);
    else events.onData(chunk);
  }

  onPeerEnd(): void {
    this.#peerEnded = true;
    this.#deliver();
  }

  onDrain(): void {
    while (this.#unsent.length > 0) {
      const chunk = this.#unsent[0] as Uint8Array;
      const sent = this.#socket.write(chunk);
      if (sent < 0) return;
      if (sent < chunk.length) {
        if (sent > 0) this.#unsent[0] = chunk.subarray(sent);
        return;
      }
      this.#unsent.shift();
    }
    if (this.#ended) this.#finishWriting();
    else if (this.#writerWaits) {
      this.#writerWaits = false;
      this.#events?.onDrain();
    }
  }

  onClosed(failure: unknown): void {
    if (failure !== undefined && failure !== null) {
      this.#close(closedByPeer(failure));
    } else if (this.#shutdown || this.#peerEnded) {
      this.#peerEnded = true;
      this.#close(undefined);
    } else {
      this.#close(new TunnelError("channel.lost", "Connection closed before both sides had finished"));
    }
  }

  #finishWriting(): void {
    if (this.#shutdown) return;
    this.#shutdown = true;
    if (this.#peerEnded) this.#socket.end();
    else this.#socket.shutdown();
  }

  #close(error: TunnelError | undefined): void {
    if (this.#closing !== undefined) return;
    this.#closing = { error };
    this.#unsent = [];
    if (error !== undefined) this.#received = [];
    this.#schedule();
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      this.#deliver();
    });
  }

  #deliver(): void {
    const events = this.#events;
    if (events === undefined || this.#closed) return;
    while (!this.#paused && this.#received.length > 0) events.onData(this.#received.shift() as Uint8Array);
    const drained = this.#received.length === 0;
    if (!this.#paused && drained && this.#peerEnded && !this.#endDelivered) {
      this.#endDelivered = true;
      events.onEnd(NO_TRAILERS);
    }
    const closing = this.#closing;
    if (closing === undefined || this.#closed) return;
    // A proper close waits until the owner has read everything; a failure does not.
    if (closing.error === undefined && !this.#endDelivered) return;
    this.#closed = true;
    events.onClose(closing.error);
  }
}

/** What hangs on a Bun socket: its channel once usable, and who is told of a failure before that. */
interface Holder {
  channel: BunChannel | undefined;
  early: ((failure: unknown) => void) | undefined;
}

const HANDLERS = {
  binaryType: "uint8array",
  data(socket: Bun.Socket<Holder>, chunk: Uint8Array): void {
    socket.data.channel?.onData(chunk);
  },
  drain(socket: Bun.Socket<Holder>): void {
    socket.data.channel?.onDrain();
  },
  end(socket: Bun.Socket<Holder>): void {
    socket.data.channel?.onPeerEnd();
  },
  close(socket: Bun.Socket<Holder>, failure?: unknown): void {
    if (socket.data.channel === undefined) socket.data.early?.(failure);
    else socket.data.channel.onClosed(failure);
  },
  error(socket: Bun.Socket<Holder>, failure: Error): void {
    // Bun also routes exceptions thrown by the handlers above to here: fail the connection, never swallow it.
    if (socket.data.channel === undefined) socket.data.early?.(failure);
    else socket.data.channel.abort(closedByPeer(failure));
  },
} as const;

/** Dials with Bun's sockets; same contract as `dial` in dial.ts. */
export function dialBun(address: DialAddress, options: DialOptions): Promise<Connection> {
  return new Promise((resolve, reject) => {
    let settled = false;
    let opened: Bun.Socket<Holder> | undefined;
    const finish = (result: Connection | TunnelError): void => {
      if (settled) return;
      settled = true;
      clearTimeout(timer);
      options.signal?.removeEventListener("abort", onAbort);
      if (result instanceof TunnelError) {
        opened?.terminate();
        reject(result);
      } else resolve(result);
    };
    const fail = (cause: unknown, phase: "connect" | "tls"): void => finish(dialError(address, cause, phase));
    const onAbort = (): void => finish(new TunnelError("aborted", "Dial aborted"));
    const timeoutMs = options.timeoutMs ?? DIAL_TIMEOUT_MS;
    const timer = setTimeout(
      () => fail(new Error(`no answer within ${timeoutMs} ms`), opened === undefined ? "connect" : "tls"),
      timeoutMs,
    );
    if (options.signal?.aborted === true) return onAbort();
    options.signal?.addEventListener("abort", onAbort, { once: true });

    const ready = (socket: Bun.Socket<Holder>): void => {
      if (settled) {
        socket.terminate();
        return;
      }
      if (!("path" in address)) {
        socket.setNoDelay(true);
        const keepAliveMs = options.keepAliveMs ?? 30_000;
        if (keepAliveMs > 0) socket.setKeepAlive(true, keepAliveMs);
      }
      const connection = adopt(socket);
      if (options.prelude !== undefined) {
        connection.channel.write(options.prelude({ ip: connection.remoteIp, port: connection.remotePort }));
      }
      finish(connection);
    };
    const tls = options.tls;
    const handlers = {
      ...HANDLERS,
      open(socket: Bun.Socket<Holder>): void {
        opened = socket;
        if (settled) {
          socket.terminate();
          return;
        }
        options.onConnected?.();
        if (tls === undefined) ready(socket);
      },
      handshake(socket: Bun.Socket<Holder>, _authorized: boolean, error: Error | null): void {
        if (error !== null && error !== undefined && tls?.verify !== false) fail(error, "tls");
        else ready(socket);
      },
    };
    const holder: Holder = {
      channel: undefined,
      early: (failure) =>
        fail(failure ?? new Error("connection closed by peer"), opened === undefined ? "connect" : "tls"),
    };
    const secure =
      tls === undefined
        ? {}
        : {
            tls: {
              serverName: tls.serverName,
              rejectUnauthorized: tls.verify !== false,
              ...(tls.ca === undefined ? {} : { ca: tls.ca }),
              ...(tls.cert === undefined ? {} : { cert: tls.cert, key: tls.key }),
              ...(tls.alpn === undefined ? {} : { ALPNProtocols: alpnList(tls.alpn) }),
            },
          };
    const where = "path" in address ? { unix: address.path } : { hostname: address.host, port: address.port };
    Bun.connect<Holder>({ ...where, ...secure, allowHalfOpen: true, data: holder, socket: handlers } as Parameters<
      typeof Bun.connect<Holder>
    >[0]).catch((error: unknown) => fail(error, "connect"));
  });
}

/** Listens with Bun's sockets; same contract as `listen` in listen.ts. */
export function listenBun(options: ListenOptions): Listener {
  let open = 0;
  const timers = new WeakMap<Bun.Socket<Holder>, ReturnType<typeof setTimeout>>();
  const settle = (socket: Bun.Socket<Holder>): void => clearTimeout(timers.get(socket));
  const ready = (socket: Bun.Socket<Holder>): void => {
    socket.setNoDelay(true);
    socket.setKeepAlive(true, 30_000);
    options.onConnection(adopt(socket));
  };
  const handlers = {
    ...HANDLERS,
    open(socket: Bun.Socket<Holder>): void {
      open += 1;
      if (open > options.maxConnections) {
        socket.data = { channel: undefined, early: undefined };
        options.onRefused?.(socket.remoteAddress, "limit");
        socket.terminate();
        return;
      }
      const remoteIp = socket.remoteAddress;
      socket.data = {
        channel: undefined,
        early: () => {
          settle(socket);
          options.onRefused?.(remoteIp, "handshake");
        },
      };
      if (options.tls === undefined) ready(socket);
      else
        timers.set(
          socket,
          setTimeout(() => socket.terminate(), options.handshakeTimeoutMs ?? HANDSHAKE_TIMEOUT_MS),
        );
    },
    handshake(socket: Bun.Socket<Holder>, success: boolean): void {
      settle(socket);
      if (success && socket.data.channel === undefined) ready(socket);
      else if (!success) socket.terminate();
    },
    close(socket: Bun.Socket<Holder>, failure?: unknown): void {
      open -= 1;
      HANDLERS.close(socket, failure);
    },
  };
  try {
    const server = Bun.listen<Holder>({
      hostname: options.host,
      port: options.port,
      allowHalfOpen: true,
      ...(options.tls === undefined ? {} : { tls: options.tls }),
      socket: handlers,
    } as unknown as Parameters<typeof Bun.listen<Holder>>[0]) as unknown as {
      hostname: string;
      port: number;
      stop(closeActive: boolean): void;
    };
    return {
      host: server.hostname,
      port: server.port,
      close: () => {
        server.stop(false);
        return Promise.resolve();
      },
    };
  } catch (error) {
    throw listenError(options.host, options.port, error);
  }
}

function adopt(socket: Bun.Socket<Holder>): Connection {
  const channel = new BunChannel(socket);
  socket.data.channel = channel;
  return {
    channel,
    remoteIp: socket.remoteAddress,
    remotePort: socket.remotePort,
    localIp: socket.localAddress === "" ? undefined : socket.localAddress,
    alpn: typeof socket.alpnProtocol === "string" ? socket.alpnProtocol : undefined,
  };
}

/** The list as TLS writes it (RFC 7301 section 3.1): each name behind its length. */
function alpnList(names: readonly string[]): string {
  return names.map((name) => String.fromCharCode(name.length) + name).join("");
}
