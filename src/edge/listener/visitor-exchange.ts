import { TunnelError } from "../../core/errors.ts";
import { NO_TRAILERS } from "../../net/channel.ts";
import type { Connection } from "../../net/sockets.ts";
import type { StreamKind, StreamResponse } from "../../transport/port.ts";
import { encodeChunk, encodeLastChunk, encodeResponseHead } from "../../wire/h1/encoder.ts";
import { stripHopByHop } from "../../wire/h1/hop-by-hop.ts";
import type { RequestHead } from "../../wire/h1/message.ts";
import { isTrailerAllowed } from "../../wire/h1/trailers.ts";
import { headerValue, type RawHeaders } from "../../wire/headers.ts";
import type { Dispatch, DispatchEvents } from "../dispatcher/dispatcher.ts";
import { BAD_GATEWAY, type EdgeError, NO_CONNECTOR, renderError, statusError, UNKNOWN_HOSTNAME } from "./error-page.ts";
import { BODY_IDLE_MS, WRITE_STALL_MS } from "./limits.ts";
import { isLooping, tunnelHeaders } from "./request-policy.ts";
import type { VisitorDeps } from "./visitor-deps.ts";

const CONTINUE = new TextEncoder().encode("HTTP/1.1 100 Continue\r\n\r\n");

const NO_DESTINATION = {
  loop: statusError(508),
  "unknown-hostname": UNKNOWN_HOSTNAME,
  "no-connection": NO_CONNECTOR,
  "store-failed": statusError(503),
} as const;

/** How the end of an answer's body is told to the visitor. */
type AnswerFraming =
  | { kind: "none" }
  | { kind: "length"; left: number }
  | { kind: "chunked" }
  | { kind: "until-close" };

export interface ExchangeOwner {
  /** The handshake is done: bytes pass as they are from here on. */
  onTunnel(): void;
  /** The answer is out, or cannot be. `mayContinue`: the connection is good for another request. */
  onFinished(mayContinue: boolean): void;
  /** Something moved; this long may pass until the next time, in ms. */
  onMoved(withinMs: number): void;
}

/** One request of a visitor and its answer. */
export class VisitorExchange implements DispatchEvents {
  readonly #head: RequestHead;
  readonly #connection: Connection;
  readonly #deps: VisitorDeps;
  readonly #owner: ExchangeOwner;
  readonly #ray: string;
  readonly #startedAtMs: number;
  #dispatch: Dispatch | undefined;
  #bodyEnded = false;
  #dispatchOver = false;
  #continueSent = false;
  #status: number | undefined;
  #framing: AnswerFraming = { kind: "none" };
  #answerEnded = false;
  #tunnel = false;
  #finished = false;
  #halfClosed = false;
  /** The visitor does not take what is written for it. */
  #visitorFull = false;
  /** The tunnel does not take the request's body, and the visitor is held back. */
  #uploadHeld = false;

  constructor(head: RequestHead, connection: Connection, deps: VisitorDeps, owner: ExchangeOwner) {
    this.#head = head;
    this.#connection = connection;
    this.#deps = deps;
    this.#owner = owner;
    this.#ray = deps.nextRay();
    this.#startedAtMs = deps.clock.nowMs();
  }

  /** True once a head was sent. */
  get answered(): boolean {
    return this.#status !== undefined;
  }

  get waitsForBody(): boolean {
    return !this.#bodyEnded;
  }

  start(): void {
    const head = this.#head;
    this.#bodyEnded = head.framing.kind === "none";
    this.#watch();
    const destination = isLooping(head.headers)
      ? ({ kind: "loop" } as const)
      : this.#deps.dispatcher.find(hostnameOf(head.host ?? ""));
    if (destination.kind !== "tunnel") {
      this.fail(NO_DESTINATION[destination.kind]);
      return;
    }
    const kind = streamKind(head);
    const context = { ip: this.#connection.remoteIp, scheme: this.#deps.scheme, ray: this.#ray };
    this.#dispatch = this.#deps.dispatcher.open(
      destination.tunnelId,
      {
        kind,
        method: head.method,
        authority: head.host ?? "",
        path: head.target,
        headers: tunnelHeaders(head.headers, context, this.#deps.policy),
        bodyless: kind === "http" && head.framing.kind === "none",
      },
      this,
    );
    if (head.expectContinue && !this.#bodyEnded) {
      this.#continueSent = true;
      this.#connection.channel.write(CONTINUE);
    }
  }

  // ---- from the visitor ----

  bodyData(chunk: Uint8Array): void {
    if (this.#dispatch === undefined || this.#dispatchOver) return;
    if (!this.#dispatch.write(chunk)) {
      this.#uploadHeld = true;
      this.#connection.channel.pause();
    }
    this.#watch();
  }

  bodyEnd(trailers: RawHeaders): void {
    this.#bodyEnded = true;
    this.#watch();
    // A handshake's stream stays open: what follows is not a body.
    if (streamKind(this.#head) === "http") this.#dispatch?.end(trailers);
    this.#finishIfDone();
  }

  visitorDrained(): void {
    this.#visitorFull = false;
    this.#watch();
    this.#dispatch?.resume();
  }

  /** The visitor sends nothing any more: from here on every byte of the answer is a sign that it is still wanted. */
  visitorEnded(): void {
    this.#halfClosed = true;
  }

  visitorGone(error: TunnelError | undefined): void {
    if (this.#finished) return;
    this.#finished = true;
    this.#dispatch?.abort(error ?? new TunnelError("aborted", "The visitor closed the connection"));
    this.#report(error?.message);
  }

  tunnelData(chunk: Uint8Array): void {
    if (this.#dispatch?.write(chunk) === false) this.#connection.channel.pause();
  }

  tunnelEnd(): void {
    this.#dispatch?.end(NO_TRAILERS);
  }

  // ---- from the tunnel ----

  onRetry(): void {
    this.#deps.counters.retries += 1;
  }

  onInformational(status: number, headers: RawHeaders): void {
    if (this.#head.minorVersion === 0 || this.answered || (status === 100 && this.#continueSent)) return;
    const bytes = encodeResponseHead({ status, reason: "", headers: stripHopByHop(headers) });
    if (bytes instanceof Uint8Array) this.#connection.channel.write(bytes);
  }

  onResponse(response: StreamResponse): void {
    if (this.#finished) return;
    if (response.source === "cloudflared") {
      this.fail(response.status === 502 ? BAD_GATEWAY : statusError(response.status));
      return;
    }
    const handshake = streamKind(this.#head) === "websocket";
    if (handshake && response.status === 101) {
      this.#switchProtocols(response);
      return;
    }
    const framing = this.#frame(response);
    if (framing === undefined) {
      this.fail(BAD_GATEWAY);
      return;
    }
    // The origin said no, so nothing follows the handshake.
    if (handshake) this.#dispatch?.end(NO_TRAILERS);
    this.#framing = framing;
    const headers = stripHopByHop(response.headers).filter(notContentLength);
    const length = headerValue(response.headers, "content-length");
    // Forbidden beside 204 (RFC 9110 section 8.6).
    if (length !== undefined && response.status !== 204) headers.push("Content-Length", length);
    if (framing.kind === "chunked") headers.push("Transfer-Encoding", "chunked");
    headers.push("Cf-Ray", this.#ray, "Connection", this.#keepAlive() ? "keep-alive" : "close");
    this.#sendHead(response.status, headers);
  }

  onData(chunk: Uint8Array): void {
    // An empty chunk would end a chunked body.
    if (this.#finished || this.#answerEnded || chunk.length === 0) return;
    if (this.#tunnel) {
      this.#send(chunk);
      return;
    }
    const framing = this.#framing;
    if (framing.kind === "none") return;
    if (framing.kind === "length") {
      if (chunk.length > framing.left) {
        this.#cut("The answer is longer than its Content-Length");
        return;
      }
      framing.left -= chunk.length;
    }
    if (this.#halfClosed) this.#owner.onMoved(Number.POSITIVE_INFINITY);
    this.#send(framing.kind === "chunked" ? encodeChunk(chunk) : chunk);
  }

  onEnd(trailers: RawHeaders): void {
    if (this.#finished || this.#answerEnded) return;
    if (this.#tunnel) {
      this.#connection.channel.end();
      return;
    }
    if (!this.answered) return;
    if (this.#framing.kind === "length" && this.#framing.left > 0) {
      this.#cut("The answer is shorter than its Content-Length");
      return;
    }
    if (this.#framing.kind === "chunked") {
      const last = encodeLastChunk(allowedTrailers(trailers));
      this.#connection.channel.write(last instanceof Uint8Array ? last : (encodeLastChunk(NO_TRAILERS) as Uint8Array));
    }
    this.#answerEnded = true;
    this.#finishIfDone();
    if (!this.#finished) this.#finishEarly();
  }

  onDrain(): void {
    if (this.#finished) return;
    this.#uploadHeld = false;
    this.#watch();
    this.#connection.channel.resume();
  }

  onClose(error: TunnelError | undefined): void {
    this.#dispatchOver = true;
    if (this.#finished) return;
    if (this.#tunnel) {
      if (error !== undefined) this.#connection.channel.abort(error);
      else this.#finish(false, undefined);
      return;
    }
    if (this.#answerEnded) return;
    if (this.answered) this.#cut(error?.message ?? "The answer ended early");
    else if (error?.code === "stream.limit") this.fail(statusError(503));
    else if (error?.retry === "elsewhere") this.fail(NO_CONNECTOR);
    else this.fail(BAD_GATEWAY);
  }

  /** Answers with an error of the edge's own, or cuts the connection when an answer has begun. */
  fail(error: EdgeError): void {
    if (this.#finished) return;
    if (this.answered) {
      this.#cut(error.title);
      return;
    }
    this.#dispatchOver = true;
    const { headers, body } = renderError(error, this.#head.headers, this.#ray);
    const mayContinue = this.#keepAlive() && this.#bodyEnded;
    headers.push("Connection", mayContinue ? "keep-alive" : "close");
    this.#sendHead(error.status, headers, this.#head.method === "HEAD" ? undefined : body);
    this.#finish(mayContinue, error.title);
    // Last, because a stream may report its end during the call.
    this.#dispatch?.abort(new TunnelError("aborted", error.title));
  }

  // ---- inside ----

  #switchProtocols(response: StreamResponse): void {
    const headers = stripHopByHop(response.headers).filter(notContentLength);
    headers.push("Upgrade", headerValue(response.headers, "upgrade") ?? "websocket", "Connection", "Upgrade");
    headers.push("Cf-Ray", this.#ray);
    this.#sendHead(101, headers);
    if (this.#finished) return;
    this.#tunnel = true;
    this.#owner.onTunnel();
  }

  #sendHead(status: number, headers: RawHeaders, body?: Uint8Array): void {
    const bytes = encodeResponseHead({ status, reason: reasonOf(status), headers }, body);
    if (!(bytes instanceof Uint8Array)) {
      // The origin's fields cannot be sent as they are without meaning something else.
      if (status === 502) this.#cut("The answer cannot be written");
      else this.fail(BAD_GATEWAY);
      return;
    }
    this.#status = status;
    this.#send(bytes);
    this.#watch();
  }

  /** Writes to the visitor, and holds the origin back when the visitor does not keep up. */
  #send(bytes: Uint8Array): void {
    if (this.#connection.channel.write(bytes)) return;
    this.#dispatch?.pause();
    if (this.#visitorFull) return;
    this.#visitorFull = true;
    this.#owner.onMoved(WRITE_STALL_MS);
  }

  /**
   * Gives the visitor its time: to send the body that the origin waits for. While we hold it back, and once the answer
   * has begun, how long the body takes is the origin's affair.
   */
  #watch(): void {
    if (this.#visitorFull) return;
    const awaited = !this.#bodyEnded && !this.#uploadHeld && !this.answered;
    this.#owner.onMoved(awaited ? BODY_IDLE_MS : Number.POSITIVE_INFINITY);
  }

  /** Undefined for a head that is no final answer to this request. */
  #frame(response: StreamResponse): AnswerFraming | undefined {
    const { status } = response;
    const length = headerValue(response.headers, "content-length");
    if (status < 200 || (length !== undefined && !/^[0-9]{1,15}$/.test(length))) return undefined;
    if (this.#head.method === "HEAD" || status === 204 || status === 304) return { kind: "none" };
    if (length !== undefined) return { kind: "length", left: Number(length) };
    return this.#head.minorVersion === 1 ? { kind: "chunked" } : { kind: "until-close" };
  }

  #keepAlive(): boolean {
    return this.#head.keepAlive && this.#framing.kind !== "until-close" && !this.#deps.closing();
  }

  #finishIfDone(): void {
    if (this.#answerEnded && this.#bodyEnded) this.#finish(this.#keepAlive(), undefined);
  }

  /** The origin answered without reading the whole request: the rest goes nowhere and the connection ends. */
  #finishEarly(): void {
    this.#dispatchOver = true;
    this.#finish(false, undefined);
    this.#dispatch?.abort(new TunnelError("aborted", "The answer came before the whole request"));
  }

  #cut(why: string): void {
    this.#finished = true;
    this.#report(why);
    this.#dispatch?.abort(new TunnelError("stream.protocol", why));
    this.#connection.channel.abort(new TunnelError("stream.protocol", why));
  }

  #finish(mayContinue: boolean, error: string | undefined): void {
    if (this.#finished) return;
    this.#finished = true;
    this.#report(error);
    this.#owner.onFinished(mayContinue);
  }

  #report(error: string | undefined): void {
    this.#deps.onAccess({
      ray: this.#ray,
      ip: this.#connection.remoteIp,
      method: this.#head.method,
      host: this.#head.host ?? "",
      status: this.#status,
      durationMs: this.#deps.clock.nowMs() - this.#startedAtMs,
      error,
    });
  }
}

/** Only a GET without body that names `websocket` alone is a handshake; other upgrades are not offered to origins. */
function streamKind(head: RequestHead): StreamKind {
  const handshake =
    head.upgrade?.toLowerCase() === "websocket" && head.method === "GET" && head.framing.kind === "none";
  return handshake ? "websocket" : "http";
}

/** Host in lower case without port, brackets or a trailing dot. */
export function hostnameOf(host: string): string {
  const withoutPort = host.startsWith("[") ? host.slice(1, host.indexOf("]")) : (host.split(":", 1)[0] as string);
  return withoutPort.toLowerCase().replace(/\.$/, "");
}

function notContentLength(_text: string, index: number, fields: readonly string[]): boolean {
  return (fields[index - (index % 2)] as string).toLowerCase() !== "content-length";
}

function allowedTrailers(trailers: RawHeaders): RawHeaders {
  if (trailers.length === 0) return trailers;
  return trailers.filter((_text, i) => isTrailerAllowed((trailers[i - (i % 2)] as string).toLowerCase()));
}

const REASONS: Readonly<Record<number, string>> = {
  101: "Switching Protocols",
  200: "OK",
  201: "Created",
  204: "No Content",
  206: "Partial Content",
  301: "Moved Permanently",
  302: "Found",
  304: "Not Modified",
  400: "Bad Request",
  401: "Unauthorized",
  403: "Forbidden",
  404: "Not Found",
  408: "Request Timeout",
  413: "Content Too Large",
  414: "URI Too Long",
  417: "Expectation Failed",
  429: "Too Many Requests",
  431: "Request Header Fields Too Large",
  500: "Internal Server Error",
  501: "Not Implemented",
  502: "Bad Gateway",
  503: "Service Unavailable",
  508: "Loop Detected",
  530: "Tunnel Error",
};

function reasonOf(status: number): string {
  return REASONS[status] ?? "";
}
