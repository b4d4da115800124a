import { type Clock, systemClock } from "../../core/clock.ts";
import { TunnelError } from "../../core/errors.ts";
import type { ByteChannel, ChannelEvents } from "../../net/channel.ts";
import { decodeMessage } from "../../wire/capnp/struct-codec.ts";
import type { RawHeaders } from "../../wire/headers.ts";
import { DATA_PREAMBLE_BYTES, encodeDataHead } from "../../wire/quic/stream-head.ts";
import { type ConnectResponse, connectRequest, connectResponse } from "../../wire/schema/connect-request.ts";
import type {
  ConfigurationHandler,
  ConnectorSession,
  DialTarget,
  IncomingStream,
  StreamRequest,
  StreamResponse,
  Transport,
} from "../port.ts";
import { configurationMethod } from "./configuration.ts";
import type { QuicConnection, QuicEngine, QuicStream } from "./engine.ts";
import { chooseEngine } from "./engines/choose.ts";
import {
  connectResponseOf,
  interimResponseOf,
  type ParsedConnectRequest,
  parseConnectRequest,
  tcpResponseOf,
  UNREADABLE_REQUEST,
} from "./messages.ts";
import { ALPN, type DataHead, QuicSession, TLS_SERVER_NAME } from "./session.ts";
import { REFUSED_CODE, RESET_CODE, StreamChannel } from "./stream-channel.ts";

/** Both ends' idle timeout counts by the smaller one (protocol: section 4.1). */
const IDLE_TIMEOUT_MS = 5_000;
const KEEP_ALIVE_MS = 1_000;
/**
 * Streams an edge may have open at once. cloudflared says 2^60; this is more than one connection can serve and less
 * than what an edge on some QUIC stacks takes for zero (DECISIONS.md).
 */
export const MAX_EDGE_STREAMS = 10_000;
/** Visitors' streams that may wait for `serve`; a working connector has none. */
const MAX_EARLY_STREAMS = 64;

export interface QuicTransportOptions {
  /** @default the best engine of this machine */
  readonly engine?: QuicEngine;
  readonly clock?: Clock;
  /** @default 5_000 */
  readonly idleTimeoutMs?: number;
}

/**
 * The connector's QUIC transport (protocol: section 4). It comes back from the port a connection index had before, as
 * long as the index is given; edges and firewalls know the connection by it.
 */
export function createQuicTransport(options: QuicTransportOptions = {}): Transport {
  const portOf = new Map<number, number>();
  const clock = options.clock ?? systemClock;
  return {
    name: "quic",
    tlsServerName: TLS_SERVER_NAME,
    takesProxy: false,
    async dial(target: DialTarget, { signal }: { signal: AbortSignal }): Promise<ConnectorSession> {
      const engine = options.engine ?? (await chooseEngine());
      const { connIndex } = target;
      const connection = await engine.connect({
        host: target.host,
        port: target.port,
        localPort: connIndex === undefined ? undefined : portOf.get(connIndex),
        serverName: TLS_SERVER_NAME,
        ca: target.ca,
        alpn: ALPN,
        signal,
        ...(target.timeoutMs === undefined ? {} : { handshakeTimeoutMs: target.timeoutMs }),
        localAddress: target.localAddress,
        idleTimeoutMs: options.idleTimeoutMs ?? IDLE_TIMEOUT_MS,
        keepAliveMs: Math.min(KEEP_ALIVE_MS, (options.idleTimeoutMs ?? IDLE_TIMEOUT_MS) / 4),
        maxPeerStreams: MAX_EDGE_STREAMS,
      });
      if (connIndex !== undefined) portOf.set(connIndex, connection.localPort);
      return connectQuic(connection, clock);
    },
  };
}

/** The transport of this process. */
export const quic = createQuicTransport();

/** The connector's end on a connection that is already there. */
export function connectQuic(connection: QuicConnection, clock: Clock): QuicConnectorSession {
  const control = connection.openStream();
  if (control === undefined) {
    connection.close(RESET_CODE, "");
    throw new TunnelError("edge.dial", "The edge allows no control stream", { retry: "elsewhere" });
  }
  return new QuicConnectorSession(connection, control, clock);
}

export class QuicConnectorSession extends QuicSession implements ConnectorSession {
  #handler: ((stream: IncomingStream) => void) | undefined;
  #early: IncomingStream[] = [];
  readonly #leaving = Promise.withResolvers<void>();
  readonly leaving = this.#leaving.promise;

  serve(handler: (stream: IncomingStream) => void): void {
    this.#handler = handler;
    const early = this.#early;
    this.#early = [];
    for (const stream of early) handler(stream);
  }

  onConfiguration(handler: ConfigurationHandler): void {
    this.serveRpc([configurationMethod(handler)]);
  }

  protected override onStream(stream: QuicStream): void {
    this.streamOpened();
    new VisitorChannel(stream, {
      offer: (channel) => this.#offer(channel),
      acceptRpc: (channel) => this.acceptRpc(channel),
      onLeaving: () => this.#leaving.resolve(),
      onGone: () => this.streamGone(),
    });
  }

  /** False = not taken. Without GOAWAY a draining connector can refuse only where the edge understands it. */
  #offer(channel: VisitorChannel): boolean {
    if (this.draining && channel.refusable) return false;
    if (this.#handler !== undefined) this.#handler(channel);
    else if (this.#early.length < MAX_EARLY_STREAMS) this.#early.push(channel);
    else return false;
    return true;
  }
}

interface VisitorOwner {
  offer(channel: VisitorChannel): boolean;
  acceptRpc(channel: ByteChannel): boolean;
  onLeaving(): void;
  onGone(): void;
}

/** A visitor's request as the connector sees it; an RPC stream of the edge starts as one too. */
class VisitorChannel extends StreamChannel<ChannelEvents> implements IncomingStream {
  readonly #owner: VisitorOwner;
  #parsed: ParsedConnectRequest | undefined;
  #responded = false;
  #isRpc = false;
  /** Signature and version stand once, in front of the first message. */
  #preambleSent = false;

  constructor(stream: QuicStream, owner: VisitorOwner) {
    super(stream, "head", () => owner.onGone());
    this.#owner = owner;
    stream.listen(this);
  }

  get request(): StreamRequest {
    return (this.#parsed as ParsedConnectRequest).request;
  }

  /** The edge understands {@link REFUSED_CODE}. */
  get refusable(): boolean {
    return this.#parsed?.frames === true;
  }

  inform(status: number, headers: RawHeaders): void {
    if (!this.refusable || this.#responded) return;
    this.#sendResponse(interimResponseOf(status, headers), false);
  }

  respond(response: StreamResponse, options?: { bodyless?: boolean }): void {
    const parsed = this.#parsed;
    if (this.#responded || parsed === undefined) return;
    const message =
      parsed.request.kind === "tcp" ? tcpResponseOf(response) : connectResponseOf(response, parsed.frames);
    // An error carries no body: the edge makes its own page of it.
    const last = message.error !== "" || (options?.bodyless === true && !parsed.frames);
    this.#sendResponse(message, last);
    this.#responded = true;
    this.framesOut = parsed.frames;
    if (options?.bodyless === true) this.end();
  }

  override write(chunk: Uint8Array): boolean {
    return this.#responded || this.#isRpc ? super.write(chunk) : true;
  }

  protected onHead(head: DataHead): void {
    if (head.kind === "rpc") {
      this.#isRpc = true;
      this.startBody("raw");
      if (!this.#owner.acceptRpc(this)) this.#refuse(RESET_CODE);
      return;
    }
    if (head.kind === "leaving") {
      this.#owner.onLeaving();
      this.abortWith(new TunnelError("stream.refused", "This stream has nothing more to say"), RESET_CODE);
      return;
    }
    const decoded = decodeMessage(connectRequest, head.message);
    const parsed = decoded.kind === "value" ? parseConnectRequest(decoded.value) : undefined;
    this.startBody("raw");
    if (parsed === undefined) {
      this.listen(IGNORE);
      this.sendHead(encodeDataHead(connectResponse, UNREADABLE_REQUEST), true);
      return;
    }
    this.#parsed = parsed;
    if (parsed.frames && !parsed.request.bodyless) this.startBody("frames");
    if (!this.#owner.offer(this)) this.#refuse(this.refusable ? REFUSED_CODE : RESET_CODE);
  }

  /** The visitor left. */
  protected stopEndsStream(): boolean {
    return !this.#isRpc;
  }

  #sendResponse(message: ConnectResponse, last: boolean): void {
    this.sendHead(this.#responseBytes(message), last);
  }

  #responseBytes(message: ConnectResponse): Uint8Array {
    const bytes = encodeDataHead(connectResponse, message);
    const first = !this.#preambleSent;
    this.#preambleSent = true;
    return first ? bytes : bytes.subarray(DATA_PREAMBLE_BYTES);
  }

  #refuse(code: number): void {
    this.abortWith(new TunnelError("stream.refused", "The connector takes no new stream"), code);
  }
}

const IGNORE: ChannelEvents = { onData: () => {}, onEnd: () => {}, onDrain: () => {}, onClose: () => {} };
