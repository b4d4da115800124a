import type { CancelTimer } from "../../core/clock.ts";
import { TunnelError } from "../../core/errors.ts";
import { owned } from "../../net/owned.ts";
import { MAX_INFORMATIONAL, RESPONSE_HEAD_LIMITS } from "../../wire/h1/limits.ts";
import { isTrailerAllowed } from "../../wire/h1/trailers.ts";
import { H2_ERROR } from "../../wire/h2/constants.ts";
import type { H2Stream, H2StreamEvents } from "../../wire/h2/stream.ts";
import type { RawHeaders } from "../../wire/headers.ts";
import {
  type AnswerLimit,
  isRepeatable,
  MAX_REPLAY_BYTES,
  MAX_WAITING_BODY_BYTES,
  WAITING_BODY_BYTES,
} from "../http/exchange.ts";
import type { OriginEvents, OriginExchange, OriginRequest } from "../port.ts";
import type { Http2OriginConnection } from "./connection.ts";
import { expectedBodyBytes, requestFields } from "./fields.ts";

/** How often a request is sent in all, when origins refuse it unread. */
export const MAX_ATTEMPTS = 4;

/** Where an exchange gets its connection from. */
export interface Http2ExchangeHost {
  place(exchange: Http2Exchange): void;
  forget(exchange: Http2Exchange): void;
  exchangeHttp1(request: OriginRequest, events: OriginEvents): OriginExchange | undefined;
  readonly answerLimit: AnswerLimit | undefined;
}

/**
 * One request and its answer on an HTTP/2 stream. Refused unread (REFUSED_STREAM, GOAWAY, a connection that ended
 * before the request could leave), it is sent again on another connection as long as all of its body is still at hand.
 */
export class Http2Exchange implements OriginExchange, H2StreamEvents {
  /** The connection that refused the last attempt: another one is wanted. */
  refusedBy: Http2OriginConnection | undefined;
  readonly #request: OriginRequest;
  readonly #events: OriginEvents;
  readonly #fields: readonly string[] | TunnelError;
  readonly #host: Http2ExchangeHost;
  #connection: Http2OriginConnection | undefined;
  #stream: H2Stream | undefined;
  /** In place of a stream, once HTTP/1.1 is spoken. */
  #http1: OriginExchange | undefined;
  /** The body so far: waiting for a connection, or sent and kept for another attempt. */
  #kept: Uint8Array[] | undefined = [];
  #keptBytes = 0;
  #bodyBytes = 0;
  #bodyComplete: boolean;
  #trailers: RawHeaders = [];
  #attempts = 0;
  #answered = false;
  #cancelAnswerLimit: CancelTimer | undefined;
  #informational = 0;
  /** Bytes of the answer's body still to come; undefined = nobody said. */
  #expected: number | undefined;
  #paused = false;
  #writerWaits = false;
  #over = false;

  constructor(request: OriginRequest, events: OriginEvents, scheme: "http" | "https", host: Http2ExchangeHost) {
    this.#request = request;
    this.#events = events;
    this.#host = host;
    this.#fields = requestFields(request, scheme);
    this.#bodyComplete = request.body === "none" || request.body === 0;
  }

  /** Why this request cannot be sent to anybody, if so. */
  get problem(): TunnelError | undefined {
    return this.#fields instanceof TunnelError ? this.#fields : undefined;
  }

  /** Sends what there is of the request on this connection, which has room, and the rest as it comes. */
  run(connection: Http2OriginConnection): void {
    if (this.#fields instanceof TunnelError || this.#over) return;
    const kept = this.#kept ?? [];
    const endAtOnce = this.#bodyComplete && kept.length === 0 && this.#trailers.length === 0;
    const stream = connection.open(this.#fields, endAtOnce);
    if (stream === undefined) {
      this.#host.place(this);
      return;
    }
    this.#attempts += 1;
    this.#connection = connection;
    this.#stream = stream;
    if (this.#paused) stream.pause();
    stream.listen(this);
    let room = true;
    for (const chunk of kept) room = stream.write(chunk);
    if (this.#keptBytes > MAX_REPLAY_BYTES) this.#kept = undefined;
    if (this.#bodyComplete && !endAtOnce) stream.end(this.#trailers);
    this.#limitAnswer();
    if (room) this.onDrain();
  }

  /** Goes on over HTTP/1.1; nothing of the request can have been looked at. */
  divert(): void {
    if (this.#over) return;
    const http1 = this.#host.exchangeHttp1(this.#request, this.#events);
    if (http1 === undefined) {
      this.fail(new TunnelError("origin.unsupported", "Origin wants HTTP/1.1 for this request"));
      return;
    }
    this.#http1 = http1;
    let room = true;
    for (const chunk of this.#kept ?? []) room = http1.write(chunk);
    this.#kept = undefined;
    if (this.#bodyComplete) http1.end(this.#trailers);
    if (this.#paused) http1.pause();
    if (room) this.onDrain();
  }

  write(chunk: Uint8Array): boolean {
    if (this.#http1 !== undefined) return this.#http1.write(chunk);
    if (this.#over || chunk.length === 0) return true;
    const { body } = this.#request;
    this.#bodyBytes += chunk.length;
    if (body !== "chunked" && this.#bodyBytes > (body === "none" ? 0 : body)) {
      this.fail(new TunnelError("request.length", "Request body is longer than announced"));
      return true;
    }
    const room = this.#send(chunk);
    if (!room) this.#writerWaits = true;
    return room;
  }

  end(trailers: RawHeaders): void {
    if (this.#http1 !== undefined) this.#http1.end(trailers);
    if (this.#http1 !== undefined || this.#over || this.#bodyComplete) return;
    const { body } = this.#request;
    if (typeof body === "number" && this.#bodyBytes < body) {
      this.fail(new TunnelError("request.length", "Request body is shorter than announced"));
      return;
    }
    this.#bodyComplete = true;
    this.#trailers = allowedTrailers(trailers);
    this.#stream?.end(this.#trailers);
    this.#limitAnswer();
  }

  pause(): void {
    this.#paused = true;
    this.#stream?.pause();
    this.#http1?.pause();
  }

  resume(): void {
    this.#paused = false;
    this.#stream?.resume();
    this.#http1?.resume();
  }

  abort(): void {
    this.#http1?.abort();
    this.#finish(H2_ERROR.cancel);
  }

  /** Ends the exchange with an error, unless it is over. */
  fail(error: TunnelError): void {
    if (this.#over) return;
    this.#finish(error.code === "origin.malformed" ? H2_ERROR.protocolError : H2_ERROR.cancel);
    this.#events.onError(error);
  }

  onInformational(fields: string[]): void {
    const status = Number(fields[1]);
    this.#informational += 1;
    if (status === 101 || this.#informational > MAX_INFORMATIONAL) {
      this.fail(
        new TunnelError("origin.malformed", "Origin sent interim answers that HTTP/2 does not have, or no end"),
      );
    } else {
      this.#events.onInformational(status, fields.slice(2));
    }
  }

  onHead(fields: string[], endStream: boolean): void {
    this.#kept = undefined;
    this.#answered = true;
    this.#cancelAnswerLimit?.();
    const status = Number(fields[1]);
    const expected = isTooLarge(fields) ? "malformed" : expectedBodyBytes(this.#request.method, status, fields);
    if (expected === "malformed") {
      this.fail(new TunnelError("origin.malformed", "Origin sent an answer whose head cannot be used"));
      return;
    }
    this.#expected = expected;
    this.#events.onResponse(status, fields.slice(2), endStream);
  }

  onData(chunk: Uint8Array): void {
    if (this.#over) return;
    if (this.#expected !== undefined) {
      this.#expected -= chunk.length;
      if (this.#expected < 0) {
        this.fail(new TunnelError("origin.malformed", "Origin's answer is longer than announced"));
        return;
      }
    }
    this.#events.onData(chunk);
  }

  onEnd(trailers: RawHeaders): void {
    if (this.#over) return;
    if (this.#expected !== undefined && this.#expected > 0) {
      this.fail(new TunnelError("origin.truncated", "Origin's answer is shorter than announced"));
      return;
    }
    // Nobody reads the rest of the request: it is taken from the caller and dropped.
    this.onDrain();
    if (this.#over) return;
    this.#finish(H2_ERROR.noError);
    this.#events.onEnd(allowedTrailers(trailers));
  }

  onDrain(): void {
    if (!this.#writerWaits || this.#over) return;
    this.#writerWaits = false;
    this.#events.onDrain();
  }

  onReset(code: number, byPeer: boolean, processed: boolean): void {
    if (this.#over) return;
    this.#cancelAnswerLimit?.();
    const connection = this.#connection;
    this.#connection = undefined;
    this.#stream = undefined;
    if (byPeer) this.#onRefused(code, processed, connection);
    // Why the connection ended is known only when all its streams have been told.
    else queueMicrotask(() => this.#onLost(processed, connection));
  }

  onComplete(): void {}

  /** The origin reset this stream alone, or told all that it did not look at. */
  #onRefused(code: number, processed: boolean, connection: Http2OriginConnection | undefined): void {
    if (!processed && this.#mayRepeat()) {
      this.refusedBy = connection;
      this.#host.place(this);
    } else if (code === H2_ERROR.http11Required && this.#kept !== undefined) {
      this.divert();
    } else {
      this.fail(
        new TunnelError(
          "origin.reset",
          processed ? `Origin reset the stream (HTTP/2 code ${code})` : "Origin refused the stream again and again",
        ),
      );
    }
  }

  #onLost(processed: boolean, connection: Http2OriginConnection | undefined): void {
    if (this.#over) return;
    if (connection?.gone !== true) {
      this.fail(new TunnelError("origin.malformed", "Origin sent an answer that is no valid HTTP/2 message"));
      return;
    }
    // An idle connection that its origin closes has no chance to say so before a request crosses the news.
    const stale = connection.openedCount > 1 && isRepeatable(this.#request);
    if ((!processed || stale) && this.#mayRepeat()) this.#host.place(this);
    else this.fail(connection.failure ?? new TunnelError("origin.reset", "HTTP/2 connection to the origin was lost"));
  }

  /** Starts the time for the answer once all of the request is on its way. */
  #limitAnswer(): void {
    const limit = this.#host.answerLimit;
    if (limit === undefined || !this.#bodyComplete || this.#stream === undefined || this.#answered) return;
    this.#cancelAnswerLimit = limit.clock.after(limit.ms, () =>
      this.fail(new TunnelError("origin.slow", `Origin did not begin its answer within ${limit.ms} ms`)),
    );
  }

  #mayRepeat(): boolean {
    return this.#kept !== undefined && this.#attempts < MAX_ATTEMPTS;
  }

  #send(chunk: Uint8Array): boolean {
    const kept = this.#kept;
    if (kept !== undefined) {
      kept.push(owned(chunk));
      this.#keptBytes += chunk.length;
    }
    if (this.#stream !== undefined) {
      if (this.#keptBytes > MAX_REPLAY_BYTES) this.#kept = undefined;
      return this.#stream.write(chunk);
    }
    if (this.#keptBytes > MAX_WAITING_BODY_BYTES) {
      this.fail(new TunnelError("stream.limit", "Request body came faster than the origin could be reached"));
    }
    return this.#keptBytes < WAITING_BODY_BYTES;
  }

  /** Lets everything go; a stream that is not through is reset. */
  #finish(resetCode: number): void {
    if (this.#over) return;
    this.#over = true;
    this.#cancelAnswerLimit?.();
    this.#kept = undefined;
    this.#host.forget(this);
    const connection = this.#connection;
    const stream = this.#stream;
    this.#connection = undefined;
    this.#stream = undefined;
    if (stream === undefined) return;
    if (!stream.localEnded || !stream.remoteEnded) stream.reset(resetCode);
    connection?.settled();
  }
}

function isTooLarge(fields: readonly string[]): boolean {
  if (fields.length / 2 - 1 > RESPONSE_HEAD_LIMITS.fields) return true;
  let bytes = 0;
  for (const text of fields) bytes += text.length;
  return bytes > RESPONSE_HEAD_LIMITS.headBytes;
}

function allowedTrailers(trailers: RawHeaders): RawHeaders {
  if (trailers.length === 0) return trailers;
  const allowed: string[] = [];
  for (let i = 0; i + 1 < trailers.length; i += 2) {
    const name = (trailers[i] as string).toLowerCase();
    if (isTrailerAllowed(name)) allowed.push(name, trailers[i + 1] as string);
  }
  return allowed;
}
