import type { ErrorCode } from "../../core/errors.ts";
import type { EndedRequest } from "../../proxy/observer.ts";
import type { RequestTrace, RequestTracing } from "../../proxy/tracing.ts";
import type { StreamRequest } from "../../transport/port.ts";
import { encodeBytes } from "../../wire/base64.ts";
import { headerValue } from "../../wire/headers.ts";
import { type AttributeValue, encodeExportRequest, encodeSpan, type SpanSource } from "../../wire/otlp.ts";
import {
  readCfTraceId,
  readTraceparent,
  readTracestate,
  setTraceparent,
  type TraceContext,
} from "../../wire/trace-context.ts";
import { methodName, pathOf, serverAddress, spanName, type Tracer } from "./tracer.ts";

const MAX_SERVICE_CHARS = 128;
const MAX_RAY_CHARS = 64;
const DEFAULT_PORTS: { readonly [scheme: string]: number } = { http: 80, https: 443, h2c: 80 };

/**
 * Spans of a connector: one for each request (SERVER), below the one its edge made of it or the visitor's, and one
 * below that for the service's part in it (CLIENT).
 */
export function createRequestTracing(tracer: Tracer, source: SpanSource): RequestTracing {
  return { begin: (request) => new Trace(request, tracer, source) };
}

class Trace implements RequestTrace {
  readonly #request: StreamRequest;
  readonly #tracer: Tracer;
  readonly #source: SpanSource;
  /** Of the request's own span. */
  readonly #own: TraceContext;
  readonly #parent: TraceContext | undefined;
  /** What `tracestate` says of the visitor's trace; undefined = this is another trace. */
  readonly #state: string | undefined;
  readonly #startUs: number;
  /** The edge takes spans back. */
  readonly #edgeAsks: boolean;
  #origin: { readonly spanId: string; readonly startUs: number; readonly service: string } | undefined;
  #originStatus: number | undefined;
  #failure: ErrorCode | undefined;

  constructor(request: StreamRequest, tracer: Tracer, source: SpanSource) {
    this.#request = request;
    this.#tracer = tracer;
    this.#source = source;
    const { headers } = request;
    const edge = readCfTraceId(headers);
    const visitor = readTraceparent(headers);
    this.#parent = edge ?? visitor;
    this.#edgeAsks = edge?.sampled === true;
    this.#own = tracer.begin(this.#parent);
    this.#state = visitor?.traceId === this.#own.traceId ? readTracestate(headers) : undefined;
    this.#startUs = this.#own.sampled ? tracer.nowUs() : 0;
  }

  toOrigin(service: string, headers: string[]): void {
    const { sampled, traceId } = this.#own;
    const spanId = sampled ? this.#tracer.newSpanId() : this.#own.spanId;
    if (sampled) this.#origin = { spanId, startUs: this.#tracer.nowUs(), service };
    setTraceparent(headers, { traceId, spanId, sampled }, this.#state !== undefined);
  }

  answered(status: number): string | undefined {
    this.#originStatus = status;
    return this.#edgeAsks ? this.#head(status) : undefined;
  }

  originEnded(failure: ErrorCode | undefined): void {
    this.#failure = failure;
    const origin = this.#origin;
    this.#origin = undefined;
    if (origin === undefined) return;
    const status = this.#originStatus;
    const { method } = this.#request;
    const problem = failure ?? (status !== undefined && status >= 400 ? String(status) : undefined);
    this.#tracer.sink.add({
      traceId: this.#own.traceId,
      spanId: origin.spanId,
      parentSpanId: this.#own.spanId,
      traceState: this.#state ?? "",
      name: spanName(method),
      kind: "client",
      startUs: origin.startUs,
      endUs: this.#tracer.nowUs(),
      attributes: [
        ["http.request.method", methodName(method)],
        ...addressOf(origin.service),
        ...known("http.response.status_code", status),
        ...known("error.type", problem),
      ],
      failed: problem !== undefined,
    });
  }

  ended(outcome: EndedRequest["outcome"], rule: number | undefined, status: number | undefined): void {
    this.originEnded(this.#failure);
    if (!this.#own.sampled) return;
    const { authority, headers, kind, method, path } = this.#request;
    const failed = this.#failure !== undefined || (status !== undefined && status >= 500);
    this.#tracer.sink.add({
      traceId: this.#own.traceId,
      spanId: this.#own.spanId,
      parentSpanId: this.#parent?.spanId,
      traceState: this.#state ?? "",
      name: spanName(method),
      kind: "server",
      startUs: this.#startUs,
      endUs: this.#tracer.nowUs(),
      attributes: [
        ["http.request.method", methodName(method)],
        ["url.scheme", headerValue(headers, "x-forwarded-proto") === "https" ? "https" : "http"],
        ["url.path", pathOf(path)],
        ["server.address", serverAddress(authority)],
        ...known("http.response.status_code", status),
        ...known("error.type", this.#failure ?? (failed ? String(status) : undefined)),
        ["culvert.kind", kind],
        ["culvert.outcome", outcome],
        ...known("culvert.rule", rule),
        ...known("culvert.ray", headerValue(headers, "cf-ray")?.slice(0, MAX_RAY_CHARS)),
      ],
      failed,
    });
  }

  /** The service's part until the head of its answer, which is all that can be told with that head. */
  #head(status: number): string | undefined {
    const origin = this.#origin;
    if (origin === undefined) return undefined;
    const span = encodeSpan({
      traceId: this.#own.traceId,
      spanId: this.#tracer.newSpanId(),
      // Its edge need not know the span of the whole request, which is not over.
      parentSpanId: this.#parent?.spanId,
      traceState: "",
      name: "answer",
      kind: "client",
      startUs: origin.startUs,
      endUs: this.#tracer.nowUs(),
      attributes: [["http.response.status_code", status], ...addressOf(origin.service)],
      failed: false,
    });
    return encodeBytes(encodeExportRequest(this.#source, [span]));
  }
}

/** Where a service is, as far as its label tells: several services, sockets and pages of our own have no address. */
function addressOf(service: string): [string, AttributeValue][] {
  const found: [string, AttributeValue][] = [["culvert.service", service.slice(0, MAX_SERVICE_CHARS)]];
  const parts = /^([a-z0-9+]+):\/\/(\[[^\]]+\]|[^/:,]+):?([0-9]*)$/.exec(service);
  if (parts === null) return found;
  const [, scheme = "", host = "", port = ""] = parts;
  found.push(["server.address", serverAddress(host)]);
  const number = port === "" ? DEFAULT_PORTS[scheme] : Number(port);
  if (number !== undefined) found.push(["server.port", number]);
  return found;
}

function known(name: string, value: AttributeValue | undefined): [string, AttributeValue][] {
  return value === undefined ? [] : [[name, value]];
}
