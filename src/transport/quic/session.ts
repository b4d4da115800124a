import type { CancelTimer, Clock } from "../../core/clock.ts";
import { TunnelError } from "../../core/errors.ts";
import type { ByteChannel, ChannelEvents } from "../../net/channel.ts";
import { formatAddress } from "../../net/socket-errors.ts";
import { RPC_PREAMBLE, type StreamHead } from "../../wire/quic/stream-head.ts";
import type { RpcConnection } from "../../wire/rpc/connection.ts";
import type { MethodHandler } from "../../wire/rpc/method-handler.ts";
import type { CloseReason, QuicStats, Session } from "../port.ts";
import { openRpc } from "../rpc-channel.ts";
import type { QuicClose, QuicConnection, QuicStream } from "./engine.ts";
import { lossOf } from "./loss.ts";
import { RESET_CODE, StreamChannel } from "./stream-channel.ts";

/** ALPN of tunnel connections (protocol: section 1.5). */
export const ALPN = "argotunnel";
/** The name an edge's certificate must carry for QUIC. */
export const TLS_SERVER_NAME = "quic.cftunnel.com";
/** The connector's first stream. */
export const CONTROL_STREAM_ID = 0;
/** An RPC stream ends this long after it began (protocol: section 4.4), in ms. */
export const RPC_STREAM_LIFE_MS = 5_000;
/** RPC streams the peer may have open at once. */
const MAX_RPC_STREAMS = 16;

/** Datagrams of a session, for UDP and ICMP of private networks (protocol: sections 4.5 and 4.6). */
export interface Datagrams {
  /** Largest one that can be sent now, in bytes; 0 = the peer takes none. */
  readonly maxBytes: number;
  /** False = dropped. */
  send(bytes: Uint8Array): boolean;
  /** Sets who receives; before that they are dropped. */
  listen(receive: (bytes: Uint8Array) => void): void;
}

/** What both ends of a QUIC session share: control, RPC streams, datagrams, the count of visitors' streams, drain. */
export abstract class QuicSession implements Session {
  readonly protocol = "quic";
  readonly control: Promise<ByteChannel>;
  readonly closed: Promise<CloseReason>;
  readonly datagrams: Datagrams;
  protected readonly connection: QuicConnection;
  readonly #clock: Clock;
  readonly #resolveClosed: (reason: CloseReason) => void;
  #receiveDatagram: (bytes: Uint8Array) => void = () => {};
  #methods: readonly MethodHandler[] = [];
  #rpcStreams = 0;
  #streams = 0;
  #draining = false;
  #over = false;
  #asked: CloseReason | undefined;

  constructor(connection: QuicConnection, control: QuicStream, clock: Clock) {
    const closed = Promise.withResolvers<CloseReason>();
    this.closed = closed.promise;
    this.#resolveClosed = closed.resolve;
    this.connection = connection;
    this.#clock = clock;
    this.control = Promise.resolve(new RawChannel(control));
    this.datagrams = {
      get maxBytes(): number {
        return connection.maxDatagramBytes;
      },
      send: (bytes) => connection.sendDatagram(bytes),
      listen: (receive) => {
        this.#receiveDatagram = receive;
      },
    };
    connection.listen({
      onStream: (stream) => this.onStream(stream),
      onDatagram: (bytes) => this.#receiveDatagram(bytes),
      onClosed: (close) => this.#down(close),
    });
  }

  get remoteAddress(): string {
    return formatAddress({ host: this.remoteIp, port: this.connection.remotePort });
  }

  /** Without brackets or port. */
  get remoteIp(): string {
    return plainIp(this.connection.remoteIp);
  }

  /** A UDP socket does not know which of the machine's addresses its packets leave from. */
  get localIp(): string | undefined {
    return undefined;
  }

  get streamCount(): number {
    return this.#streams;
  }

  get lastReceivedAtMs(): number {
    return this.connection.lastReceivedAtMs;
  }

  ping(): Promise<number> {
    return this.connection.ping();
  }

  quicStats(): QuicStats | undefined {
    return this.connection.stats?.();
  }

  drain(): void {
    if (this.#draining) return;
    this.#draining = true;
    this.#closeWhenIdle();
  }

  close(): void {
    if (this.#over || this.#asked?.kind === "closed") return;
    this.#asked = { kind: "closed", by: "us" };
    this.connection.close(RESET_CODE, "");
  }

  /** Opens an RPC stream; undefined when the peer allows no stream now. It is cut {@link RPC_STREAM_LIFE_MS} later. */
  openRpc(): RpcConnection | undefined {
    const stream = this.#over ? undefined : this.connection.openStream();
    if (stream === undefined) return undefined;
    stream.write(RPC_PREAMBLE);
    return this.#startRpc(new RawChannel(stream), [], () => {});
  }

  /** Adds methods that the peer may call on RPC streams; without any these are reset. */
  serveRpc(methods: readonly MethodHandler[]): void {
    this.#methods = [...this.#methods, ...methods];
  }

  /** The peer opened a stream other than the control stream. */
  protected abstract onStream(stream: QuicStream): void;

  /** An RPC stream of the peer, its signature read. False = not served. */
  protected acceptRpc(channel: ByteChannel): boolean {
    if (this.#methods.length === 0 || this.#rpcStreams >= MAX_RPC_STREAMS) return false;
    this.#rpcStreams += 1;
    this.#startRpc(channel, this.#methods, () => {
      this.#rpcStreams -= 1;
    });
    return true;
  }

  protected get draining(): boolean {
    return this.#draining || this.#over;
  }

  protected streamOpened(): void {
    this.#streams += 1;
  }

  protected streamGone(): void {
    this.#streams -= 1;
    this.#closeWhenIdle();
  }

  #startRpc(channel: ByteChannel, methods: readonly MethodHandler[], onGone: () => void): RpcConnection {
    const cancel: CancelTimer = this.#clock.after(
      RPC_STREAM_LIFE_MS,
      () => channel.abort(new TunnelError("timeout", "The RPC stream lived too long")),
      { background: true },
    );
    return openRpc(channel, {
      methods,
      onClosed: () => {},
      onGone: () => {
        cancel();
        onGone();
      },
    });
  }

  #closeWhenIdle(): void {
    if (!this.#draining || this.#streams > 0 || this.#over || this.#asked !== undefined) return;
    this.#asked = { kind: "drained" };
    this.connection.closeGently();
  }

  #down(close: QuicClose): void {
    this.#over = true;
    this.#resolveClosed(this.#asked ?? reasonOf(close));
  }
}

/** A stream without anything in front of its bytes: control, and RPC behind its signature. */
export class RawChannel extends StreamChannel<ChannelEvents> {
  constructor(stream: QuicStream) {
    super(stream, "raw", () => {});
    stream.listen(this);
    stream.pause();
  }

  protected onHead(): void {}

  protected stopEndsStream(): boolean {
    return false;
  }
}

export type DataHead = Extract<StreamHead, { kind: "data" | "rpc" | "leaving" }>;

/** Connectors, and edges that ask a connector to leave, close with an application code (protocol: section 4.7). */
function reasonOf(close: QuicClose): CloseReason {
  if (close.kind === "peer" && close.application) return { kind: "closed", by: "peer" };
  const { code, message } = lossOf(close);
  // A silent network is told from a broken connection: the supervisor draws other conclusions from it.
  return {
    kind: "lost",
    error: new TunnelError(close.kind === "idle" ? "edge.silent" : code, message, { retry: "elsewhere" }),
  };
}

/** IPv4 inside IPv6 as what it is. */
function plainIp(ip: string): string {
  return ip.startsWith("::ffff:") && ip.includes(".") ? ip.slice(7) : ip;
}
