import net from "node:net";
import tls from "node:tls";
import { TunnelError } from "../core/errors.ts";
import { ipGroup } from "../wire/ip-bytes.ts";
import { type ByteChannel, type ChannelEvents, NO_TRAILERS } from "./channel.ts";
import { plainBytes } from "./owned.ts";
import { createProxyHandshake, type ProxyStep } from "./proxy-handshake.ts";
import type { ProxySettings } from "./proxy-settings.ts";
import { seenCertificate } from "./seen-certificate.ts";
import { closedByPeer, DIAL_TIMEOUT_MS, dialError, HANDSHAKE_TIMEOUT_MS, listenError } from "./socket-errors.ts";
import type { Connection, DialAddress, DialOptions, Listener, ListenOptions, ServerTls } from "./sockets.ts";
import { SERVER_CIPHERS, SERVER_MIN_VERSION, secureContextOf, type TlsIdentity } from "./tls-identity.ts";

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
    socket.on("data", (chunk: Uint8Array) => this.#events?.onData(plainBytes(chunk)));
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

/** Dials with Node's sockets, through a proxy when one is given; same contract as `dial` in dial.ts. */
export async function dialNode(address: DialAddress, options: DialOptions): Promise<Connection> {
  const timeoutMs = options.timeoutMs ?? DIAL_TIMEOUT_MS;
  const attempt = new DialAttempt(address, options);
  const timer = setTimeout(() => attempt.fail(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs);
  const onAbort = (): void => attempt.fail(new TunnelError("aborted", "Dial aborted"));
  options.signal?.addEventListener("abort", onAbort, { once: true });
  if (options.signal?.aborted === true) onAbort();
  try {
    return await attempt.run();
  } finally {
    clearTimeout(timer);
    options.signal?.removeEventListener("abort", onAbort);
  }
}

/** The steps of one dial: TCP, then the proxy's conversation, then TLS. Failing destroys what there is so far. */
class DialAttempt {
  readonly #address: DialAddress;
  readonly #options: DialOptions;
  readonly #failed = Promise.withResolvers<never>();
  #plain: net.Socket | undefined;
  #phase: "connect" | "tls" = "connect";

  constructor(address: DialAddress, options: DialOptions) {
    this.#address = address;
    this.#options = options;
    this.#failed.promise.catch(() => {});
  }

  fail(cause: unknown): void {
    this.#plain?.destroy();
    this.#failed.reject(cause instanceof TunnelError ? cause : dialError(this.#address, cause, this.#phase));
  }

  async run(): Promise<Connection> {
    const { proxy, tls: secure, localAddress } = this.#options;
    const from = localAddress === undefined ? {} : { localAddress };
    const first = proxy === undefined ? this.#address : { host: proxy.host, port: proxy.port };
    const plain =
      "path" in first ? net.connect({ path: first.path }) : net.connect({ ...first, ...from, noDelay: true });
    this.#plain = plain;
    plain.allowHalfOpen = true;
    const onError = (cause: unknown): void => this.fail(cause);
    plain.on("error", onError);
    await this.#event(plain, "connect");
    const keepAliveMs = this.#options.keepAliveMs ?? 30_000;
    if (keepAliveMs > 0) plain.setKeepAlive(true, keepAliveMs);
    if (proxy !== undefined && !("path" in this.#address)) await this.#passProxy(plain, proxy, this.#address);
    this.#options.onConnected?.();
    const { prelude } = this.#options;
    if (prelude !== undefined) plain.write(prelude({ ip: plain.remoteAddress ?? "", port: plain.remotePort ?? 0 }));
    if (secure === undefined) {
      plain.off("error", onError);
      return adopt(plain, plain);
    }
    this.#phase = "tls";
    const socket = tls.connect({
      socket: plain,
      // An address is no SNI (RFC 6066 section 3); the certificate is compared with it all the same.
      ...(net.isIP(secure.serverName) > 0
        ? { host: secure.serverName, servername: "" }
        : { servername: secure.serverName }),
      rejectUnauthorized: secure.verify !== false,
      ...(secure.ca === undefined ? {} : { ca: secure.ca }),
      ...(secure.cert === undefined || secure.key === undefined ? {} : { cert: secure.cert, key: secure.key }),
      ...(secure.alpn === undefined ? {} : { ALPNProtocols: [...secure.alpn] }),
    });
    socket.on("error", onError);
    await this.#event(socket, "secureConnect");
    socket.off("error", onError);
    plain.off("error", onError);
    secure.onCertificate?.(seenCertificate(socket));
    return {
      ...adopt(socket, plain),
      alpn: socket.alpnProtocol === false ? undefined : (socket.alpnProtocol ?? undefined),
    };
  }

  #event(socket: net.Socket, name: "connect" | "secureConnect"): Promise<void> {
    const happened = new Promise<void>((resolve) => void socket.once(name, () => resolve()));
    return Promise.race([happened, this.#failed.promise]);
  }

  async #passProxy(socket: net.Socket, proxy: ProxySettings, target: { host: string; port: number }): Promise<void> {
    const handshake = createProxyHandshake(proxy, target.host, target.port);
    const onEnd = (): void => this.fail(new Error("the proxy closed the connection"));
    const open = new Promise<void>((resolve, reject) => {
      const act = (step: ProxyStep): void => {
        switch (step.kind) {
          case "send":
            socket.write(step.bytes);
            return;
          case "wait":
            return;
          case "failed":
            reject(step.error);
            return;
          case "open":
            socket.off("data", onData);
            socket.pause();
            if (step.rest.length > 0) socket.unshift(step.rest);
            resolve();
        }
      };
      const onData = (bytes: Uint8Array): void => act(handshake.receive(bytes));
      socket.on("data", onData);
      socket.once("end", onEnd);
      act(handshake.start());
    });
    try {
      await Promise.race([open, this.#failed.promise]);
    } catch (error) {
      this.fail(error);
      throw error;
    }
    socket.off("end", onEnd);
  }
}

/** Listens with Node's sockets; same contract as `listen` in listen.ts. */
export function listenNode(options: ListenOptions): Promise<Listener> {
  let open = 0;
  const handshakes = new HandshakeCounts(options.maxHandshakesPerIp ?? Number.POSITIVE_INFINITY);
  /** Peers that were turned away: their handshakes fail as well, which is no news. */
  const turnedAway = new Set<string>();
  const count = (socket: net.Socket): boolean => {
    const peer = peerOf(socket);
    open += 1;
    socket.once("close", () => {
      open -= 1;
      turnedAway.delete(peer);
    });
    const mayShakeHands = options.tls === undefined || handshakes.begin(socket);
    if (open <= options.maxConnections && mayShakeHands) return true;
    turnedAway.add(peer);
    options.onRefused?.(socket.remoteAddress ?? "", mayShakeHands ? "limit" : "handshakes-per-ip");
    socket.destroy();
    return false;
  };
  const server =
    options.tls === undefined
      ? net.createServer({ allowHalfOpen: true, noDelay: true, keepAlive: true }, (socket) => {
          if (count(socket)) options.onConnection(adopt(socket, socket));
        })
      : tls.createServer(
          {
            ...("choose" in options.tls ? byName(options.tls) : options.tls),
            allowHalfOpen: true,
            handshakeTimeout: options.handshakeTimeoutMs ?? HANDSHAKE_TIMEOUT_MS,
          },
          (socket) => {
            handshakes.end(socket);
            socket.setNoDelay(true);
            socket.setKeepAlive(true, 30_000);
            const { servername } = socket as { servername?: string | false };
            options.onConnection({
              ...adopt(socket, socket),
              alpn: socket.alpnProtocol === false ? undefined : (socket.alpnProtocol ?? undefined),
              serverName: typeof servername === "string" ? servername.toLowerCase() : undefined,
            });
          },
        );
  if (options.tls !== undefined) {
    server.on("connection", count);
    server.on("tlsClientError", (_error: Error, socket: tls.TLSSocket) => {
      if (!turnedAway.has(peerOf(socket))) options.onRefused?.(socket.remoteAddress ?? "", "handshake");
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
        ...(server instanceof tls.Server
          ? { setFallback: (identity) => server.setSecureContext(settings(identity)) }
          : {}),
      });
    });
  });
}

function peerOf(socket: net.Socket): string {
  return `${socket.remoteAddress} ${socket.remotePort}`;
}

/** Who shakes hands, by address (IPv6 by its /64) and port: the sockets below and above TLS are different objects. */
class HandshakeCounts {
  readonly #max: number;
  readonly #running = new Map<string, Set<number>>();

  constructor(max: number) {
    this.#max = max;
  }

  /** False when the address has too many already. */
  begin(socket: net.Socket): boolean {
    const { remoteAddress: ip, remotePort: port } = socket;
    if (ip === undefined || port === undefined) return true;
    const group = ipGroup(ip);
    const running = this.#running.get(group) ?? new Set();
    if (running.size >= this.#max) return false;
    this.#running.set(group, running.add(port));
    socket.once("close", () => this.#forget(group, port));
    return true;
  }

  end(socket: net.Socket): void {
    this.#forget(ipGroup(socket.remoteAddress ?? ""), socket.remotePort ?? 0);
  }

  #forget(group: string, port: number): void {
    const running = this.#running.get(group);
    running?.delete(port);
    if (running?.size === 0) this.#running.delete(group);
  }
}

/** Options of `node:tls` for a certificate a name. */
function byName(secure: ServerTls): tls.TlsOptions {
  return {
    ...settings(secure.fallback),
    ALPNProtocols: [...secure.alpn],
    SNICallback: (serverName, done) => {
      let chosen: tls.SecureContext | undefined;
      try {
        const identity = secure.choose(serverName.toLowerCase());
        if (identity !== undefined) chosen = secureContextOf(identity);
      } catch (error) {
        done(error instanceof Error ? error : new Error(String(error)));
        return;
      }
      done(null, chosen);
    },
  };
}

function settings(identity: TlsIdentity | undefined): tls.SecureContextOptions {
  const own = identity === undefined ? {} : { cert: identity.cert, key: identity.key };
  return { ...own, minVersion: SERVER_MIN_VERSION, ciphers: SERVER_CIPHERS };
}

function adopt(socket: net.Socket, plain: net.Socket): Connection {
  return {
    channel: new NodeChannel(socket, plain),
    remoteIp: plain.remoteAddress ?? "",
    remotePort: plain.remotePort ?? 0,
    localIp: plain.localAddress,
  };
}
