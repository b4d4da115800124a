import { expect, test } from "bun:test";
import { createRequestTracing } from "../../../../src/ops/tracing/request-tracer.ts";
import { Tracer } from "../../../../src/ops/tracing/tracer.ts";
import type { RequestTrace } from "../../../../src/proxy/tracing.ts";
import { responseFields } from "../../../../src/transport/http2/messages.ts";
import type { StreamRequest } from "../../../../src/transport/port.ts";
import { connectResponseOf, parseConnectResponse } from "../../../../src/transport/quic/messages.ts";
import { headerValue } from "../../../../src/wire/headers.ts";
import type { Span } from "../../../../src/wire/otlp.ts";
import { CF_TRACING } from "../../../../src/wire/trace-context.ts";
import { readExportRequest } from "../../../support/otlp-collector.ts";
import { VirtualClock } from "../../../support/virtual-clock.ts";

const TRACE = "4bf92f3577b34da6a3ce929d0e0e4736";
const OTHER = "1".repeat(32);
const EDGE = "00f067aa0ba902b7";
const VISITOR = "b7ad6b7169203331";

function begin(headers: readonly string[], ratio = 1): { trace: RequestTrace; spans: Span[] } {
  const spans: Span[] = [];
  const tracer = new Tracer({ sink: { add: (span) => void spans.push(span) }, ratio, clock: new VirtualClock() });
  const source = { resource: [["service.name", "test"]], scope: { name: "culvert", version: "0" } } as const;
  const request: StreamRequest = {
    kind: "http",
    ...{ method: "GET", authority: "app.example:8080", path: "/a?b", headers, bodyless: true },
  };
  return { trace: createRequestTracing(tracer, source).begin(request), spans };
}

test("an edge that asks for spans gets one with the head, on both transports, and keeps it from visitors", () => {
  const { trace, spans } = begin(["Cf-Trace-Id", `${TRACE}:${EDGE}:0:1`]);
  trace.toOrigin("http://[::1]:3000", []);
  const told = trace.answered(204);
  const [span] = readExportRequest(Buffer.from(told ?? "", "base64"));
  expect(span).toMatchObject({ traceId: TRACE, parentSpanId: EDGE, kind: "client", service: "test" });
  expect(span?.attributes).toMatchObject({
    ...{ "http.response.status_code": 204, "server.address": "::1", "server.port": 3000 },
  });
  expect(spans).toEqual([]);
  const response = { status: 204, headers: ["X-A", "1"], source: "origin", spans: told } as const;
  expect(headerValue(responseFields(response), CF_TRACING)).toBe(told);
  const message = connectResponseOf(response, true);
  expect(message.metadata).toContain("HttpHeader:Cf-Int-Cloudflared-Tracing");
  expect(parseConnectResponse(message, "http")).toMatchObject({ response: { headers: ["X-A", "1"] } });
});

test("an edge that does not ask gets none", () => {
  for (const headers of [[], ["cf-trace-id", `${TRACE}:${EDGE}:0:0`], ["cf-trace-id", "hostile"]]) {
    const { trace } = begin(headers);
    trace.toOrigin("http://a:1", []);
    expect(trace.answered(200)).toBeUndefined();
  }
  expect(responseFields({ status: 200, headers: [], source: "origin" }).join()).not.toContain(CF_TRACING);
});

test("the edge's trace goes before the visitor's, whose state does not go with it", () => {
  const visitor = ["traceparent", `00-${OTHER}-${VISITOR}-01`, "tracestate", "vendor=1"];
  const { trace, spans } = begin([...visitor, "cf-trace-id", `${TRACE}:${EDGE}:0:1`]);
  const fields = [...visitor];
  trace.toOrigin("http://a:1", fields);
  trace.answered(200);
  trace.originEnded(undefined);
  trace.ended("served", 0, 200);
  const [client, server] = spans;
  expect(server).toMatchObject({ traceId: TRACE, parentSpanId: EDGE, traceState: "" });
  expect(client).toMatchObject({ traceId: TRACE, parentSpanId: server?.spanId });
  expect(fields).toEqual(["traceparent", `00-${TRACE}-${client?.spanId}-01`]);
});

test("a request that no service got has one span", () => {
  const { trace, spans } = begin([]);
  trace.ended("refused", undefined, 403);
  expect(spans.map(({ kind, failed }) => ({ kind, failed }))).toEqual([{ kind: "server", failed: false }]);
  expect(Object.fromEntries(spans[0]?.attributes ?? [])).toMatchObject({
    ...{ "http.response.status_code": 403, "culvert.outcome": "refused", "url.path": "/a" },
    "server.address": "app.example",
  });
});

test("a visitor that leaves ends both spans, without a status and without blame", () => {
  const { trace, spans } = begin([]);
  trace.toOrigin("http://a:1,http://b:1", []);
  trace.ended("aborted", 0, undefined);
  expect(spans.map(({ kind, failed }) => ({ kind, failed }))).toEqual([
    { kind: "client", failed: false },
    { kind: "server", failed: false },
  ]);
  // Several services: which one had it is not known here.
  expect(Object.fromEntries(spans[0]?.attributes ?? [])["server.address"]).toBeUndefined();
});

test("what is not recorded makes no span, and says so to the service", () => {
  const { trace, spans } = begin([], 0);
  const fields: string[] = [];
  trace.toOrigin("http://a:1", fields);
  trace.answered(200);
  trace.originEnded(undefined);
  trace.ended("served", 0, 200);
  expect(spans).toEqual([]);
  expect(fields[1]).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-00$/);
});
