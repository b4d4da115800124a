import type { TunnelError } from "../../core/errors.ts";
import type { QuicStats } from "../port.ts";

/**
 * The driver port: one QUIC connection with its streams, whatever library runs it. Handlers are never called during
 * the call that causes them, and must not throw. All ids and codes are numbers below 2^53.
 */

/** A bidirectional stream. */
export interface QuicStream {
  readonly id: number;
  /**
   * Sends bytes; they are always taken and may be referenced until sent. False = hold back until `onDrain`. Dropped
   * after `end`, after the peer's STOP_SENDING, and when the connection is over.
   */
  write(chunk: Uint8Array): boolean;
  /** FIN behind everything written; `last` goes out together with it. */
  end(last?: Uint8Array): void;
  /** Gives the stream up: RESET_STREAM unless our direction is over, STOP_SENDING unless the peer's is. */
  abandon(code: number): void;
  /** Holds the peer back by flow control, or by a budget where the engine has none. */
  pause(): void;
  resume(): void;
  /** Sets the owner; reading starts with it. A later call hands the stream over. */
  listen(events: QuicStreamEvents): void;
}

export interface QuicStreamEvents {
  /** Bytes in order; the chunk belongs to the receiver. */
  onData(chunk: Uint8Array): void;
  /** The peer's FIN: everything it wrote was read. */
  onEnd(): void;
  onDrain(): void;
  /** RESET_STREAM: the peer gave up its direction. */
  onReset(code: number): void;
  /** STOP_SENDING: the peer does not read on. Nothing more is sent. */
  onStopped(code: number): void;
  /** The connection is over, or the engine failed this stream alone. Nothing follows. */
  onLost(error: TunnelError): void;
}

/** Why a connection is over. */
export type QuicClose =
  | { readonly kind: "local" }
  /** CONNECTION_CLOSE; `application` tells QUIC's own codes from the protocol's. */
  | { readonly kind: "peer"; readonly application: boolean; readonly code: number; readonly reason: string }
  /** Nothing came for the idle timeout. */
  | { readonly kind: "idle" }
  /** Handshake, certificate or protocol failure on our side, or a peer that forgot us; `detail` is for people. */
  | { readonly kind: "failed"; readonly tls: boolean; readonly detail: string };

export interface QuicConnectionEvents {
  /** The peer opened a stream. */
  onStream(stream: QuicStream): void;
  onDatagram(bytes: Uint8Array): void;
  /** Last event, exactly once; every stream has been told. */
  onClosed(close: QuicClose): void;
}

/** A connection whose handshake is done. */
export interface QuicConnection {
  readonly remoteIp: string;
  readonly remotePort: number;
  /** Our own port, to come back from the same one. */
  readonly localPort: number;
  /** Monotonic time of the last packet received, in ms of the engine's clock. */
  readonly lastReceivedAtMs: number;
  /** Largest datagram that can be sent now; 0 = the peer takes none. */
  readonly maxDatagramBytes: number;
  listen(events: QuicConnectionEvents): void;
  /** False = the peer allows no more streams now. */
  readonly takesStreams: boolean;
  /** Opens a stream; undefined when the peer allows no more now. */
  openStream(): QuicStream | undefined;
  /** The peer's stream of this id, before anything of it came. Call once per id, before it comes. */
  expectStream(id: number): QuicStream;
  /** False = dropped: queue full or too long. */
  sendDatagram(bytes: Uint8Array): boolean;
  /** Resolves to the time until the peer's next sign of life after a PING, in ms; rejects when the connection ends. */
  ping(): Promise<number>;
  /** Absent where the engine does not tell; also right once `onClosed` came. */
  stats?(): QuicStats | undefined;
  /** Waits until everything written was acknowledged, within a bound, then closes with application code 0. */
  closeGently(): void;
  /** CONNECTION_CLOSE with this application code now. */
  close(code: number, reason: string): void;
}

export interface QuicLimits {
  /** A connection without any packet for this long is over, in ms; the smaller value of both ends counts. */
  readonly idleTimeoutMs: number;
  /** Sends a PING when nothing was received for this long, in ms; undefined = never. */
  readonly keepAliveMs: number | undefined;
  /** Streams the peer may have open at once. */
  readonly maxPeerStreams: number;
}

export interface QuicConnectOptions extends QuicLimits {
  readonly host: string;
  readonly port: number;
  /** Port to send from; undefined or taken = any. */
  readonly localPort: number | undefined;
  /** Address to send from; undefined = any. */
  readonly localAddress?: string | undefined;
  readonly serverName: string;
  /** PEM text of the authorities to trust; undefined = the system's. */
  readonly ca: string | undefined;
  readonly alpn: string;
  readonly signal: AbortSignal;
  /** @default 5_000 */
  readonly handshakeTimeoutMs?: number;
}

export interface QuicListenOptions extends QuicLimits {
  readonly host: string;
  /** 0 = any free port. */
  readonly port: number;
  /** PEM certificate chain and key. */
  readonly tls: { readonly cert: string; readonly key: string };
  readonly alpn: string;
  /** Connections at once, those that still shake hands included. */
  readonly maxConnections: number;
  /** Secret that survives a restart, for telling peers of connections that are forgotten; undefined = another each time. */
  readonly resetKey?: Uint8Array | undefined;
  /** Called once the handshake is done. Call `listen` on the connection before returning. */
  readonly onConnection: (connection: QuicConnection) => void;
}

export interface QuicListener {
  readonly host: string;
  readonly port: number;
  /** Certificate and key of connections to come. */
  setTls(tls: { cert: string; key: string }): void;
  /** Takes no new connection; closes the socket once the open ones are over. */
  close(): Promise<void>;
  /** Closes the socket without a word to anybody, as a killed process does. */
  destroy(): void;
}

/** A QUIC library behind this port. */
export interface QuicEngine {
  readonly name: string;
  /** False = a clean end may also be a lost peer: whoever reads must have another proof that a body is whole. */
  readonly provesEnd: boolean;
  /** Rejects with a TunnelError (`edge.dial`, `edge.tls`, `aborted`). */
  connect(options: QuicConnectOptions): Promise<QuicConnection>;
  /** Undefined where an edge cannot run on this engine. Rejects with a TunnelError (`listen.failed`). */
  readonly listen: ((options: QuicListenOptions) => Promise<QuicListener>) | undefined;
}
