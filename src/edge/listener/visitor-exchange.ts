import { TunnelError } from "../../core/errors.ts";
import { NO_TRAILERS } from "../../net/channel.ts";
import type { StreamResponse } from "../../transport/port.ts";
import { stripHopByHop } from "../../wire/h1/hop-by-hop.ts";
import { MAX_INFORMATIONAL } from "../../wire/h1/limits.ts";
import { isTrailerAllowed } from "../../wire/h1/trailers.ts";
import { headerValue, type RawHeaders } from "../../wire/headers.ts";
import type { Dispatch, DispatchEvents } from "../dispatcher/dispatcher.ts";
import type { Visitor } from "../dispatcher/route.ts";
import type { Verdict } from "../policy/admission.ts";
import {
  BAD_GATEWAY,
  type EdgeError,
  movedTo,
  NO_CONNECTOR,
  renderError,
  statusError,
  tryLater,
  UNKNOWN_HOSTNAME,
} from "./error-page.ts";
import { ExchangeRecord } from "./exchange-record.ts";
import { isLooping, tunnelHeaders, visitorScheme } from "./request-policy.ts";
import type { HttpVersion, VisitorDeps } from "./visitor-deps.ts";

/** What an ACME server asks for over plain HTTP (RFC 8555 section 8.3). */
const ACME_PATH = "/.well-known/acme-challenge/";

const HSTS = "Strict-Transport-Security";

const NO_DESTINATION = {
  loop: statusError(508),
  "unknown-hostname": UNKNOWN_HOSTNAME,
  "no-connection": NO_CONNECTOR,
  "store-failed": statusError(503),
} as const;

/** A request of a visitor, whichever version of HTTP carried it. */
export interface VisitorRequest {
  /** `websocket`: a handshake; no body, and bytes both ways once it is accepted. */
  readonly kind: "http" | "websocket";
  readonly method: string;
  readonly target: string;
  /** With port as sent; empty only in HTTP/1.0. */
  readonly host: string;
  readonly headers: RawHeaders;
  readonly hasBody: boolean;
  /** Silences within the body belong to its two ends (gRPC), and are borne. */
  readonly patientBody: boolean;
  readonly protocol: HttpVersion;
  /** The visitor waits for 100 before it sends the body. */
  readonly expectContinue: boolean;
}

/** The head of an answer; its fields are those of any version of HTTP. */
export interface AnswerHead {
  readonly status: number;
  readonly headers: RawHeaders;
  /** No body follows, whatever Content-Length says. */
  readonly bodyless: boolean;
  /** Content-Length is among the fields and will be kept. */
  readonly hasLength: boolean;
}

/** Writes one answer as the visitor's version of HTTP has it. */
export interface AnswerWriter {
  /** An interim head; dropped where the visitor cannot take it. */
  inform(status: number, headers: RawHeaders): void;
  /** Begins the answer; false = nothing was sent, because these fields would mean something else on the wire. */
  begin(head: AnswerHead): boolean;
  /** Sends a whole answer of the edge's own. `requestEnded`: nothing of the request is left to read. */
  whole(status: number, headers: RawHeaders, body: Uint8Array | undefined, requestEnded: boolean): void;
  /** Accepts a handshake: what is written from here on are its bytes. False as with `begin`. */
  switchProtocols(headers: RawHeaders, protocol: string): boolean;
  /** Part of the body. False = hold back until the exchange is told `visitorDrained`. */
  write(chunk: Uint8Array): boolean;
  end(trailers: RawHeaders): void;
  /** Takes no more of the request for now. */
  hold(): void;
  release(): void;
  /** Breaks the answer off so that the visitor sees it is not whole. */
  cut(error: TunnelError): void;
}

export interface ExchangeOwner {
  /** The handshake is done: bytes pass as they are from here on. */
  onTunnel(): void;
  /** The answer is out. `whole`: so is the request, to its end. */
  onFinished(whole: boolean): void;
  /** Something moved; this long may pass until the next time, in ms. */
  onMoved(withinMs: number): void;
}

/** One request of a visitor and its answer: everything about them that no version of HTTP changes. */
export class VisitorExchange implements DispatchEvents {
  readonly #request: VisitorRequest;
  readonly #ip: string;
  readonly #writer: AnswerWriter;
  readonly #deps: VisitorDeps;
  readonly #owner: ExchangeOwner;
  readonly #record: ExchangeRecord;
  #dispatch: Dispatch | undefined;
  #bodyEnded: boolean;
  #dispatchOver = false;
  #continueSent = false;
  #informational = 0;
  /** The answer has no body to pass on. */
  #bodyless = false;
  /** What Content-Length still promises; undefined = it promised nothing. */
  #left: number | undefined;
  #answerEnded = false;
  #tunnel = false;
  #finished = false;
  #halfClosed = false;
  /** The visitor does not take what is written for it. */
  #visitorFull = false;
  /** The tunnel does not take the request's body, and the visitor is held back. */
  #uploadHeld = false;

  /** `ip`: the visitor's address. */
  constructor(request: VisitorRequest, ip: string, writer: AnswerWriter, deps: VisitorDeps, owner: ExchangeOwner) {
    this.#request = request;
    this.#ip = ip;
    this.#writer = writer;
    this.#deps = deps;
    this.#owner = owner;
    this.#bodyEnded = !request.hasBody;
    this.#record = new ExchangeRecord(request, ip, deps);
  }

  /** True once a head was sent. */
  get answered(): boolean {
    return this.#record.status !== undefined;
  }

  get waitsForBody(): boolean {
    return !this.#bodyEnded;
  }

  start(): void {
    const request = this.#request;
    this.#watch();
    if (!this.#passes(this.#record.admit())) return;
    if (request.target === "*") {
      // About a server, not about anything on it. Over QUIC a connector is told a URL, which has no place for it, and
      // would ask for `/` instead.
      this.fail(statusError(501));
      return;
    }
    const maxBytes = this.#deps.limits["body-size"];
    if (maxBytes > 0 && Number(headerValue(request.headers, "content-length") ?? 0) > maxBytes) {
      this.#refuseBody();
      return;
    }
    const destination = isLooping(request.headers)
      ? ({ kind: "loop" } as const)
      : this.#deps.dispatcher.find(hostnameOf(request.host), () => this.#visitor());
    const location = destination.kind === "unknown-hostname" ? undefined : this.#httpsLocation();
    if (location !== undefined) {
      this.#deps.counters.redirects += 1;
      this.fail(movedTo(location));
      return;
    }
    if (destination.kind !== "tunnel") {
      if (destination.kind === "no-connection" && destination.target.kind === "tunnel") {
        this.#record.tunnelId = destination.target.tunnelId;
      }
      this.fail(NO_DESTINATION[destination.kind]);
      return;
    }
    this.#record.tunnelId = destination.tunnelId;
    if (!this.#passes(this.#record.admitTo(destination.tunnelId))) return;
    const context = { ip: this.#ip, scheme: this.#deps.scheme, ray: this.#record.ray };
    const headers = tunnelHeaders(request.headers, context, this.#deps.policy);
    this.#record.trace?.toTunnel(headers);
    this.#dispatch = this.#deps.dispatcher.open(
      destination.tunnelId,
      {
        kind: request.kind,
        method: request.method,
        authority: request.host,
        path: request.target,
        headers,
        bodyless: request.kind === "http" && !request.hasBody,
      },
      this,
      destination.route,
    );
    if (request.expectContinue && !this.#bodyEnded) {
      this.#continueSent = true;
      this.#writer.inform(100, NO_TRAILERS);
    }
  }

  // ---- from the visitor ----

  bodyData(chunk: Uint8Array): void {
    if (this.#dispatch === undefined || this.#dispatchOver) return;
    this.#record.bytesIn += chunk.length;
    const maxBytes = this.#deps.limits["body-size"];
    if (maxBytes > 0 && this.#record.bytesIn > maxBytes) {
      this.#refuseBody();
      return;
    }
    if (!this.#dispatch.write(chunk)) {
      this.#uploadHeld = true;
      this.#writer.hold();
    }
    this.#watch();
  }

  bodyEnd(trailers: RawHeaders): void {
    this.#bodyEnded = true;
    this.#watch();
    // A handshake's stream stays open: what follows is not a body.
    if (this.#request.kind === "http") this.#dispatch?.end(trailers);
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
    this.#record.bytesIn += chunk.length;
    if (this.#dispatch?.write(chunk) === false) this.#writer.hold();
  }

  tunnelEnd(): void {
    this.#dispatch?.end(NO_TRAILERS);
  }

  // ---- from the tunnel ----

  onRetry(): void {
    this.#deps.counters.retries += 1;
    this.#record.retries += 1;
  }

  onInformational(status: number, headers: RawHeaders): void {
    if (this.#finished || this.answered || (status === 100 && this.#continueSent)) return;
    // They help a visitor who reads them; nobody depends on one.
    this.#informational += 1;
    if (this.#visitorFull || this.#informational > MAX_INFORMATIONAL) return;
    this.#writer.inform(status, stripHopByHop(headers));
  }

  onResponse(response: StreamResponse): void {
    if (this.#finished) return;
    this.#record.answeredBy = response.source === "origin" ? "origin" : "connector";
    if (response.source === "cloudflared") {
      this.fail(response.status === 502 ? BAD_GATEWAY : statusError(response.status));
      return;
    }
    const handshake = this.#request.kind === "websocket";
    if (handshake && response.status === 101) {
      this.#switchProtocols(response);
      return;
    }
    const { status } = response;
    const length = headerValue(response.headers, "content-length");
    if (status < 200 || (length !== undefined && !/^[0-9]{1,15}$/.test(length))) {
      this.fail(BAD_GATEWAY);
      return;
    }
    // The origin said no, so nothing follows the handshake.
    if (handshake) this.#dispatch?.end(NO_TRAILERS);
    this.#bodyless = this.#request.method === "HEAD" || status === 204 || status === 304;
    if (!this.#bodyless && length !== undefined) this.#left = Number(length);
    const headers = stripHopByHop(response.headers).filter(notContentLength);
    // Forbidden beside 204 (RFC 9110 section 8.6).
    if (length !== undefined && status !== 204) headers.push("Content-Length", length);
    headers.push("Cf-Ray", this.#record.ray);
    if (this.#hsts !== undefined && headerValue(response.headers, HSTS.toLowerCase()) === undefined)
      headers.push(HSTS, this.#hsts);
    if (!this.#writer.begin({ status, headers, bodyless: this.#bodyless, hasLength: length !== undefined })) {
      // The origin's fields cannot be sent as they are without meaning something else.
      this.fail(BAD_GATEWAY);
      return;
    }
    this.#record.answered(status);
    this.#watch();
  }

  onData(chunk: Uint8Array): void {
    if (this.#finished || this.#answerEnded || chunk.length === 0) return;
    if (!this.#tunnel) {
      if (!this.answered || this.#bodyless) return;
      if (this.#left !== undefined) {
        if (chunk.length > this.#left) {
          this.#cut("The answer is longer than its Content-Length");
          return;
        }
        this.#left -= chunk.length;
      }
      if (this.#halfClosed) this.#owner.onMoved(Number.POSITIVE_INFINITY);
    }
    this.#record.bytesOut += chunk.length;
    if (this.#writer.write(chunk)) return;
    // The origin is held back when the visitor does not keep up.
    this.#dispatch?.pause();
    if (this.#visitorFull) return;
    this.#visitorFull = true;
    this.#owner.onMoved(this.#deps.limits["write-timeout"]);
  }

  onEnd(trailers: RawHeaders): void {
    if (this.#finished || this.#answerEnded) return;
    if (this.#tunnel) {
      this.#writer.end(NO_TRAILERS);
      return;
    }
    if (!this.answered) return;
    if (this.#left !== undefined && this.#left > 0) {
      this.#cut("The answer is shorter than its Content-Length");
      return;
    }
    this.#answerEnded = true;
    this.#writer.end(allowedTrailers(trailers));
    this.#finishIfDone();
    if (!this.#finished) this.#finishEarly();
  }

  onDrain(): void {
    if (this.#finished) return;
    this.#uploadHeld = false;
    this.#watch();
    this.#writer.release();
  }

  onClose(error: TunnelError | undefined): void {
    this.#dispatchOver = true;
    if (this.#finished) return;
    if (this.#tunnel) {
      if (error !== undefined) this.#writer.cut(error);
      else this.#finish(false, undefined);
      return;
    }
    if (this.#answerEnded) return;
    if (this.answered) this.#cut(error?.message ?? "The answer ended early");
    else if (error?.code === "stream.limit") this.fail(statusError(503));
    else if (error?.retry === "elsewhere") this.fail(NO_CONNECTOR);
    else this.fail(BAD_GATEWAY);
  }

  /** Answers with an error of the edge's own, or cuts the answer that has begun. */
  fail(error: EdgeError): void {
    if (this.#finished) return;
    if (this.answered) {
      this.#cut(error.title);
      return;
    }
    this.#dispatchOver = true;
    const { headers, body } = renderError(error, this.#request.headers, this.#record.ray, this.#deps.pages);
    if (this.#hsts !== undefined) headers.push(HSTS, this.#hsts);
    this.#record.answered(error.status);
    this.#record.answeredBy ??= "edge";
    const sent = this.#request.method === "HEAD" ? undefined : body;
    this.#record.bytesOut += sent?.length ?? 0;
    this.#writer.whole(error.status, headers, sent, this.#bodyEnded);
    this.#finish(this.#bodyEnded, error.status < 400 ? undefined : error.title);
    // Last, because a stream may report its end during the call.
    this.#dispatch?.abort(new TunnelError("aborted", error.title));
  }

  // ---- inside ----

  #switchProtocols(response: StreamResponse): void {
    const headers = stripHopByHop(response.headers).filter(notContentLength);
    headers.push("Cf-Ray", this.#record.ray);
    if (!this.#writer.switchProtocols(headers, headerValue(response.headers, "upgrade") ?? "websocket")) {
      this.fail(BAD_GATEWAY);
      return;
    }
    this.#record.answered(101);
    this.#tunnel = true;
    this.#owner.onTunnel();
  }

  /**
   * Gives the visitor its time: to send the body that the origin waits for. While we hold it back, and once the answer
   * has begun, how long the body takes is the origin's affair.
   */
  #watch(): void {
    if (this.#visitorFull) return;
    const awaited = !this.#bodyEnded && !this.#uploadHeld && !this.answered;
    const bounded = awaited && !this.#request.patientBody;
    this.#owner.onMoved(bounded ? this.#deps.limits["body-timeout"] : Number.POSITIVE_INFINITY);
  }

  /** What a load balancer chooses by. */
  #visitor(): Visitor {
    const { headers } = this.#request;
    const { scheme, policy } = this.#deps;
    const secure = visitorScheme(headers, { ip: this.#ip, scheme }, policy) === "https";
    return { ip: this.#record.ip, headers, secure };
  }

  get #hsts(): string | undefined {
    return this.#deps.scheme === "https" ? this.#deps.hsts : undefined;
  }

  /** False when a limit says no, and the visitor has been told. */
  #passes(verdict: Verdict): boolean {
    if (verdict.kind === "admitted") return true;
    this.fail(tryLater(verdict.status, verdict.retryAfterS));
    return false;
  }

  #refuseBody(): void {
    this.#deps.counters.refused["body-size"] += 1;
    this.fail(statusError(413));
  }

  /** Where the request belongs when it came over plain HTTP and should not; undefined = here. */
  #httpsLocation(): string | undefined {
    const { redirectPort, scheme, policy } = this.#deps;
    if (scheme !== "http") return undefined;
    const port = redirectPort();
    const { target, headers, host } = this.#request;
    if (port === undefined || !target.startsWith("/") || target.startsWith(ACME_PATH)) return undefined;
    if (visitorScheme(headers, { ip: this.#ip, scheme }, policy) === "https") return undefined;
    const name = host.startsWith("[") ? host.slice(0, host.indexOf("]") + 1) : host.split(":", 1)[0];
    return `https://${name}${port === 443 ? "" : `:${port}`}${target}`;
  }

  #finishIfDone(): void {
    if (this.#answerEnded && this.#bodyEnded) this.#finish(true, undefined);
  }

  /** The origin answered without reading the whole request: the rest goes nowhere. */
  #finishEarly(): void {
    this.#dispatchOver = true;
    this.#finish(false, undefined);
    this.#dispatch?.abort(new TunnelError("aborted", "The answer came before the whole request"));
  }

  #cut(why: string): void {
    this.#finished = true;
    this.#report(why);
    this.#dispatch?.abort(new TunnelError("stream.protocol", why));
    this.#writer.cut(new TunnelError("stream.protocol", why));
  }

  #finish(whole: boolean, error: string | undefined): void {
    if (this.#finished) return;
    this.#finished = true;
    this.#report(error);
    this.#owner.onFinished(whole);
  }

  #report(error: string | undefined): void {
    this.#record.tunnelId = this.#dispatch?.tunnelId ?? this.#record.tunnelId;
    this.#record.close(error, this.#dispatch?.connectorId);
  }
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
