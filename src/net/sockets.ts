import type { ByteChannel } from "./channel.ts";
import type { ProxySettings } from "./proxy-settings.ts";

/** A connected socket, and what the system says about its two ends. */
export interface Connection {
  readonly channel: ByteChannel;
  /** Peer address without brackets or port. */
  readonly remoteIp: string;
  readonly remotePort: number;
  /** Our address on this socket, or undefined when the system does not tell. */
  readonly localIp: string | undefined;
  /** Protocol that TLS settled on (ALPN), where some were offered and the peer chose one. */
  readonly alpn?: string | undefined;
}

/** TLS for a dialled connection. */
export interface DialTls {
  /** Name sent as SNI and checked against the certificate. */
  readonly serverName: string;
  /** PEM text of the authorities to trust, replacing the system's. */
  readonly ca?: string | undefined;
  /** False accepts any certificate. @default true */
  readonly verify?: boolean;
  /** Our own certificate chain and its key, PEM, for peers that ask who we are; both or neither. */
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
  /** Protocols to offer (ALPN), the dearest first; absent = none. */
  readonly alpn?: readonly string[] | undefined;
}

export interface DialOptions {
  readonly signal?: AbortSignal;
  /** Bound on TCP connect and TLS handshake together, in ms. @default 15_000 */
  readonly timeoutMs?: number;
  readonly tls?: DialTls;
  /** Goes through this proxy; it is told the host name, so that names resolve on its side. */
  readonly proxy?: ProxySettings | undefined;
  /** Our own address to dial from; undefined = the system chooses. */
  readonly localAddress?: string | undefined;
  /** Idle time before the system probes a silent peer, in ms; 0 = off. @default 30_000 */
  readonly keepAliveMs?: number;
  /**
   * Makes bytes to send first, in clear text even where TLS follows: a PROXY protocol header. It is told whom the
   * connection reached; `ip` is empty on a unix socket.
   */
  readonly prelude?: ((peer: { readonly ip: string; readonly port: number }) => Uint8Array) | undefined;
  /** The peer took the connection; TLS, where asked for, comes after this. */
  readonly onConnected?: (() => void) | undefined;
}

/** Where to dial: a host (name or literal address) and port, or a unix socket path. */
export type DialAddress = { readonly host: string; readonly port: number } | { readonly path: string };

export interface ListenOptions {
  readonly host: string;
  /** 0 = any free port. */
  readonly port: number;
  /** PEM certificate chain and key; absent = plain TCP. No ALPN is offered. */
  readonly tls?: { readonly cert: string; readonly key: string };
  /** Bound on the TLS handshake, in ms. @default 15_000 */
  readonly handshakeTimeoutMs?: number;
  /** Connections open at once, counting those still shaking hands; further ones are closed at once. */
  readonly maxConnections: number;
  /** Called once a connection is usable (after TLS). Must not throw. */
  readonly onConnection: (connection: Connection) => void;
  /** A connection that ended before it was usable: failed or slow handshake, or over the limit. */
  readonly onRefused?: (remoteIp: string, reason: "handshake" | "limit") => void;
}

export interface Listener {
  readonly host: string;
  readonly port: number;
  /** Stops accepting; open connections go on. Resolves when the port is free. */
  close(): Promise<void>;
}
