import type { ByteChannel } from "./channel.ts";
import type { ProxySettings } from "./proxy-settings.ts";
import type { TlsIdentity } from "./tls-identity.ts";

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
  /** Name that the peer asked for in its TLS handshake (SNI), lower case; on sockets of a {@link ServerTls} only. */
  readonly serverName?: string | undefined;
}

/** TLS of a listener that shows each peer the certificate of the name it asks for: TLS 1.2 and newer. */
export interface ServerTls {
  /** Protocols to settle on (ALPN), the dearest first. A peer that offers none gets none. */
  readonly alpn: readonly string[];
  /** What to show for this name (lower case); undefined = the fallback. Must answer at once, and may throw. */
  readonly choose: (serverName: string) => TlsIdentity | undefined;
  /** For peers that ask for no name, and names that `choose` does not know; undefined = their handshakes fail. */
  readonly fallback: TlsIdentity | undefined;
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
  /** Tells what the peer showed, once the handshake is done; with `verify: false` also where nobody would trust it. */
  readonly onCertificate?: ((seen: SeenCertificate) => void) | undefined;
}

/** A certificate that a peer showed. */
export interface SeenCertificate {
  /** Common names, or the organisation where there is none; empty = neither. */
  readonly subject: string;
  readonly issuer: string;
  /** DNS names and IP addresses it is for. */
  readonly names: readonly string[];
  /** Validity, in ms since the epoch; NaN when it cannot be read. */
  readonly fromMs: number;
  readonly toMs: number;
  /** Why it is not trusted; undefined = it is. */
  readonly distrust: Distrust | undefined;
}

/** `issuer`: nobody we trust made it. `name`: it is for others. */
export type Distrust = "issuer" | "self-signed" | "name" | "expired" | "not-yet-valid" | "other";

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
  /** One identity for everybody, without ALPN, or one for each name; absent = plain TCP. */
  readonly tls?: TlsIdentity | ServerTls;
  /** Bound on the TLS handshake, in ms. @default 15_000 */
  readonly handshakeTimeoutMs?: number;
  /** Connections open at once, counting those still shaking hands; further ones are closed at once. */
  readonly maxConnections: number;
  /** Connections of one address that shake hands at once, on sockets of a {@link ServerTls}; more are closed. */
  readonly maxHandshakesPerIp?: number;
  /** Called once a connection is usable (after TLS). Must not throw. */
  readonly onConnection: (connection: Connection) => void;
  /** A connection that ended before it was usable: failed or slow handshake, or over one of the limits. */
  readonly onRefused?: (remoteIp: string, reason: "handshake" | "limit" | "handshakes-per-ip") => void;
}

export interface Listener {
  readonly host: string;
  readonly port: number;
  /** Stops accepting; open connections go on. Resolves when the port is free. */
  close(): Promise<void>;
  /** Replaces the fallback of a {@link ServerTls}; open connections keep what they have. Absent on other listeners. */
  readonly setFallback?: (identity: TlsIdentity) => void;
}
