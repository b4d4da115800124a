import { setImmediate } from "node:timers";
import type { CancelTimer, Clock } from "../../core/clock.ts";
import { TunnelError } from "../../core/errors.ts";
import type { ByteChannel } from "../../net/channel.ts";
import { owned } from "../../net/owned.ts";
import { encodeChunk, encodeLastChunk, encodeRequestHead } from "../../wire/h1/encoder.ts";
import type { ResponseHead } from "../../wire/h1/message.ts";
import { isTrailerAllowed } from "../../wire/h1/trailers.ts";
import { headerValue, type RawHeaders } from "../../wire/headers.ts";
import type { OriginEvents, OriginExchange, OriginRequest } from "../port.ts";
import type { ConnectionUser, OriginConnection } from "./connection.ts";

/** Body bytes kept while there is no connection yet; from here on `write` answers false. */
export const WAITING_BODY_BYTES = 64 * 1024;

/** A caller who writes on all the same is cut off here. */
export const MAX_WAITING_BODY_BYTES = 4 * 1024 * 1024;

/** Body bytes kept after they were sent, for a second attempt; a longer body gets none. */
export const MAX_REPLAY_BYTES = 64 * 1024;

/** Methods that may be sent twice (RFC 9110 section 9.2.2). */
export const IDEMPOTENT: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"]);

/** Methods whose empty body is said to be empty (RFC 9110 section 8.6): some servers answer 411 otherwise. */
const BODY_EXPECTED: ReadonlySet<string> = new Set(["POST", "PUT", "PATCH"]);

/** Gives up a dial that nobody waits for any more. */
export type CancelDial = () => void;

/** True when sending the request twice does no more than sending it once: by its method, or by the client's own word. */
export function isRepeatable({ method, headers }: OriginRequest): boolean {
  return IDEMPOTENT.has(method) || headerValue(headers, "idempotency-key") !== undefined;
}

/** How long the origin may take to begin its answer once it has the whole request; undefined = for ever. */
export interface AnswerLimit {
  readonly clock: Clock;
  readonly ms: number;
}

/**
 * One request and its answer, on whichever connection carries it. When that was a kept one that the origin had
 * closed before it answered, and the request may be repeated, it is sent once more on a fresh connection.
 *
 * A request that may not be repeated (POST) is more careful with a kept connection, since an origin may be closing it
 * right now. It sends its head alone, and lets the loop read what the system knows of the connection before the first
 * byte of its body; without a body it looks before it sends anything. Until then the origin cannot have a whole request
 * to act on, so a close is answered by one fresh connection. Afterwards nobody can tell what the origin did: the
 * visitor gets 502.
 */
export class HttpExchange implements OriginExchange, ConnectionUser {
  readonly #request: OriginRequest;
  readonly #events: OriginEvents;
  readonly #head: Uint8Array | TunnelError;
  readonly #dial: (exchange: HttpExchange) => CancelDial;
  readonly #answerLimit: AnswerLimit | undefined;
  #cancelAnswerLimit: CancelTimer | undefined;
  #cancelDial: CancelDial | undefined;
  #connection: OriginConnection | undefined;
  /** The body as the wire wants it: waiting for a connection, or sent and kept for a second attempt. */
  #kept: Uint8Array[] | undefined = [];
  #keptBytes = 0;
  /** The connection takes body bytes now. */
  #bodyOpen = false;
  #bodyBytes = 0;
  #bodyComplete: boolean;
  #answered = false;
  /** The origin refused and hangs up: the rest of the body is taken from the caller and dropped. */
  #dropBody = false;
  #paused = false;
  #writerWaits = false;
  #over = false;

  /** `dial` opens a connection and then calls `run` with it, or `fail`. */
  constructor(
    request: OriginRequest,
    events: OriginEvents,
    dial: (exchange: HttpExchange) => CancelDial,
    answerLimit?: AnswerLimit,
  ) {
    this.#request = request;
    this.#events = events;
    this.#dial = dial;
    this.#answerLimit = answerLimit;
    this.#head = encodeHead(request);
    this.#bodyComplete = request.body === "none" || request.body === 0;
  }

  /** Why this request cannot be sent to anybody, if so. */
  get problem(): TunnelError | undefined {
    return this.#head instanceof TunnelError ? this.#head : undefined;
  }

  get request(): OriginRequest {
    return this.#request;
  }

  /** Asks for a fresh connection. */
  connect(): void {
    this.#cancelDial = this.#dial(this);
  }

  /** Sends what there is of the request on an idle connection, and the rest as it comes. */
  run(connection: OriginConnection): void {
    if (this.#head instanceof TunnelError) return;
    this.#cancelDial = undefined;
    this.#connection = connection;
    // A fresh connection that fails is no stale one: so there is one more attempt, never two.
    if (!connection.reused) {
      this.#sendHead(connection, this.#head);
      this.#sendBody(connection);
      this.#kept = undefined;
    } else if (isRepeatable(this.#request)) {
      this.#sendHead(connection, this.#head);
      this.#sendBody(connection);
      if (this.#keptBytes > MAX_REPLAY_BYTES) this.#kept = undefined;
    } else {
      this.#sendCarefully(connection, this.#head);
    }
  }

  #sendCarefully(connection: OriginConnection, head: Uint8Array): void {
    const { body } = this.#request;
    const bodyless = body === "none" || body === 0;
    if (!bodyless) this.#sendHead(connection, head);
    afterNextRead(() => {
      if (this.#connection !== connection || this.#bodyOpen) return;
      if (!bodyless) this.#openBody(connection);
      else if (connection.idle) {
        this.#sendHead(connection, head);
        this.#openBody(connection);
      } else {
        this.#connection = undefined;
        this.connect();
      }
    });
  }

  /** From here on the origin may have the whole request, so there is no second attempt. */
  #openBody(connection: OriginConnection): void {
    this.#sendBody(connection);
    this.#kept = undefined;
  }

  #sendHead(connection: OriginConnection, head: Uint8Array): void {
    connection.begin(this, { method: this.#request.method, upgrade: this.#request.kind === "websocket" });
    if (this.#paused) connection.pause();
    connection.send(head);
  }

  #sendBody(connection: OriginConnection): void {
    this.#bodyOpen = true;
    let room = connection.room;
    for (const chunk of this.#kept ?? []) room = connection.send(chunk);
    if (this.#bodyComplete) this.#requestSent();
    else if (room) this.onDrain();
  }

  #requestSent(): void {
    if (!this.#bodyOpen) return;
    this.#connection?.finishRequest();
    const limit = this.#answerLimit;
    if (limit === undefined || this.#answered || this.#connection === undefined) return;
    this.#cancelAnswerLimit = limit.clock.after(limit.ms, () =>
      this.fail(new TunnelError("origin.slow", `Origin did not begin its answer within ${limit.ms} ms`)),
    );
  }

  write(chunk: Uint8Array): boolean {
    if (this.#over || this.#dropBody || chunk.length === 0) return true;
    const { body } = this.#request;
    this.#bodyBytes += chunk.length;
    if (body !== "chunked" && this.#bodyBytes > (body === "none" ? 0 : body)) {
      this.fail(new TunnelError("request.length", "Request body is longer than announced"));
      return true;
    }
    const room = this.#send(body === "chunked" ? encodeChunk(chunk) : chunk);
    if (this.#bodyBytes === body) {
      this.#bodyComplete = true;
      this.#requestSent();
    }
    if (!room) this.#writerWaits = true;
    return room;
  }

  end(trailers: RawHeaders): void {
    if (this.#over || this.#dropBody || this.#bodyComplete) return;
    if (this.#request.body !== "chunked") {
      this.fail(new TunnelError("request.length", "Request body is shorter than announced"));
      return;
    }
    const last = encodeLastChunk(allowedTrailers(trailers));
    if (!(last instanceof Uint8Array)) {
      this.fail(new TunnelError("request.malformed", `Request trailers cannot be sent (${last.part})`));
      return;
    }
    this.#send(last);
    this.#bodyComplete = true;
    this.#requestSent();
  }

  pause(): void {
    this.#paused = true;
    this.#connection?.pause();
  }

  resume(): void {
    this.#paused = false;
    this.#connection?.resume();
  }

  abort(): void {
    this.#over = true;
    this.#release()?.abort(new TunnelError("aborted", "Request given up"));
  }

  /** Ends the exchange with an error, unless it is over. */
  fail(error: TunnelError): void {
    if (this.#over) return;
    this.#over = true;
    this.#release()?.abort(error);
    this.#events.onError(error);
  }

  onInformational(head: ResponseHead): void {
    this.#events.onInformational(head.status, head.headers);
  }

  onHead(head: ResponseHead): void {
    if (head.status === 408 && !head.keepAlive && this.#kept !== undefined && this.#connection?.reused === true) {
      // It says that it waited too long for a request, while this one was on its way (RFC 9110 section 15.5.9).
      this.#release()?.abort(new TunnelError("origin.reset", "Origin gave up an idle connection"));
      this.connect();
      return;
    }
    this.#answered = true;
    this.#cancelAnswerLimit?.();
    // RFC 9112 section 9.5: who sees an error while sending stops; a success may well be an answer in step with the body.
    if (!this.#bodyComplete && head.status >= 400 && !head.keepAlive) {
      this.#dropBody = true;
      this.onDrain();
    } else if (!this.#bodyOpen && this.#connection !== undefined) {
      // An answer to the head alone: the body follows as on any connection.
      this.#sendBody(this.#connection);
    }
    this.#kept = undefined;
    const { framing } = head;
    const bodyless = framing.kind === "none" || (framing.kind === "length" && framing.bytes === 0);
    this.#events.onResponse(head.status, head.headers, bodyless);
  }

  onUpgrade(head: ResponseHead, channel: ByteChannel): void {
    this.#over = true;
    this.#release();
    this.#events.onUpgrade(head.headers, channel);
  }

  onData(chunk: Uint8Array): void {
    this.#events.onData(chunk);
  }

  onEnd(trailers: RawHeaders): void {
    // A caller who still has body to give must not wait for room on a connection that is gone.
    this.onDrain();
    if (this.#over) return;
    this.#over = true;
    this.#release();
    this.#events.onEnd(trailers);
  }

  onDrain(): void {
    if (!this.#writerWaits || this.#over) return;
    this.#writerWaits = false;
    this.#events.onDrain();
  }

  onFailure(error: TunnelError, unanswered: boolean): void {
    if (this.#over) return;
    this.#release();
    if (unanswered && this.#kept !== undefined) this.connect();
    else this.fail(error);
  }

  #release(): OriginConnection | undefined {
    const connection = this.#connection;
    this.#connection = undefined;
    this.#bodyOpen = false;
    this.#cancelAnswerLimit?.();
    if (this.#over) {
      this.#kept = undefined;
      this.#cancelDial?.();
      this.#cancelDial = undefined;
    }
    return connection;
  }

  #send(bytes: Uint8Array): boolean {
    const connection = this.#bodyOpen ? this.#connection : undefined;
    const kept = this.#kept;
    if (kept !== undefined) {
      kept.push(owned(bytes));
      this.#keptBytes += bytes.length;
    }
    if (connection !== undefined) {
      if (this.#keptBytes > MAX_REPLAY_BYTES) this.#kept = undefined;
      return connection.send(bytes);
    }
    if (this.#keptBytes > MAX_WAITING_BODY_BYTES) {
      this.fail(new TunnelError("stream.limit", "Request body came faster than the origin could be reached"));
    }
    return this.#keptBytes < WAITING_BODY_BYTES;
  }
}

/**
 * Calls back when the loop has asked the system for news at least once. One turn may end before that: it depends on
 * where in the loop we are now.
 */
function afterNextRead(callback: () => void): void {
  setImmediate(() => void setImmediate(callback));
}

function encodeHead(request: OriginRequest): Uint8Array | TunnelError {
  if (request.method === "CONNECT") return new TunnelError("origin.unsupported", "Origin takes no CONNECT requests");
  for (let i = 0; i < request.headers.length; i += 2) {
    if (isFraming(request.headers[i] as string)) {
      return new TunnelError("request.malformed", "Request fields must not frame the body");
    }
  }
  const head = encodeRequestHead({
    method: request.method,
    target: request.target,
    headers: [...request.headers, ...framingFields(request)],
  });
  return head instanceof Uint8Array
    ? head
    : new TunnelError("request.malformed", `Request head cannot be sent (${head.part})`);
}

function framingFields({ body, method }: OriginRequest): string[] {
  if (body === "chunked") return ["Transfer-Encoding", "chunked"];
  if (body === "none") return BODY_EXPECTED.has(method) ? ["Content-Length", "0"] : [];
  return ["Content-Length", String(body)];
}

function isFraming(name: string): boolean {
  if (name.length !== 14 && name.length !== 17) return false;
  const lowerCase = name.toLowerCase();
  return lowerCase === "content-length" || lowerCase === "transfer-encoding";
}

function allowedTrailers(trailers: RawHeaders): RawHeaders {
  if (trailers.length === 0) return trailers;
  const allowed: string[] = [];
  for (let i = 0; i + 1 < trailers.length; i += 2) {
    const name = trailers[i] as string;
    if (isTrailerAllowed(name)) allowed.push(name, trailers[i + 1] as string);
  }
  return allowed;
}
