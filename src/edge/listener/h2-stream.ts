import { TunnelError } from "../../core/errors.ts";
import { isTrailerAllowed } from "../../wire/h1/trailers.ts";
import { H2_ERROR } from "../../wire/h2/constants.ts";
import type { H2Stream, H2StreamEvents } from "../../wire/h2/stream.ts";
import type { RawHeaders } from "../../wire/headers.ts";
import { statusError } from "./error-page.ts";
import { H2Answer } from "./h2-answer.ts";
import { MAX_LINGER_BYTES } from "./limits.ts";
import type { VisitorDeps } from "./visitor-deps.ts";
import { type ExchangeOwner, VisitorExchange, type VisitorRequest } from "./visitor-exchange.ts";

/** One stream of a visitor's HTTP/2 connection: one request, or one WebSocket. */
export class H2VisitorStream implements H2StreamEvents, ExchangeOwner {
  readonly #stream: H2Stream;
  readonly #deps: VisitorDeps;
  readonly #answer: H2Answer;
  readonly #contentLength: number | undefined;
  readonly #endsWithHead: boolean;
  readonly #onGone: (stream: H2VisitorStream, takenBack: boolean) => void;
  #exchange: VisitorExchange | undefined;
  #receivedBytes = 0;
  #tunnel = false;
  #deadlineAtMs = Number.POSITIVE_INFINITY;
  #gone: TunnelError | undefined;

  /** `onGone`: called once. `takenBack`: the visitor gave the request up, or broke it, before there was an answer. */
  constructor(
    stream: H2Stream,
    head: {
      readonly request: VisitorRequest;
      readonly contentLength: number | undefined;
      readonly endStream: boolean;
    },
    ip: string,
    deps: VisitorDeps,
    onGone: (stream: H2VisitorStream, takenBack: boolean) => void,
  ) {
    this.#stream = stream;
    this.#deps = deps;
    this.#onGone = onGone;
    this.#contentLength = head.contentLength;
    this.#endsWithHead = head.endStream;
    this.#answer = new H2Answer(stream);
    this.#exchange = new VisitorExchange(head.request, ip, this.#answer, deps, this);
    // What follows a handshake belongs to whoever is there after it.
    if (head.request.kind === "websocket") stream.pause();
    stream.listen(this);
  }

  start(): void {
    this.#exchange?.start();
  }

  checkDeadline(nowMs: number): void {
    if (nowMs < this.#deadlineAtMs) return;
    const { counters } = this.#deps;
    counters.timeouts += 1;
    const exchange = this.#exchange;
    if (exchange?.answered === false && exchange.waitsForBody) {
      counters.refused["body-timeout"] += 1;
      exchange.fail(statusError(408));
      return;
    }
    counters.refused["write-timeout"] += 1;
    this.#gone = new TunnelError("timeout", "The visitor's stream stood still for too long");
    this.#stream.reset(H2_ERROR.cancel);
  }

  // ---- from the stream ----

  onInformational(): void {}

  onHead(): void {}

  onData(chunk: Uint8Array): void {
    this.#receivedBytes += chunk.length;
    if (this.#exchange === undefined) {
      // The answer is on its way; a visitor that goes on all the same has been told to stop, or will be.
      if (this.#receivedBytes > MAX_LINGER_BYTES) this.#stream.reset(H2_ERROR.enhanceYourCalm);
    } else if (this.#tunnel) this.#exchange.tunnelData(chunk);
    else if (this.#contentLength !== undefined && this.#receivedBytes > this.#contentLength) this.#malformed();
    else this.#exchange.bodyData(chunk);
  }

  onEnd(trailers: RawHeaders): void {
    if (this.#exchange === undefined) return;
    if (this.#tunnel) this.#exchange.tunnelEnd();
    else if (this.#contentLength !== undefined && this.#receivedBytes !== this.#contentLength) this.#malformed();
    else this.#exchange.bodyEnd(trailers.filter((_text, i) => isTrailerAllowed(trailers[i - (i % 2)] as string)));
  }

  onDrain(): void {
    this.#exchange?.visitorDrained();
  }

  onReset(_code: number, byPeer: boolean): void {
    const exchange = this.#exchange;
    this.#exchange = undefined;
    const why = byPeer ? "The visitor took the request back" : "The visitor's stream was broken off";
    exchange?.visitorGone(this.#gone ?? new TunnelError("stream.reset", why));
    this.#onGone(this, exchange?.answered === false);
  }

  onComplete(): void {
    this.#onGone(this, false);
  }

  // ---- from the exchange ----

  onTunnel(): void {
    this.#tunnel = true;
    this.#deadlineAtMs = Number.POSITIVE_INFINITY;
    this.#stream.resume();
  }

  onFinished(): void {
    this.#exchange = undefined;
    this.#receivedBytes = 0;
    this.#deadlineAtMs = this.#deps.clock.nowMs() + this.#deps.limits["write-timeout"];
    this.#stream.resume();
    if (!this.#endsWithHead) this.#stream.stopPeer();
  }

  onMoved(withinMs: number): void {
    this.#deadlineAtMs = this.#deps.clock.nowMs() + withinMs;
  }

  /** The body is not what Content-Length says (RFC 9113 section 8.1.1). */
  #malformed(): void {
    this.#deps.counters.malformed += 1;
    this.#gone = new TunnelError("request.length", "The body is not as long as Content-Length says");
    this.#stream.reset(H2_ERROR.protocolError);
  }
}
