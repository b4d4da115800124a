import { describe, expect, test } from "bun:test";
import { connectorsOver, culvertConnector, HOST, type Lab, metricsPort, PROTOCOLS, startLab } from "../support/lab.ts";
import { field } from "../support/lab-message.ts";
import { type CollectedSpan, type Collector, startCollector } from "../support/otlp-collector.ts";
import { pollUntil } from "../support/poll-until.ts";
import { openWebSocket, visit } from "../support/visitors.ts";

const TRACE = "4bf92f3577b34da6a3ce929d0e0e4736";
const VISITOR = "00f067aa0ba902b7";

/** Spans of one trace, once there are this many. */
async function spansOf(collector: Collector, traceId: string, count: number): Promise<readonly CollectedSpan[]> {
  return await pollUntil(
    () => {
      const found = collector.spans.filter((span) => span.traceId === traceId);
      return found.length >= count ? found : undefined;
    },
    { what: `${count} spans`, deadlineMs: 10_000 },
  );
}

function only(spans: readonly CollectedSpan[], service: string, kind: CollectedSpan["kind"]): CollectedSpan {
  const found = spans.filter((span) => span.service === service && span.kind === kind);
  expect(found).toHaveLength(1);
  return found[0] as CollectedSpan;
}

function seen(lab: Lab, target: string, name: string): string | undefined {
  const request = lab.origin.seenAt(target);
  return request && field(request, name);
}

function traced(collector: Collector): { edgeFlags: string[]; connectorFlags: string[] } {
  const flags = ["--otlp-endpoint", collector.url];
  return { edgeFlags: flags, connectorFlags: flags };
}

describe.each(PROTOCOLS.map((protocol) => ({ protocol })))("over $protocol", ({ protocol }) => {
  test("the visitor, the edge, the connector and the service are one trace", async () => {
    await using collector = await startCollector();
    await using lab = await startLab(culvertConnector(protocol), traced(collector));
    await lab.served();
    const target = "/echo?token=not-for-collectors";
    const fields = [
      ["traceparent", `00-${TRACE}-${VISITOR}-01`],
      ["tracestate", "vendor=1"],
      ["cf-trace-id", `${"1".repeat(32)}:2:0:1`],
    ] as const;
    const answer = await visit(lab.port, { host: HOST, target, fields });
    expect(answer.status).toBe(200);
    expect(field(answer, "cf-int-cloudflared-tracing")).toBeUndefined();

    const spans = await spansOf(collector, TRACE, 3);
    const edge = only(spans, "culvert-edge", "server");
    const connector = only(spans, "culvert-connector", "server");
    const client = only(spans, "culvert-connector", "client");
    expect(edge.parentSpanId).toBe(VISITOR);
    expect(connector.parentSpanId).toBe(edge.spanId);
    expect(client.parentSpanId).toBe(connector.spanId);
    expect(seen(lab, target, "traceparent")).toBe(`00-${TRACE}-${client.spanId}-01`);
    expect(seen(lab, target, "tracestate")).toBe("vendor=1");
    expect(seen(lab, target, "cf-trace-id")).toBeUndefined();
    for (const span of spans) {
      expect(span).toMatchObject({ name: "GET", traceState: "vendor=1", failed: false });
      expect(span.attributes).toMatchObject({ "http.request.method": "GET", "http.response.status_code": 200 });
      expect(span.endNs).toBeGreaterThanOrEqual(span.startNs);
      expect(JSON.stringify(span.attributes)).not.toContain("not-for-collectors");
    }
    const ray = field(answer, "cf-ray");
    expect(edge.attributes).toMatchObject({ "server.address": HOST, "url.path": "/echo", "culvert.ray": ray });
    expect(connector.attributes).toMatchObject({ "culvert.rule": 0, "culvert.ray": ray, "culvert.outcome": "served" });
    expect(client.attributes).toMatchObject({ "server.address": "127.0.0.1", "server.port": lab.origin.port });
    expect(collector.requests.every((request) => request.target === "/v1/traces")).toBe(true);
  }, 30_000);

  test("what the parent does not record nobody records, and the service is told", async () => {
    await using collector = await startCollector();
    await using lab = await startLab(culvertConnector(protocol), traced(collector));
    const fields = [["traceparent", `00-${TRACE}-${VISITOR}-00`]] as const;
    await visit(lab.port, { host: HOST, target: "/echo?unsampled", fields });
    expect(seen(lab, "/echo?unsampled", "traceparent")).toBe(`00-${TRACE}-${VISITOR}-00`);
    // A hostile field begins another trace, and takes its state with it.
    const hostile = [
      ["traceparent", `00-${"0".repeat(32)}-${VISITOR}-01`],
      ["tracestate", "vendor=1"],
    ] as const;
    await visit(lab.port, { host: HOST, target: "/echo?hostile", fields: hostile });
    const [, traceId = ""] = /^00-([0-9a-f]{32})-/.exec(seen(lab, "/echo?hostile", "traceparent") ?? "") ?? [];
    expect(seen(lab, "/echo?hostile", "tracestate")).toBeUndefined();
    await spansOf(collector, traceId, 3);
    expect(collector.spans.filter((span) => span.traceId === TRACE)).toEqual([]);
  }, 30_000);

  test("a service that is not there, a WebSocket, and counters", async () => {
    await using collector = await startCollector();
    await using lab = await startLab(culvertConnector(protocol), {
      ...traced(collector),
      edgeFlags: ["--otlp-endpoint", collector.url, "--metrics", "127.0.0.1:0"],
    });
    const parent = (traceId: string) => [["traceparent", `00-${traceId}-${VISITOR}-01`]] as const;
    const [gone, socket] = ["a".repeat(32), "b".repeat(32)];
    {
      await using _websocket = await openWebSocket(lab.port, { host: HOST, target: "/ws", fields: parent(socket) });
    }
    const upgraded = await spansOf(collector, socket, 3);
    for (const span of upgraded) expect(span.attributes["http.response.status_code"]).toBe(101);
    await lab.origin[Symbol.asyncDispose]();
    expect((await visit(lab.port, { host: HOST, target: "/hello", fields: parent(gone) })).status).toBe(502);
    const failed = await spansOf(collector, gone, 3);
    expect(failed.every((span) => span.failed)).toBe(true);
    expect(only(failed, "culvert-connector", "client").attributes["error.type"]).toBe("origin.dial");
    expect(only(failed, "culvert-connector", "server").attributes).toMatchObject({
      ...{ "error.type": "origin.dial", "culvert.outcome": "failed", "http.response.status_code": 502 },
    });
    for (const port of [await metricsPort(lab.connector), lab.edge.metricsPort]) {
      const { body } = await visit(port, { host: "127.0.0.1", target: "/metrics" });
      expect(body.toString()).toMatch(/^culvert_trace_spans_exported_total [1-9]/m);
      expect(body.toString()).toMatch(/^culvert_trace_spans_dropped_total 0$/m);
    }
  }, 30_000);

  test("what is left is sent when it ends", async () => {
    await using collector = await startCollector();
    await using lab = await startLab(culvertConnector(protocol), traced(collector));
    const fields = [["traceparent", `00-${TRACE}-${VISITOR}-01`]] as const;
    await visit(lab.port, { host: HOST, target: "/hello", fields });
    lab.connector.signal("SIGTERM");
    expect(await lab.connector.exitCode(10_000)).toBe(0);
    lab.edge.process.signal("SIGTERM");
    expect(await lab.edge.process.exitCode(10_000)).toBe(0);
    expect(collector.spans.filter((span) => span.traceId === TRACE)).toHaveLength(3);
  }, 30_000);

  test("the key of a collector that takes nothing is in no log", async () => {
    await using collector = await startCollector(() => ({ status: 401 }));
    const key = "collector-key-9d1f77";
    const flags = ["--otlp-endpoint", collector.url, "--otlp-header", `Authorization=Bearer ${key}`];
    const connectorFlags = [...flags, "--loglevel", "debug"];
    await using lab = await startLab(culvertConnector(protocol), { edgeFlags: flags, connectorFlags });
    await visit(lab.port, { host: HOST, target: "/hello" });
    await lab.connector.errorLine(/Cannot export traces.*status 401/);
    await lab.edge.process.errorLine(/Cannot export traces.*status 401/);
    expect(collector.requests[0]?.headers.authorization).toBe(`Bearer ${key}`);
    expect(lab.connector.stderr).toContain("otlp-header:*****");
    expect(lab.connector.stderr + lab.edge.process.stderr).not.toContain(key);
  }, 30_000);

  test("off, nothing is sent, and nothing of a request changes but cf-trace-id", async () => {
    await using collector = await startCollector();
    await using lab = await startLab(culvertConnector(protocol));
    const fields = [["traceparent", `00-${TRACE}-${VISITOR}-01`]] as const;
    await visit(lab.port, { host: HOST, target: "/echo?off", fields });
    expect(seen(lab, "/echo?off", "traceparent")).toBe(`00-${TRACE}-${VISITOR}-01`);
    expect(seen(lab, "/echo?off", "cf-trace-id")).toBeUndefined();
    await visit(lab.port, { host: HOST, target: "/echo?bare" });
    expect(seen(lab, "/echo?bare", "traceparent")).toBeUndefined();
    const { body } = await visit(await metricsPort(lab.connector), { host: "127.0.0.1", target: "/metrics" });
    expect(body.toString()).not.toContain("culvert_trace_");
    expect(collector.requests).toEqual([]);
  }, 30_000);

  for (const kind of connectorsOver(protocol)) {
    test.skipIf(kind.missing !== undefined)(
      `${kind.name} gets the edge's trace to the service`,
      async () => {
        await using collector = await startCollector();
        await using lab = await startLab(kind, { edgeFlags: ["--otlp-endpoint", collector.url] });
        const fields = [["traceparent", `00-${TRACE}-${VISITOR}-01`]] as const;
        const answer = await visit(lab.port, { host: HOST, target: "/echo?bare", fields });
        expect(answer.status).toBe(200);
        expect(field(answer, "cf-int-cloudflared-tracing")).toBeUndefined();
        const [edge] = await spansOf(collector, TRACE, 1);
        expect(seen(lab, "/echo?bare", "traceparent")).toBe(`00-${TRACE}-${edge?.spanId}-01`);
        expect(seen(lab, "/echo?bare", "cf-trace-id")).toBeUndefined();
      },
      30_000,
    );
  }
});
