import net from "node:net";
import tls from "node:tls";
import { TunnelError } from "../core/errors.ts";
import { type ByteChannel, type ChannelEvents, NO_TRAILERS } from "./channel.ts";
import { closedByPeer, DIAL_TIMEOUT_MS, dialError, HANDSHAKE_TIMEOUT_MS, listenError } from "./socket-errors.ts";
import type { Connection, DialAddress, DialOptions, Listener, ListenOptions } from "./sockets.ts";

/** A channel on a `node:net` or `node:tls` socket: what Deno runs on, and Bun where its own API falls short. */
class NodeChannel implements ByteChannel {
  readonly #socket: net.Socket;
  /** The TCP socket below TLS, where the runtime lets us have it; else the same as `#socket`. */
  readonly #plain: net.Socket;
  #events: ChannelEvents | undefined;
  #ended = false;
  #peerEnded = false;
  #failure: TunnelError | undefined;
  #closed = false;

  constructor(socket: net.Socket, plain: net.Socket) {
    this.#socket = socket;
    this.#plain = plain;
    socket.allowHalfOpen = true;
    socket.pause();
    socket.on("data", (chunk: Uint8Array) => this.#events?.onData(chunk));
    socket.on("end", () => {
      this.#peerEnded = true;
      this.#events?.onEnd(NO_TRAILERS);
    });
    socket.on("drain", () => this.#events?.onDrain());
    socket.on("error", (error) => {
      this.#failure ??= closedByPeer(error);
    });
    socket.on("close", () => {
      if (this.#failure === undefined && !(this.#peerEnded && this.#ended)) {
        this.#failure = new TunnelError("channel.lost", "Connection closed before both sides had finished");
      }
      this.#closed = true;
      this.#events?.onClose(this.#failure);
    });
  }

  write(chunk: Uint8Array): boolean {
    if (this.#ended || this.#closed) return true;
    return this.#socket.write(chunk);
  }

  end(): void {
    if (this.#ended || this.#closed) return;
    this.#ended = true;
    this.#socket.end();
  }

  abort(error: TunnelError): void {
    if (this.#closed) return;
    this.#failure ??= error;
    // A reset, so that the peer cannot take the cut for a proper end. Where there is none, closing is the nearest.
    if (typeof this.#plain.resetAndDestroy === "function" && !(this.#plain instanceof tls.TLSSocket)) {
      this.#plain.resetAndDestroy();
    }
    this.#socket.destroy();
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    if (this.#events !== undefined) this.#socket.resume();
  }

  listen(events: ChannelEvents): void {
    this.#events = events;
    if (this.#closed) queueMicrotask(() => this.#events?.onClose(this.#failure));
    else this.#socket.resume();
  }
}

/** Dials with Node's sockets; same contract as `dial` in dial.ts. */
export function dialNode(address: DialAddress, options: DialOptions): Promise<Connection> {
  return new Promise((resolve, reject) => {
    let connected = false;
    const plain = "path" in address ? net.connect({ path: address.path }) : net.connect({ ...address, noDelay: true });
    plain.allowHalfOpen = true;
    const socket =
      options.tls === undefined
        ? plain
        : tls.connect({
            socket: plain,
            servername: options.tls.serverName,
            rejectUnauthorized: options.tls.verify !== false,
            ...(options.tls.ca === undefined ? {} : { ca: options.tls.ca }),
          });
    const timeoutMs = options.timeoutMs ?? DIAL_TIMEOUT_MS;
    const timer = setTimeout(() => fail(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs);
    const settle = (): void => {
      clearTimeout(timer);
      options.signal?.removeEventListener("abort", onAbort);
      socket.off("error", fail);
      plain.off("error", fail);
    };
    const fail = (cause: unknown): void => {
      settle();
      socket.on("error", () => {});
      plain.on("error", () => {});
      socket.destroy();
      plain.destroy();
      reject(cause instanceof TunnelError ? cause : dialError(address, cause, connected ? "tls" : "connect"));
    };
    const onAbort = (): void => fail(new TunnelError("aborted", "Dial aborted"));
    socket.on("error", fail);
    if (plain !== socket) plain.on("error", fail);
    if (options.signal?.aborted === true) return onAbort();
    options.signal?.addEventListener("abort", onAbort, { once: true });
    plain.once("connect", () => {
      connected = true;
      const keepAliveMs = options.keepAliveMs ?? 30_000;
      if (keepAliveMs > 0) plain.setKeepAlive(true, keepAliveMs);
    });
    socket.once(options.tls === undefined ? "connect" : "secureConnect", () => {
      settle();
      resolve(adopt(socket, plain));
    });
  });
}

/** Listens with Node's sockets; same contract as `listen` in listen.ts. */
export function listenNode(options: ListenOptions): Promise<Listener> {
  let open = 0;
  const count = (socket: net.Socket): boolean => {
    open += 1;
    socket.once("close", () => {
      open -= 1;
    });
    if (open <= options.maxConnections) return true;
    options.onRefused?.(socket.remoteAddress ?? "", "limit");
    socket.destroy();
    return false;
  };
  const server =
    options.tls === undefined
      ? net.createServer({ allowHalfOpen: true, noDelay: true, keepAlive: true }, (socket) => {
          if (count(socket)) options.onConnection(adopt(socket, socket));
        })
      : tls.createServer(
          { ...options.tls, allowHalfOpen: true, handshakeTimeout: options.handshakeTimeoutMs ?? HANDSHAKE_TIMEOUT_MS },
          (socket) => {
            socket.setNoDelay(true);
            options.onConnection(adopt(socket, socket));
          },
        );
  if (options.tls !== undefined) {
    server.on("connection", count);
    server.on("tlsClientError", (_error: Error, socket: tls.TLSSocket) => {
      options.onRefused?.(socket.remoteAddress ?? "", "handshake");
      socket.destroy();
    });
  }
  return new Promise((resolve, reject) => {
    server.once("error", (error) => reject(listenError(options.host, options.port, error)));
    server.listen({ host: options.host, port: options.port }, () => {
      const bound = server.address();
      const port = typeof bound === "object" && bound !== null ? bound.port : options.port;
      resolve({
        host: options.host,
        port,
        // The callback of `close` waits for every open connection; the port is free before.
        close: () => {
          server.close();
          return Promise.resolve();
        },
      });
    });
  });
}

function adopt(socket: net.Socket, plain: net.Socket): Connection {
  return {
    channel: new NodeChannel(socket, plain),
    remoteIp: plain.remoteAddress ?? "",
    remotePort: plain.remotePort ?? 0,
    localIp: plain.localAddress,
  };
}
