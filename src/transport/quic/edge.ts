import { type Clock, systemClock } from "../../core/clock.ts";
import { TunnelError } from "../../core/errors.ts";
import type { ByteChannel, ChannelEvents } from "../../net/channel.ts";
import { decodeMessage } from "../../wire/capnp/struct-codec.ts";
import { headerValue, type RawHeaders } from "../../wire/headers.ts";
import { encodeDataHead, LEAVING_STREAM } from "../../wire/quic/stream-head.ts";
import { connectRequest, connectResponse } from "../../wire/schema/connect-request.ts";
import {
  type ConfigurationAnswer,
  type ConfigurationUpdate,
  type EdgeSession,
  FEATURE_EDGE_LEAVING,
  FEATURE_QUIC_FRAMES,
  type RequestEvents,
  type StreamRequest,
} from "../port.ts";
import { pushConfiguration } from "./configuration.ts";
import type { QuicConnection, QuicEngine, QuicListener, QuicStream, QuicStreamEvents } from "./engine.ts";
import { connectRequestOf, parseConnectResponse, sendsBody } from "./messages.ts";
import { ALPN, CONTROL_STREAM_ID, type DataHead, QuicSession } from "./session.ts";
import { RESET_CODE, StreamChannel } from "./stream-channel.ts";

/** A connector is silent for at most this long, in ms; the shorter of both ends' times counts, which is its 5 s. */
const IDLE_TIMEOUT_MS = 30_000;
/** Control stream and RPC streams of one connector at once. */
const MAX_CONNECTOR_STREAMS = 100;
/** Visitors' streams on one connection at once; more go to another connection. */
export const MAX_VISITOR_STREAMS = 8_192;

export interface EdgeListenOptions {
  readonly host: string;
  /** 0 = any free port. */
  readonly port: number;
  readonly tls: { readonly cert: string; readonly key: string };
  readonly maxConnections: number;
  /** Called for each connection after its handshake. Must not throw. */
  readonly onSession: (session: QuicEdgeSession) => void;
  /** @default 30_000 */
  readonly idleTimeoutMs?: number;
  /** Secret that survives a restart, so that connectors of the time before learn of it at once. */
  readonly resetKey?: Uint8Array | undefined;
}

/** Opens the edge's UDP socket. Rejects with a TunnelError (`listen.failed`). */
export function listenQuicEdge(
  engine: QuicEngine,
  options: EdgeListenOptions,
  deps: { clock: Clock } = { clock: systemClock },
): Promise<QuicListener> {
  if (engine.listen === undefined) {
    const message = `Cannot listen for QUIC: the engine "${engine.name}" cannot serve every connector`;
    return Promise.reject(new TunnelError("listen.failed", message));
  }
  return engine.listen({
    ...options,
    alpn: ALPN,
    idleTimeoutMs: options.idleTimeoutMs ?? IDLE_TIMEOUT_MS,
    keepAliveMs: undefined,
    maxPeerStreams: MAX_CONNECTOR_STREAMS,
    onConnection: (connection) => options.onSession(acceptQuic(connection, engine.provesEnd, deps.clock)),
  });
}

/** The edge's end of a tunnel connection (protocol: section 4). `provesEnd`: as the engine says. */
export function acceptQuic(connection: QuicConnection, provesEnd: boolean, clock: Clock): QuicEdgeSession {
  return new QuicEdgeSession(connection, provesEnd, clock);
}

export class QuicEdgeSession extends QuicSession implements EdgeSession {
  readonly #provesEnd: boolean;
  #frames = false;
  #toldOfLeaving = false;
  #understandsLeaving = false;

  constructor(connection: QuicConnection, provesEnd: boolean, clock: Clock) {
    super(connection, connection.expectStream(CONTROL_STREAM_ID), clock);
    this.#provesEnd = provesEnd;
  }

  usePeerFeatures(features: readonly string[]): void {
    this.#frames = features.includes(FEATURE_QUIC_FRAMES);
    this.#understandsLeaving = features.includes(FEATURE_EDGE_LEAVING);
  }

  announceLeaving(): void {
    if (this.#toldOfLeaving || !this.#understandsLeaving) return;
    this.#toldOfLeaving = true;
    const stream = this.connection.openStream();
    stream?.listen(IGNORED_STREAM);
    stream?.end(LEAVING_STREAM);
  }

  get takesStreams(): boolean {
    return !this.draining && this.streamCount < MAX_VISITOR_STREAMS && this.connection.takesStreams;
  }

  open(request: StreamRequest, events: RequestEvents): ByteChannel {
    const stream = this.takesStreams ? this.connection.openStream() : undefined;
    if (stream === undefined) {
      const error = new TunnelError("stream.limit", "The connection takes no new stream now", { retry: "elsewhere" });
      queueMicrotask(() => events.onClose(error));
      return refusedChannel;
    }
    this.streamOpened();
    const frames = this.#frames && request.kind === "http";
    return new RequestChannel(stream, events, request, {
      frames,
      provesEnd: this.#provesEnd,
      onGone: () => this.streamGone(),
    });
  }

  pushConfiguration(update: ConfigurationUpdate): Promise<ConfigurationAnswer> {
    return pushConfiguration(() => this.openRpc(), update);
  }

  protected override onStream(stream: QuicStream): void {
    new PeerStreamChannel(stream, (channel) => this.acceptRpc(channel));
  }
}

/** A visitor's request. */
class RequestChannel extends StreamChannel<RequestEvents> {
  readonly #request: StreamRequest;
  readonly #frames: boolean;

  constructor(
    stream: QuicStream,
    events: RequestEvents,
    request: StreamRequest,
    options: { readonly frames: boolean; readonly provesEnd: boolean; readonly onGone: () => void },
  ) {
    const wholeEvents = options.provesEnd ? events : new LengthCheck(events, request, (error) => this.abort(error));
    super(stream, "head", options.onGone);
    this.#request = request;
    this.#frames = options.frames;
    this.events = wholeEvents;
    stream.listen(this);
    const { bodyless } = request;
    // A framed stream without a body ends without frames: its request says that there is none.
    this.sendHead(encodeDataHead(connectRequest, connectRequestOf(request, options.frames)), bodyless);
    this.framesOut = options.frames && sendsBody(request);
  }

  protected onHead(head: DataHead): void {
    const decoded = head.kind === "data" ? decodeMessage(connectResponse, head.message) : undefined;
    const parsed =
      decoded?.kind === "value"
        ? parseConnectResponse(decoded.value, this.#request.kind)
        : ({ kind: "malformed" } as const);
    switch (parsed.kind) {
      case "malformed":
        this.abort(new TunnelError("stream.protocol", "The connector's answer cannot be read"));
        return;
      case "interim":
        this.events?.onInformational(parsed.status, parsed.headers);
        return;
      case "response":
        this.startBody(this.#frames && parsed.frames ? "frames" : "raw");
        this.events?.onResponse(parsed.response);
        return;
    }
  }

  /** An answer may come before the whole request was sent; its end is the stream's. */
  protected stopEndsStream(): boolean {
    return false;
  }
}

/** Counts an answer's body where the end of a stream may be a lost connection: a short one must not pass as whole. */
class LengthCheck implements RequestEvents {
  readonly #events: RequestEvents;
  readonly #isHead: boolean;
  readonly #fail: (error: TunnelError) => void;
  #left: number | undefined;

  constructor(events: RequestEvents, request: StreamRequest, fail: (error: TunnelError) => void) {
    this.#events = events;
    this.#isHead = request.method === "HEAD";
    this.#fail = fail;
  }

  onInformational(status: number, headers: RawHeaders): void {
    this.#events.onInformational(status, headers);
  }

  onResponse(response: Parameters<RequestEvents["onResponse"]>[0]): void {
    const length = headerValue(response.headers, "content-length");
    const hasBody = !this.#isHead && response.status !== 304 && response.status !== 204;
    if (length !== undefined && hasBody && /^[0-9]{1,15}$/.test(length)) this.#left = Number(length);
    this.#events.onResponse(response);
  }

  onData(chunk: Uint8Array): void {
    if (this.#left !== undefined) this.#left -= chunk.length;
    this.#events.onData(chunk);
  }

  onEnd(trailers: RawHeaders): void {
    if (this.#left === undefined || this.#left === 0) this.#events.onEnd(trailers);
    else this.#fail(new TunnelError("session.lost", "The answer ended before its length was reached"));
  }

  onDrain(): void {
    this.#events.onDrain();
  }

  onClose(error: TunnelError | undefined): void {
    this.#events.onClose(error);
  }
}

/** A stream the connector opened: RPC, or nothing we know. */
class PeerStreamChannel extends StreamChannel<ChannelEvents> {
  readonly #accept: (channel: ByteChannel) => boolean;

  constructor(stream: QuicStream, accept: (channel: ByteChannel) => boolean) {
    super(stream, "head", () => {});
    this.#accept = accept;
    stream.listen(this);
  }

  protected onHead(head: DataHead): void {
    this.startBody("raw");
    if (head.kind === "rpc" && this.#accept(this)) return;
    this.abortWith(new TunnelError("stream.protocol", "The connector opened a stream of an unknown kind"), RESET_CODE);
  }

  protected stopEndsStream(): boolean {
    return false;
  }
}

/** Of a stream that is only sent on. */
const IGNORED_STREAM: QuicStreamEvents = {
  onData: () => {},
  onEnd: () => {},
  onDrain: () => {},
  onReset: () => {},
  onStopped: () => {},
  onLost: () => {},
};

/** Stands in for a stream that was never opened. */
const refusedChannel: ByteChannel = {
  write: () => true,
  end: () => {},
  abort: () => {},
  pause: () => {},
  resume: () => {},
  listen: () => {},
};
