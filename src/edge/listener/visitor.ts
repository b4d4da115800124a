import type { TunnelError } from "../../core/errors.ts";
import type { ChannelEvents } from "../../net/channel.ts";
import { plainBytes } from "../../net/owned.ts";
import type { Connection } from "../../net/sockets.ts";
import { CLIENT_PREFACE } from "../../wire/h2/constants.ts";
import type { RawHeaders } from "../../wire/headers.ts";
import { H2VisitorConnection } from "./h2-connection.ts";
import { VisitorConnection } from "./visitor-connection.ts";
import type { VisitorDeps } from "./visitor-deps.ts";
import type { VisitorProtocol } from "./visitor-protocol.ts";

/**
 * One connection of a visitor, whatever it turns out to speak: HTTP/2 when TLS settled on it or when the first bytes
 * are its preface (prior knowledge, RFC 9113 section 3.3), else HTTP/1.1.
 */
export class Visitor implements ChannelEvents {
  readonly ip: string;
  readonly #connection: Connection;
  readonly #deps: VisitorDeps;
  readonly #onGone: (visitor: Visitor) => void;
  #protocol: VisitorProtocol | undefined;
  /** First bytes that may become a preface; never longer than one. */
  #first: Uint8Array = new Uint8Array(0);
  #deadlineAtMs: number;

  constructor(connection: Connection, deps: VisitorDeps, onGone: (visitor: Visitor) => void) {
    this.ip = connection.remoteIp;
    this.#connection = connection;
    this.#deps = deps;
    this.#onGone = onGone;
    this.#deadlineAtMs = deps.clock.nowMs() + deps.limits["idle-timeout"];
    if (connection.alpn === "h2") this.#protocol = new H2VisitorConnection(connection, deps);
    else if (connection.alpn !== undefined) this.#protocol = new VisitorConnection(connection, deps);
    connection.channel.listen(this);
  }

  /** Called about once a second. */
  checkDeadline(nowMs: number): void {
    if (this.#protocol !== undefined) this.#protocol.checkDeadline(nowMs);
    // Nothing, or not enough to tell: HTTP/1.1 knows what to answer.
    else if (nowMs >= this.#deadlineAtMs) this.#http1().checkDeadline(Number.POSITIVE_INFINITY);
  }

  /** Takes no further request; ends when the running ones have. */
  retire(): void {
    (this.#protocol ?? this.#http1()).retire();
  }

  abort(error: TunnelError): void {
    this.#connection.channel.abort(error);
  }

  onData(chunk: Uint8Array): void {
    if (this.#protocol !== undefined) {
      this.#protocol.onData(chunk);
      return;
    }
    const bytes = this.#first.length === 0 ? chunk : plainBytes(Buffer.concat([this.#first, chunk]));
    const matching = matchingBytes(bytes);
    if (matching === CLIENT_PREFACE.length) {
      this.#protocol = new H2VisitorConnection(this.#connection, this.#deps);
      this.#first = EMPTY;
      this.#protocol.onData(bytes);
    } else if (matching < bytes.length) {
      this.#first = bytes;
      this.#http1();
    } else {
      if (this.#first.length === 0) this.#deadlineAtMs = this.#deps.clock.nowMs() + this.#deps.limits["header-timeout"];
      this.#first = bytes;
    }
  }

  onEnd(trailers: RawHeaders): void {
    (this.#protocol ?? this.#http1()).onEnd(trailers);
  }

  onDrain(): void {
    this.#protocol?.onDrain();
  }

  onClose(error: TunnelError | undefined): void {
    this.#protocol?.onClose(error);
    this.#onGone(this);
  }

  /** Serves HTTP/1.1 from here on, the bytes seen so far included. */
  #http1(): VisitorProtocol {
    const protocol = new VisitorConnection(this.#connection, this.#deps);
    this.#protocol = protocol;
    const first = this.#first;
    this.#first = EMPTY;
    if (first.length > 0) protocol.onData(first);
    return protocol;
  }
}

const EMPTY = new Uint8Array(0);

/** How many of the first bytes are those of the HTTP/2 preface. */
function matchingBytes(bytes: Uint8Array): number {
  const length = Math.min(bytes.length, CLIENT_PREFACE.length);
  for (let i = 0; i < length; i += 1) if (bytes[i] !== CLIENT_PREFACE.charCodeAt(i)) return i;
  return length;
}
