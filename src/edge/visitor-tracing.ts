import { methodName, pathOf, serverAddress, spanName, type Tracer } from "../ops/tracing/tracer.ts";
import type { RawHeaders } from "../wire/headers.ts";
import type { AttributeValue } from "../wire/otlp.ts";
import {
  CF_TRACE_ID,
  formatCfTraceId,
  readTraceparent,
  readTracestate,
  setTraceparent,
  type TraceContext,
} from "../wire/trace-context.ts";
import type { AccessEntry, VisitorTrace, VisitorTracing } from "./listener/visitor-deps.ts";

/**
 * One span for each request of a visitor. What hangs below it comes from others: from the connector by `cf-trace-id`
 * (protocol: section 2.4), and from the service by `traceparent`, which every connector passes on.
 */
export function createVisitorTracing(tracer: Tracer): VisitorTracing {
  return { begin: (headers) => new Trace(headers, tracer) };
}

class Trace implements VisitorTrace {
  readonly #tracer: Tracer;
  readonly #parent: TraceContext | undefined;
  readonly #own: TraceContext;
  readonly #state: string;
  readonly #startUs: number;

  constructor(headers: RawHeaders, tracer: Tracer) {
    this.#tracer = tracer;
    this.#parent = readTraceparent(headers);
    this.#own = tracer.begin(this.#parent);
    this.#state = this.#parent === undefined ? "" : readTracestate(headers);
    this.#startUs = this.#own.sampled ? tracer.nowUs() : 0;
  }

  toTunnel(headers: string[]): void {
    setTraceparent(headers, this.#own, this.#parent !== undefined);
    headers.push(CF_TRACE_ID, formatCfTraceId(this.#own));
  }

  ended(entry: AccessEntry): void {
    if (!this.#own.sampled) return;
    const { method, status } = entry;
    const failed = status !== undefined && status >= 500;
    const attributes: [string, AttributeValue | undefined][] = [
      ["http.request.method", methodName(method)],
      ["url.scheme", entry.scheme],
      ["url.path", pathOf(entry.target)],
      ["server.address", serverAddress(entry.host)],
      ["network.protocol.version", entry.protocol.slice("HTTP/".length).replace(/^2\.0$/, "2")],
      ["http.response.status_code", status],
      ["error.type", failed ? String(status) : undefined],
      ["culvert.ray", entry.ray],
      ["culvert.tunnel", entry.tunnelId],
      ["culvert.connector", entry.connectorId],
      ["culvert.answered_by", entry.answeredBy],
      ["culvert.retries", entry.retries === 0 ? undefined : entry.retries],
    ];
    this.#tracer.sink.add({
      traceId: this.#own.traceId,
      spanId: this.#own.spanId,
      parentSpanId: this.#parent?.spanId,
      traceState: this.#state,
      name: spanName(method),
      kind: "server",
      startUs: this.#startUs,
      endUs: this.#tracer.nowUs(),
      attributes: attributes.flatMap(([key, value]) => (value === undefined ? [] : [[key, value] as const])),
      failed,
    });
  }
}
