import type { Clock } from "../core/clock.ts";
import type { ErrorCode, TunnelError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import type { PathRewrite } from "../ingress/path-rewrite.ts";
import type { ByteChannel, ChannelEvents } from "../net/channel.ts";
import { pipe } from "../net/pipe.ts";
import type { OriginEvents, OriginExchange, OriginService } from "../origin/port.ts";
import type { IncomingStream, StreamRequest } from "../transport/port.ts";
import { stripHopByHop } from "../wire/h1/hop-by-hop.ts";
import { headerValue, type RawHeaders } from "../wire/headers.ts";
import type { AccessCheck } from "./access-check.ts";
import type { ByteTally, EndedRequest, ProxyObserver, RequestKind } from "./observer.ts";
import { originRequestHeaders, type RequestHeaderPolicy } from "./request-headers.ts";
import { logAnswer, logRequest } from "./request-log.ts";
import type { RequestTrace, RequestTracing } from "./tracing.ts";

/** Where a request goes: the rule that matched and its service. */
export interface Route {
  /** Number of the rule, from 0, as logs and `ingress rule` print it. */
  readonly ruleIndex: number;
  readonly service: OriginService;
  readonly headers: RequestHeaderPolicy;
  /** Who may pass; absent = everybody. */
  readonly access?: AccessCheck | undefined;
  /** What the service is asked for in place of what the visitor asked for. */
  readonly rewrite?: PathRewrite | undefined;
}

/** Decides where a request goes. `ambiguous-path`: its dot segments would change the answer. */
export type Router = (host: string, path: string) => Route | { readonly kind: "ambiguous-path" };

/** What a visitor is told where 502 would say too little. */
const STATUS_OF: { readonly [Code in ErrorCode]?: number } = {
  "origin.forbidden": 403,
  "origin.busy": 503,
  "origin.slow": 504,
  "request.too-large": 413,
};

export interface ProxyDeps {
  readonly route: Router;
  /** Serves streams that no rule is about: native TCP. */
  readonly flow: (stream: IncomingStream) => void;
  readonly clock: Clock;
  readonly log: Logger;
  readonly observer: ProxyObserver;
  /** @default no traces */
  readonly tracing?: RequestTracing | undefined;
}

/** Serves visitors' streams: finds the rule, asks its service, carries head and bytes both ways. */
export function createProxy(deps: ProxyDeps): (stream: IncomingStream) => void {
  return (stream) => {
    const request = stream.request;
    if (request.kind === "tcp") {
      deps.flow(stream);
      return;
    }
    deps.observer.requestStarted(kindOf(request));
    const trace = deps.tracing?.begin(request);
    const route = deps.route(request.authority, request.path);
    if ("kind" in route) {
      deps.log.debug("Request refused: its dot segments could reach another rule", { path: request.path });
      refuseUnread(stream, 400, { route: undefined, trace }, deps);
      return;
    }
    if (route.access === undefined) new Exchange(stream, route, trace, deps).start();
    else void startIfAllowed(stream, route, route.access, trace, deps);
  };
}

/** Until the check is through nobody listens to the stream: what comes on it waits within its window. */
async function startIfAllowed(
  stream: IncomingStream,
  route: Route,
  access: AccessCheck,
  trace: RequestTrace | undefined,
  deps: ProxyDeps,
): Promise<void> {
  const refusal = await access(stream.request.headers);
  if (refusal === undefined) {
    new Exchange(stream, route, trace, deps).start();
    return;
  }
  deps.log.debug("Request refused by the Access check", {
    ingressRule: route.ruleIndex,
    reason: refusal,
    cfRay: headerValue(stream.request.headers, "cf-ray"),
  });
  refuseUnread(stream, 403, { route, trace }, deps);
}

/** One request between its stream and its service: the service's side of it. */
class Exchange implements OriginEvents {
  readonly #stream: IncomingStream;
  readonly #route: Route;
  readonly #log: Logger;
  readonly #observer: ProxyObserver;
  readonly #clock: Clock;
  readonly #kind: RequestKind;
  readonly #startedAtMs: number;
  readonly #tally: ByteTally;
  readonly #trace: RequestTrace | undefined;
  #origin: OriginExchange | undefined;
  #status: number | undefined;
  #answeredAfterMs: number | undefined;
  #bytesToOrigin = 0;
  #bytesToVisitor = 0;
  #failed = false;
  /** What we answered in place of the service. */
  #refusal: number | undefined;
  #over = false;

  constructor(stream: IncomingStream, route: Route, trace: RequestTrace | undefined, deps: ProxyDeps) {
    this.#stream = stream;
    this.#route = route;
    this.#trace = trace;
    this.#log = deps.log;
    this.#observer = deps.observer;
    this.#clock = deps.clock;
    this.#kind = kindOf(stream.request);
    this.#startedAtMs = deps.clock.nowMs();
    this.#tally = deps.observer.tallyOf(this.#kind, route.ruleIndex);
  }

  start(): void {
    const request = this.#stream.request;
    const websocket = request.kind === "websocket";
    const { headers, rewrite } = this.#route;
    if (this.#log.enabled("debug")) logRequest(this.#log, request, this.#names());
    const { target, strippedPrefix } = rewrite?.(request.path) ?? { target: request.path, strippedPrefix: "" };
    const fields = originRequestHeaders(request.authority, request.headers, websocket, headers, strippedPrefix);
    this.#trace?.toOrigin(this.#route.service.label, fields);
    this.#origin = this.#route.service.exchange(
      {
        kind: websocket ? "websocket" : "http",
        method: request.method,
        target,
        headers: fields,
        body: websocket ? "none" : bodyKind(request),
      },
      this,
    );
    // What follows a handshake belongs to whoever is there after it: until the answer the stream stays unread.
    this.#stream.listen(new VisitorSide(this, this.#origin));
    if (websocket) this.#stream.pause();
  }

  onInformational(status: number, headers: RawHeaders): void {
    // The edge has answered 100-continue itself, before it sent the body.
    if (status !== 100) this.#stream.inform(status, stripHopByHop(headers));
  }

  onResponse(status: number, headers: RawHeaders, bodyless: boolean): void {
    const spans = this.#answered(status, headers);
    this.#stream.respond({ status, headers: stripHopByHop(headers), source: "origin", spans }, { bodyless });
    this.#stream.resume();
  }

  onUpgrade(headers: RawHeaders, channel: ByteChannel): void {
    this.#over = true;
    const spans = this.#answered(101, headers);
    this.#stream.respond({ status: 101, headers, source: "origin", spans });
    pipe(
      this.#stream,
      channel,
      (result) => {
        if (result.error?.code === "stream.limit") this.#overBudget(result.error);
        else if (result.error !== undefined) this.#debug("WebSocket ended early", result.error);
        this.#bytesToOrigin = result.forwardBytes;
        this.#bytesToVisitor = result.backwardBytes;
        this.#ended("served", 101);
      },
      (forward, backward) => {
        this.#tally.toOrigin += forward;
        this.#tally.toVisitor += backward;
      },
    );
  }

  onData(chunk: Uint8Array): void {
    this.#bytesToVisitor += chunk.length;
    this.#tally.toVisitor += chunk.length;
    if (!this.#stream.write(chunk)) this.#origin?.pause();
  }

  onEnd(trailers: RawHeaders): void {
    this.#trace?.originEnded(undefined);
    this.#stream.end(trailers);
  }

  onDrain(): void {
    this.#stream.resume();
  }

  onError(error: TunnelError): void {
    if (this.#over) return;
    this.#failed = true;
    this.#trace?.originEnded(error.code);
    this.#observer.requestFailed(error.code, this.#route.ruleIndex);
    this.#log.error(
      `Unable to reach the origin service. The service may be down or it may not be responding to traffic from culvert: ${error.message}`,
      { ...this.#names(), code: error.code },
    );
    this.#origin = undefined;
    if (this.#status === undefined) {
      this.#refusal = STATUS_OF[error.code] ?? 502;
      refuse(this.#stream, this.#refusal);
      // The visitor's body has nobody to go to any more.
      this.#stream.resume();
    } else this.#stream.abort(error);
  }

  /** Bytes of the body on their way to the service. */
  carried(bytes: number): void {
    this.#bytesToOrigin += bytes;
    this.#tally.toOrigin += bytes;
  }

  pauseVisitor(): void {
    this.#stream.pause();
  }

  /** The stream is over, properly or not. */
  visitorClosed(error: TunnelError | undefined): void {
    if (this.#over) return;
    this.#over = true;
    if (error !== undefined) {
      this.#origin?.abort();
      if (error.code === "stream.limit") this.#overBudget(error);
      else this.#debug("Request ended by the other side of the tunnel", error);
    }
    const outcome = this.#failed ? "failed" : error === undefined ? "served" : "aborted";
    this.#ended(outcome, error === undefined ? this.#status : undefined);
  }

  /** Gives what its edge is told with the answer. */
  #answered(status: number, headers: RawHeaders): string | undefined {
    this.#status = status;
    this.#answeredAfterMs = this.#clock.nowMs() - this.#startedAtMs;
    if (this.#log.enabled("debug")) logAnswer(this.#log, status, headers, this.#names());
    return this.#trace?.answered(status);
  }

  #ended(outcome: EndedRequest["outcome"], status: number | undefined): void {
    this.#trace?.ended(outcome, this.#route.ruleIndex, this.#status ?? this.#refusal);
    this.#observer.requestEnded({
      kind: this.#kind,
      request: this.#stream.request,
      rule: this.#route.ruleIndex,
      service: this.#route.service.label,
      status,
      answeredAfterMs: this.#answeredAfterMs,
      startedAtMs: this.#startedAtMs,
      endedAtMs: this.#clock.nowMs(),
      bytesToOrigin: this.#bytesToOrigin,
      bytesToVisitor: this.#bytesToVisitor,
      outcome,
    });
  }

  #overBudget(error: TunnelError): void {
    this.#observer.streamOverBudget();
    this.#log.warn(`A request was given up: ${error.message}`, this.#names());
  }

  #debug(message: string, error: TunnelError): void {
    if (this.#log.enabled("debug")) this.#log.debug(message, { ...this.#names(), error: error.message });
  }

  #names(): { ingressRule: number; originService: string; cfRay: string | undefined } {
    return {
      ingressRule: this.#route.ruleIndex,
      originService: this.#route.service.label,
      cfRay: headerValue(this.#stream.request.headers, "cf-ray"),
    };
  }
}

/** The visitor's side: the request body on its way to the service, and the end of the stream. */
class VisitorSide implements ChannelEvents {
  readonly #exchange: Exchange;
  readonly #origin: OriginExchange;

  constructor(exchange: Exchange, origin: OriginExchange) {
    this.#exchange = exchange;
    this.#origin = origin;
  }

  onData(chunk: Uint8Array): void {
    this.#exchange.carried(chunk.length);
    if (!this.#origin.write(chunk)) this.#exchange.pauseVisitor();
  }

  onEnd(trailers: RawHeaders): void {
    this.#origin.end(trailers);
  }

  onDrain(): void {
    this.#origin.resume();
  }

  onClose(error: TunnelError | undefined): void {
    this.#exchange.visitorClosed(error);
  }
}

/** Refuses a stream that no service gets; its body is read to the end and dropped. */
function refuseUnread(
  stream: IncomingStream,
  status: number,
  { route, trace }: { readonly route: Route | undefined; readonly trace: RequestTrace | undefined },
  deps: ProxyDeps,
): void {
  const { clock, observer } = deps;
  const startedAtMs = clock.nowMs();
  stream.listen({
    onData: () => {},
    onEnd: () => {},
    onDrain: () => {},
    onClose: () => {
      trace?.ended("refused", route?.ruleIndex, status);
      observer.requestEnded({
        kind: kindOf(stream.request),
        request: stream.request,
        rule: route?.ruleIndex,
        service: route?.service.label,
        status,
        answeredAfterMs: undefined,
        startedAtMs,
        endedAtMs: clock.nowMs(),
        bytesToOrigin: 0,
        bytesToVisitor: 0,
        outcome: "refused",
      });
    },
  });
  refuse(stream, status);
}

/** An answer of the connector's own making: head only (protocol: section 2.5). */
function refuse(stream: IncomingStream, status: number): void {
  stream.respond({ status, headers: [], source: "cloudflared" }, { bodyless: true });
}

function kindOf(request: StreamRequest): RequestKind {
  return request.kind === "websocket" ? "websocket" : "http";
}

function bodyKind(request: StreamRequest): "none" | "chunked" | number {
  const length = headerValue(request.headers, "content-length");
  if (length !== undefined && /^[0-9]{1,15}$/.test(length)) return Number(length);
  return request.bodyless ? "none" : "chunked";
}
