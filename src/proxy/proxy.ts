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
import { originRequestHeaders, type RequestHeaderPolicy } from "./request-headers.ts";

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

/** What the streams are that rules are about. */
export type RequestKind = "http" | "websocket";

/** What the proxy counts; `ops` turns it into metrics. */
export interface ProxyObserver {
  requestStarted(kind: RequestKind): void;
  /** Once a request is over, however it ended. `status` is undefined when no answer went out whole. */
  requestEnded(kind: RequestKind, status: number | undefined): void;
  requestFailed(): void;
  /** A stream was failed because nobody read what came on it. */
  streamOverBudget(): void;
}

/** What a visitor is told where 502 would say too little. */
const STATUS_OF: { readonly [Code in ErrorCode]?: number } = {
  "origin.forbidden": 403,
  "origin.busy": 503,
  "origin.slow": 504,
  "request.too-large": 413,
};

/** Serves visitors' streams: finds the rule, asks its service, carries head and bytes both ways. */
export function createProxy(deps: {
  route: Router;
  /** Serves streams that no rule is about: native TCP. */
  flow: (stream: IncomingStream) => void;
  log: Logger;
  observer: ProxyObserver;
}): (stream: IncomingStream) => void {
  return (stream) => {
    const request = stream.request;
    if (request.kind === "tcp") {
      deps.flow(stream);
      return;
    }
    deps.observer.requestStarted(kindOf(request));
    const route = deps.route(request.authority, request.path);
    if ("kind" in route) {
      deps.log.debug("Request refused: its dot segments could reach another rule", { path: request.path });
      refuseUnread(stream, 400, deps.observer);
      return;
    }
    if (route.access === undefined) new Exchange(stream, route, deps).start();
    else void startIfAllowed(stream, route, route.access, deps);
  };
}

/** Until the check is through nobody listens to the stream: what comes on it waits within its window. */
async function startIfAllowed(
  stream: IncomingStream,
  route: Route,
  access: AccessCheck,
  deps: { readonly log: Logger; readonly observer: ProxyObserver },
): Promise<void> {
  const refusal = await access(stream.request.headers);
  if (refusal === undefined) {
    new Exchange(stream, route, deps).start();
    return;
  }
  deps.log.debug("Request refused by the Access check", {
    ingressRule: route.ruleIndex,
    reason: refusal,
    cfRay: headerValue(stream.request.headers, "cf-ray"),
  });
  refuseUnread(stream, 403, deps.observer);
}

/** One request between its stream and its service: the service's side of it. */
class Exchange implements OriginEvents {
  readonly #stream: IncomingStream;
  readonly #route: Route;
  readonly #log: Logger;
  readonly #observer: ProxyObserver;
  #origin: OriginExchange | undefined;
  #status: number | undefined;
  #over = false;

  constructor(stream: IncomingStream, route: Route, deps: { log: Logger; observer: ProxyObserver }) {
    this.#stream = stream;
    this.#route = route;
    this.#log = deps.log;
    this.#observer = deps.observer;
  }

  start(): void {
    const request = this.#stream.request;
    const websocket = request.kind === "websocket";
    const { headers, rewrite } = this.#route;
    const { target, strippedPrefix } = rewrite?.(request.path) ?? { target: request.path, strippedPrefix: "" };
    this.#origin = this.#route.service.exchange(
      {
        kind: websocket ? "websocket" : "http",
        method: request.method,
        target,
        headers: originRequestHeaders(request.authority, request.headers, websocket, headers, strippedPrefix),
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
    this.#status = status;
    this.#stream.respond({ status, headers: stripHopByHop(headers), source: "origin" }, { bodyless });
    this.#stream.resume();
  }

  onUpgrade(headers: RawHeaders, channel: ByteChannel): void {
    this.#over = true;
    this.#stream.respond({ status: 101, headers, source: "origin" });
    pipe(this.#stream, channel, (result) => {
      if (result.error?.code === "stream.limit") this.#overBudget(result.error);
      else if (result.error !== undefined) this.#debug("WebSocket ended early", result.error);
      this.#observer.requestEnded(kindOf(this.#stream.request), 101);
    });
  }

  onData(chunk: Uint8Array): void {
    if (!this.#stream.write(chunk)) this.#origin?.pause();
  }

  onEnd(trailers: RawHeaders): void {
    this.#stream.end(trailers);
  }

  onDrain(): void {
    this.#stream.resume();
  }

  onError(error: TunnelError): void {
    if (this.#over) return;
    this.#observer.requestFailed();
    this.#log.error(
      `Unable to reach the origin service. The service may be down or it may not be responding to traffic from culvert: ${error.message}`,
      { ...this.#names(), code: error.code },
    );
    this.#origin = undefined;
    if (this.#status === undefined) {
      refuse(this.#stream, STATUS_OF[error.code] ?? 502);
      // The visitor's body has nobody to go to any more.
      this.#stream.resume();
    } else this.#stream.abort(error);
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
    const status = error === undefined ? this.#status : undefined;
    this.#observer.requestEnded(kindOf(this.#stream.request), status);
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

/** Refuses a stream that no rule took; its body is read to the end and dropped. */
function refuseUnread(stream: IncomingStream, status: number, observer: ProxyObserver): void {
  stream.listen({
    onData: () => {},
    onEnd: () => {},
    onDrain: () => {},
    onClose: () => observer.requestEnded(kindOf(stream.request), status),
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
