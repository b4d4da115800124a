import { type Clock, systemClock } from "../core/clock.ts";
import { TunnelError } from "../core/errors.ts";
import { type ByteChannel, type ChannelEvents, NO_TRAILERS } from "../net/channel.ts";
import { createMemoryChannelPair } from "../net/memory-channel.ts";
import type { RawHeaders } from "../wire/headers.ts";
import type {
  CloseReason,
  ConfigurationAnswer,
  ConfigurationHandler,
  ConfigurationUpdate,
  ConnectorSession,
  EdgeSession,
  IncomingStream,
  RequestEvents,
  StreamRequest,
  StreamResponse,
} from "./port.ts";

/**
 * Both ends of a session in this process, without sockets or bytes on a wire: what story tests run on. Real behaviour
 * kept: asynchronous delivery in order, back-pressure, half-close, resets, drain, and loss of the whole session.
 */
export function createMemorySessionPair(clock: Clock = systemClock): {
  edge: EdgeSession;
  connector: ConnectorSession;
  /** Cuts the connection as a dead network would, seen by both ends. */
  cut: () => void;
} {
  const [edgeControl, connectorControl] = createMemoryChannelPair();
  const link = new MemoryLink(clock);
  const edge = new MemoryEdgeSession(link, edgeControl);
  const connector = new MemoryConnectorSession(link, connectorControl);
  link.offer = (stream) => connector.offer(stream);
  return {
    edge,
    connector,
    cut: () => link.finish({ kind: "lost", error: new TunnelError("session.lost", "Connection lost") }),
  };
}

class MemoryLink {
  readonly clock: Clock;
  readonly closed: Promise<CloseReason>;
  readonly streams = new Set<MemoryStream>();
  offer: (stream: IncomingStream) => void = () => {};
  configure: ConfigurationHandler | undefined;
  draining = false;
  over = false;
  readonly leaving = Promise.withResolvers<void>();
  readonly #resolve: (reason: CloseReason) => void;

  constructor(clock: Clock) {
    this.clock = clock;
    const closed = Promise.withResolvers<CloseReason>();
    this.closed = closed.promise;
    this.#resolve = closed.resolve;
  }

  drain(): void {
    this.draining = true;
    this.closeWhenIdle();
  }

  closeWhenIdle(): void {
    if (this.draining && this.streams.size === 0) this.finish({ kind: "drained" });
  }

  finish(reason: CloseReason): void {
    if (this.over) return;
    this.over = true;
    const error =
      reason.kind === "lost" ? reason.error : new TunnelError("session.closed", "The tunnel connection was closed");
    for (const stream of [...this.streams]) stream.cut(error);
    this.#resolve(reason);
  }
}

/** One request: a channel pair for the bodies and the heads beside it, delivered in order with them. */
class MemoryStream {
  readonly request: StreamRequest;
  readonly edgeEnd: ByteChannel;
  readonly connectorEnd: ByteChannel;
  readonly #link: MemoryLink;
  #open = 2;

  constructor(link: MemoryLink, request: StreamRequest) {
    this.#link = link;
    this.request = request;
    [this.edgeEnd, this.connectorEnd] = createMemoryChannelPair();
    link.streams.add(this);
  }

  endClosed(): void {
    this.#open -= 1;
    if (this.#open > 0) return;
    this.#link.streams.delete(this);
    this.#link.closeWhenIdle();
  }

  cut(error: TunnelError): void {
    this.edgeEnd.abort(error);
    this.connectorEnd.abort(error);
  }
}

abstract class MemorySession {
  readonly protocol = "memory";
  readonly remoteAddress = "127.0.0.1:7844";
  readonly localIp = "127.0.0.1";
  readonly control: Promise<ByteChannel>;
  protected readonly link: MemoryLink;

  constructor(link: MemoryLink, control: ByteChannel) {
    this.link = link;
    this.control = Promise.resolve(control);
    void link.closed.then(() => control.abort(new TunnelError("session.closed", "The tunnel connection was closed")));
  }

  get closed(): Promise<CloseReason> {
    return this.link.closed;
  }

  get streamCount(): number {
    return this.link.streams.size;
  }

  /** A link in memory is never silent. */
  get lastReceivedAtMs(): number {
    return this.link.clock.nowMs();
  }

  ping(): Promise<number> {
    if (this.link.over) return Promise.reject(new TunnelError("session.closed", "The tunnel connection was closed"));
    return Promise.resolve(0);
  }

  drain(): void {
    this.link.drain();
  }

  close(): void {
    this.link.finish({ kind: "closed", by: "us" });
  }
}

class MemoryEdgeSession extends MemorySession implements EdgeSession {
  /** Nothing is lost in memory that a feature would have to save. */
  usePeerFeatures(): void {}

  get takesStreams(): boolean {
    return !this.link.draining && !this.link.over;
  }

  announceLeaving(): void {
    this.link.leaving.resolve();
  }

  async pushConfiguration(update: ConfigurationUpdate): Promise<ConfigurationAnswer> {
    const { configure } = this.link;
    if (this.link.over) throw new TunnelError("session.lost", "The tunnel connection is over", { retry: "elsewhere" });
    if (configure === undefined) throw new TunnelError("stream.refused", "The connector takes no configuration");
    const lost = this.link.closed.then((): never => {
      throw new TunnelError("session.lost", "The tunnel connection ended");
    });
    return await Promise.race([configure(update), lost]);
  }

  open(request: StreamRequest, events: RequestEvents): ByteChannel {
    const stream = new MemoryStream(this.link, request);
    if (this.link.draining || this.link.over) {
      this.link.streams.delete(stream);
      const error = new TunnelError("stream.refused", "The connection takes no new stream", { retry: "elsewhere" });
      queueMicrotask(() => events.onClose(error));
      return stream.edgeEnd;
    }
    stream.edgeEnd.listen({
      onData: (chunk) => events.onData(chunk),
      onEnd: (trailers) => events.onEnd(trailers),
      onDrain: () => events.onDrain(),
      onClose: (error) => {
        stream.endClosed();
        events.onClose(error);
      },
    });
    if (request.bodyless) stream.edgeEnd.end(NO_TRAILERS);
    // No wire delivers during the call that sends.
    queueMicrotask(() => this.link.offer(new OfferedStream(stream, events)));
    return stream.edgeEnd;
  }
}

class MemoryConnectorSession extends MemorySession implements ConnectorSession {
  readonly leaving = this.link.leaving.promise;
  #handler: ((stream: IncomingStream) => void) | undefined;
  #early: IncomingStream[] = [];

  onConfiguration(handler: ConfigurationHandler): void {
    this.link.configure = handler;
  }

  offer(stream: IncomingStream): void {
    if (this.#handler === undefined) this.#early.push(stream);
    else this.#handler(stream);
  }

  serve(handler: (stream: IncomingStream) => void): void {
    this.#handler = handler;
    for (const stream of this.#early.splice(0)) handler(stream);
  }
}

class OfferedStream implements IncomingStream {
  readonly #stream: MemoryStream;
  readonly #events: RequestEvents;
  #responded = false;

  constructor(stream: MemoryStream, events: RequestEvents) {
    this.#stream = stream;
    this.#events = events;
  }

  get request(): StreamRequest {
    return this.#stream.request;
  }

  inform(status: number, headers: RawHeaders): void {
    if (!this.#responded) this.#events.onInformational(status, headers);
  }

  respond(response: StreamResponse, options?: { bodyless?: boolean }): void {
    if (this.#responded) return;
    this.#responded = true;
    this.#events.onResponse(response);
    if (options?.bodyless === true) this.end();
  }

  write(chunk: Uint8Array): boolean {
    return this.#stream.connectorEnd.write(chunk);
  }

  end(trailers?: RawHeaders): void {
    this.#stream.connectorEnd.end(trailers);
  }

  abort(error: TunnelError): void {
    this.#stream.connectorEnd.abort(error);
  }

  pause(): void {
    this.#stream.connectorEnd.pause();
  }

  resume(): void {
    this.#stream.connectorEnd.resume();
  }

  listen(events: ChannelEvents): void {
    this.#stream.connectorEnd.listen({
      onData: (chunk) => events.onData(chunk),
      onEnd: (trailers) => events.onEnd(trailers),
      onDrain: () => events.onDrain(),
      onClose: (error) => {
        this.#stream.endClosed();
        events.onClose(error);
      },
    });
  }
}
