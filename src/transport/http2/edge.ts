import { type Clock, systemClock } from "../../core/clock.ts";
import { TunnelError } from "../../core/errors.ts";
import type { ByteChannel, ChannelEvents } from "../../net/channel.ts";
import type { Connection } from "../../net/sockets.ts";
import { H2_ERROR } from "../../wire/h2/constants.ts";
import type { H2Stream } from "../../wire/h2/stream.ts";
import type { RawHeaders } from "../../wire/headers.ts";
import {
  type ConfigurationAnswer,
  type ConfigurationUpdate,
  type EdgeSession,
  FEATURE_EDGE_LEAVING,
  FEATURE_HEADER_CASE,
  type RequestEvents,
  type StreamRequest,
} from "../port.ts";
import { pushConfiguration } from "./configuration.ts";
import {
  configurationRequestFields,
  controlRequestFields,
  parseInformational,
  parseResponse,
  requestFields,
} from "./messages.ts";
import { Http2Session } from "./session.ts";
import { StreamChannel } from "./stream-channel.ts";

/**
 * The edge's end of an HTTP/2 tunnel connection: TLS server, but HTTP/2 client (protocol: section 2.1). Opens the
 * control stream at once; the connector does nothing before that.
 */
export function acceptHttp2(connection: Connection, deps: { clock: Clock } = { clock: systemClock }): EdgeSession {
  return new Http2EdgeSession(connection, deps.clock);
}

class Http2EdgeSession extends Http2Session implements EdgeSession {
  readonly control: Promise<ByteChannel>;
  readonly #clock: Clock;
  #keepCase = false;
  #understandsLeaving = false;

  constructor(connection: Connection, clock: Clock) {
    super("client", connection, clock);
    this.#clock = clock;
    this.control = this.link.ready.then(() => this.#openControl());
    this.control.catch(() => {});
  }

  usePeerFeatures(features: readonly string[]): void {
    this.#keepCase = features.includes(FEATURE_HEADER_CASE);
    this.#understandsLeaving = features.includes(FEATURE_EDGE_LEAVING);
  }

  /** As the HTTP/2 client we go on opening streams behind it; cloudflared would refuse them from then on. */
  announceLeaving(): void {
    if (this.#understandsLeaving) this.link.h2.goaway();
  }

  get takesStreams(): boolean {
    return !this.draining && this.link.h2.canOpen;
  }

  open(request: StreamRequest, events: RequestEvents): ByteChannel {
    const stream = this.draining
      ? undefined
      : this.link.h2.open(requestFields(request, this.#keepCase), request.bodyless);
    if (stream === undefined) {
      const error = new TunnelError("stream.limit", "The connection takes no new stream now", { retry: "elsewhere" });
      queueMicrotask(() => events.onClose(error));
      return refusedChannel;
    }
    this.streamOpened();
    return new RequestChannel(stream, events, request, () => this.streamGone());
  }

  pushConfiguration(update: ConfigurationUpdate): Promise<ConfigurationAnswer> {
    return pushConfiguration(() => this.link.h2.open(configurationRequestFields(), false), update, this.#clock);
  }

  /** A client is asked nothing; the codec refuses such streams before they get here. */
  protected override onRequest(): void {}

  #openControl(): ByteChannel {
    const stream = this.link.h2.open(controlRequestFields(), false);
    if (stream === undefined) throw new TunnelError("session.lost", "The connector accepts no control stream");
    return new ControlChannel(stream);
  }
}

/** A visitor's request. */
class RequestChannel extends StreamChannel<RequestEvents> {
  readonly #request: StreamRequest;

  constructor(stream: H2Stream, events: RequestEvents, request: StreamRequest, onGone: () => void) {
    super(stream, H2_ERROR.cancel, onGone);
    this.#request = request;
    this.events = events;
    stream.listen(this);
  }

  onInformational(fields: string[]): void {
    const { status, headers } = parseInformational(fields);
    // 101 exists only as the final answer of an upgrade; anything else is not ours to pass on.
    if (status !== 101) this.events?.onInformational(status, headers);
  }

  onHead(fields: string[]): void {
    const response = parseResponse(fields, this.#request.kind);
    if (response === undefined) {
      this.abort(new TunnelError("stream.protocol", "The connector's answer cannot be read"));
      return;
    }
    this.events?.onResponse(response);
  }
}

/** Registration RPC: raw bytes both ways; the answer's head says nothing (protocol: section 2.3). */
class ControlChannel extends StreamChannel<ChannelEvents> {
  constructor(stream: H2Stream) {
    super(stream, H2_ERROR.cancel, () => {});
    stream.pause();
    stream.listen(this);
  }

  onInformational(): void {}

  onHead(): void {}
}

/** Stands in for a stream that was never opened. */
const refusedChannel: ByteChannel = {
  write: () => true,
  end: (_trailers?: RawHeaders) => {},
  abort: () => {},
  pause: () => {},
  resume: () => {},
  listen: () => {},
};
