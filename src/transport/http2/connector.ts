import { type Clock, systemClock } from "../../core/clock.ts";
import { TunnelError } from "../../core/errors.ts";
import type { ByteChannel, ChannelEvents } from "../../net/channel.ts";
import { dial } from "../../net/dial.ts";
import type { Connection } from "../../net/sockets.ts";
import { H2_ERROR } from "../../wire/h2/constants.ts";
import type { H2Stream } from "../../wire/h2/stream.ts";
import type { RawHeaders } from "../../wire/headers.ts";
import type {
  ConfigurationHandler,
  ConnectorSession,
  DialTarget,
  IncomingStream,
  StreamRequest,
  StreamResponse,
  Transport,
} from "../port.ts";
import { ConfigurationReceiver } from "./configuration.ts";
import { informationalFields, parseRequest, responseFields } from "./messages.ts";
import { Http2Session } from "./session.ts";
import { StreamChannel } from "./stream-channel.ts";

/** Visitors' streams that may wait for `serve`; a working connector has none. */
const MAX_EARLY_STREAMS = 64;

/** The connector's HTTP/2 transport (protocol: section 2): dials TLS without ALPN, then is the HTTP/2 server. */
export const http2 = {
  name: "http2",
  tlsServerName: "h2.cftunnel.com",
  takesProxy: true,
  async dial(target: DialTarget, options: { signal: AbortSignal }): Promise<ConnectorSession> {
    const connection = await dialEdge(target, options.signal);
    return connectHttp2(connection);
  },
} satisfies Transport;

/** The connector's end on a connection that is already there; tests use it over channels in memory. */
export function connectHttp2(
  connection: Connection,
  deps: { clock: Clock } = { clock: systemClock },
): ConnectorSession {
  return new Http2ConnectorSession(connection, deps.clock);
}

async function dialEdge(target: DialTarget, signal: AbortSignal): Promise<Connection> {
  try {
    const tls = { serverName: http2.tlsServerName, ca: target.ca };
    const { host, port, proxy, localAddress, timeoutMs } = target;
    const bound = timeoutMs === undefined ? {} : { timeoutMs };
    return await dial({ host, port }, { signal, tls, proxy, localAddress, ...bound });
  } catch (error) {
    if (!(error instanceof TunnelError) || error.code === "aborted") throw error;
    const code = error.code === "dial.tls" ? "edge.tls" : "edge.dial";
    throw new TunnelError(code, error.message, { retry: "elsewhere", cause: error });
  }
}

class Http2ConnectorSession extends Http2Session implements ConnectorSession {
  readonly control: Promise<ByteChannel>;
  readonly #offerControl: (channel: ByteChannel) => void;
  #controlTaken = false;
  #handler: ((stream: IncomingStream) => void) | undefined;
  #early: IncomingStream[] = [];
  #informational = false;
  readonly #configurations: ConfigurationReceiver;
  readonly #leaving = Promise.withResolvers<void>();
  readonly leaving = this.#leaving.promise;

  constructor(connection: Connection, clock: Clock) {
    super("server", connection, clock);
    this.#configurations = new ConfigurationReceiver(clock);
    const control = Promise.withResolvers<ByteChannel>();
    this.control = control.promise;
    this.control.catch(() => {});
    this.#offerControl = control.resolve;
    void this.closed.then(() =>
      control.reject(new TunnelError("session.lost", "The connection ended before registration")),
    );
  }

  serve(handler: (stream: IncomingStream) => void): void {
    this.#handler = handler;
    const early = this.#early;
    this.#early = [];
    for (const stream of early) handler(stream);
  }

  onConfiguration(handler: ConfigurationHandler): void {
    this.#configurations.handler = handler;
  }

  override drain(): void {
    this.link.h2.goaway();
    super.drain();
  }

  /** An edge that will go still sends requests: only it decides when it is done. */
  protected override onGoaway(): void {
    this.#leaving.resolve();
  }

  protected override onRequest(stream: H2Stream, fields: string[], endStream: boolean): void {
    const parsed = parseRequest(fields, endStream);
    if (parsed.kind === "control") {
      if (this.#controlTaken) {
        stream.reset(H2_ERROR.refusedStream);
        return;
      }
      this.#controlTaken = true;
      this.#informational = parsed.informational;
      this.#offerControl(new ControlChannel(stream));
      return;
    }
    if (parsed.kind === "configuration") {
      this.#configurations.receive(stream);
      return;
    }
    if (this.#handler === undefined && this.#early.length >= MAX_EARLY_STREAMS) {
      stream.reset(H2_ERROR.refusedStream);
      return;
    }
    this.streamOpened();
    const incoming = new VisitorChannel(stream, parsed.request, this.#informational, () => this.streamGone());
    if (this.#handler === undefined) this.#early.push(incoming);
    else this.#handler(incoming);
  }
}

/** A visitor's request as the connector sees it. */
class VisitorChannel extends StreamChannel<ChannelEvents> implements IncomingStream {
  readonly request: StreamRequest;
  readonly #informational: boolean;
  #responded = false;

  constructor(stream: H2Stream, request: StreamRequest, informational: boolean, onGone: () => void) {
    super(stream, H2_ERROR.internalError, onGone);
    this.request = request;
    this.#informational = informational;
    stream.pause();
    stream.listen(this);
  }

  inform(status: number, headers: RawHeaders): void {
    if (this.#informational && !this.#responded) this.stream.sendHeaders(informationalFields(status, headers), false);
  }

  respond(response: StreamResponse, options?: { bodyless?: boolean }): void {
    if (this.#responded) return;
    this.#responded = true;
    this.stream.sendHeaders(responseFields(response), options?.bodyless === true);
  }

  onInformational(): void {}

  onHead(): void {}
}

/** The control stream at the connector: the head of the answer goes out at once, then raw bytes both ways. */
class ControlChannel extends StreamChannel<ChannelEvents> {
  constructor(stream: H2Stream) {
    super(stream, H2_ERROR.internalError, () => {});
    stream.pause();
    stream.listen(this);
    stream.sendHeaders([":status", "200"], false);
  }

  onInformational(): void {}

  onHead(): void {}
}
