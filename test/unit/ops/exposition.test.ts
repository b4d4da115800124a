import { describe, expect, test } from "bun:test";
import { chooseFormat, type MetricFamily, renderMetrics } from "../../../src/ops/exposition.ts";
import { Histogram } from "../../../src/ops/histogram.ts";
import { MAX_SHOWN_RULES, RequestMetrics } from "../../../src/ops/request-metrics.ts";
import { TunnelMetrics } from "../../../src/ops/tunnel-metrics.ts";
import type { EndedRequest } from "../../../src/proxy/observer.ts";
import type { QuicStats } from "../../../src/transport/port.ts";
import { VirtualClock } from "../../support/virtual-clock.ts";

const text = (families: Iterable<MetricFamily>): string => renderMetrics(families, "text");
const linesOf = (families: Iterable<MetricFamily>, start: string): string[] =>
  text(families)
    .split("\n")
    .filter((line) => line.startsWith(start));

function ended(change: Partial<EndedRequest> & { readonly ray?: string }): EndedRequest {
  const headers = change.ray === undefined ? [] : ["cf-ray", change.ray];
  return {
    ...{ kind: "http", rule: 0, service: "http://a", status: 200, answeredAfterMs: 3, startedAtMs: 0, endedAtMs: 0 },
    ...{ bytesToOrigin: 0, bytesToVisitor: 0, outcome: "served" },
    request: { kind: "http", method: "GET", authority: "a", path: "/", headers, bodyless: true },
    ...change,
  };
}

describe("the two formats", () => {
  const histogram = new Histogram([1, 2]);
  const bucket = histogram.observe(1.5);
  histogram.exemplify(bucket, { labels: { ray_id: "abc" }, value: 1.5, atSeconds: 10 });
  const families: MetricFamily[] = [
    { name: "a_total", help: "Of\na", type: "counter", samples: [{ labels: { x: 'q"\\\n' }, value: 1 }] },
    { name: "cloudflared_b", help: "Of b", type: "counter", samples: [{ value: 2 }] },
    { name: "c_seconds", help: "Of c", type: "histogram", samples: histogram.samples({ rule: "0" }) },
  ];

  test("text", () => {
    const copy = families.map((family) => ({ ...family, samples: [...family.samples] }));
    expect(text(copy)).toBe(
      [
        ...["# HELP a_total Of\\na", "# TYPE a_total counter", 'a_total{x="q\\"\\\\\\n"} 1'],
        ...["# HELP cloudflared_b Of b", "# TYPE cloudflared_b counter", "cloudflared_b 2"],
        ...["# HELP c_seconds Of c", "# TYPE c_seconds histogram"],
        ...['c_seconds_bucket{rule="0",le="1"} 0', 'c_seconds_bucket{rule="0",le="2"} 1'],
        ...['c_seconds_bucket{rule="0",le="+Inf"} 1', 'c_seconds_sum{rule="0"} 1.5', 'c_seconds_count{rule="0"} 1', ""],
      ].join("\n"),
    );
  });

  test("OpenMetrics renames nothing: a counter without _total is of unknown type there", () => {
    const copy = [...families.slice(0, 2), { ...(families[2] as MetricFamily), samples: histogram.samples() }];
    const lines = renderMetrics(copy, "openmetrics").split("\n");
    expect(lines).toContain("# TYPE a counter");
    expect(lines.some((line) => line.startsWith("a_total{"))).toBe(true);
    expect(lines).toContain("# TYPE cloudflared_b unknown");
    expect(lines).toContain("cloudflared_b 2");
    expect(lines).toContain('c_seconds_bucket{le="2.0"} 1 # {ray_id="abc"} 1.5 10.000');
    expect(lines.slice(-2)).toEqual(["# EOF", ""]);
  });

  test.each([
    [undefined, "text"],
    ["*/*", "text"],
    ["application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5", "openmetrics"],
  ] as const)("whoever accepts %p gets %s", (accept, want) => {
    expect(chooseFormat(accept)).toBe(want);
  });
});

describe("requests", () => {
  test("are counted by rule and class, and by status as cloudflared does", () => {
    const metrics = new RequestMetrics(() => 0);
    for (const request of [
      ended({}),
      ended({ rule: 1, status: 404 }),
      ended({ rule: 1, status: undefined, outcome: "aborted", answeredAfterMs: undefined }),
      ended({ rule: undefined, status: 400, outcome: "refused", answeredAfterMs: undefined }),
      ended({ rule: MAX_SHOWN_RULES }),
      ended({ rule: MAX_SHOWN_RULES + 500 }),
    ]) {
      metrics.requestStarted("http");
      metrics.requestEnded(request);
    }
    const counted = linesOf(metrics.families(), "culvert_requests_total").filter((line) => !line.endsWith(" 0"));
    expect(counted).toEqual([
      'culvert_requests_total{rule="none",class="4xx"} 1',
      'culvert_requests_total{rule="0",class="2xx"} 1',
      'culvert_requests_total{rule="1",class="none"} 1',
      'culvert_requests_total{rule="1",class="4xx"} 1',
      'culvert_requests_total{rule="other",class="2xx"} 2',
    ]);
    expect(linesOf(metrics.families(), "cloudflared_tunnel_response_by_code")).toEqual([
      'cloudflared_tunnel_response_by_code{status_code="200"} 3',
      'cloudflared_tunnel_response_by_code{status_code="400"} 1',
      'cloudflared_tunnel_response_by_code{status_code="404"} 1',
    ]);
    expect(linesOf(metrics.families(), "culvert_requests_aborted_total")).toEqual(["culvert_requests_aborted_total 1"]);
    expect(linesOf(metrics.families(), "cloudflared_tunnel_concurrent")).toEqual([
      "cloudflared_tunnel_concurrent_requests_per_tunnel 0",
    ]);
  });

  test("that a service failed are counted by rule and what went wrong", () => {
    const metrics = new RequestMetrics(() => 0);
    const codes = [
      "origin.dial",
      "origin.tls",
      "origin.timeout",
      "origin.slow",
      "origin.reset",
      "origin.truncated",
    ] as const;
    for (const code of [...codes, "origin.malformed", "origin.busy", "origin.forbidden"] as const)
      metrics.requestFailed(code, 1);
    metrics.requestFailed("origin.dial", MAX_SHOWN_RULES + 5);
    const lines = linesOf(metrics.families(), "culvert_origin_errors_total");
    expect(lines.filter((line) => line.includes('rule="other"') && line.endsWith(" 1"))).toEqual([
      'culvert_origin_errors_total{rule="other",kind="dial"} 1',
    ]);
    expect(lines.filter((line) => line.includes('rule="1"'))).toEqual(
      ["dial 1", "tls 1", "timeout 2", "reset 2", "malformed 1", "busy 1", "other 1"].map((entry) => {
        const [kind, count] = entry.split(" ");
        return `culvert_origin_errors_total{rule="1",kind="${kind}"} ${count}`;
      }),
    );
  });

  test("carry bytes that are counted by rule, while they run", () => {
    const metrics = new RequestMetrics(() => 0);
    metrics.tallyOf("http", 0).toVisitor += 5;
    metrics.tallyOf("websocket", 2).toOrigin += 7;
    metrics.tallyOf("http", 0).toVisitor += 1;
    metrics.bytes.tcp.toOrigin += 9;
    const lines = linesOf(metrics.families(), "culvert_stream_bytes_total");
    expect(lines.filter((line) => !line.endsWith(" 0"))).toEqual([
      'culvert_stream_bytes_total{rule="0",kind="http",direction="to_visitor"} 6',
      'culvert_stream_bytes_total{rule="2",kind="websocket",direction="to_origin"} 7',
      'culvert_stream_bytes_total{rule="none",kind="tcp",direction="to_origin"} 9',
    ]);
  });

  test("a bucket keeps its exemplar for ten seconds, and takes no ray id that is none", () => {
    const metrics = new RequestMetrics(() => 100_000);
    const shown = (): string | undefined =>
      /ray_id="([^"]*)"/.exec(renderMetrics(metrics.families(), "openmetrics"))?.[1];
    metrics.requestEnded(ended({ ray: 'x"} 1' }));
    expect(shown()).toBeUndefined();
    metrics.requestEnded(ended({ ray: "first" }));
    metrics.requestEnded(ended({ ray: "second" }));
    expect(shown()).toBe("first");
    metrics.requestEnded(ended({ ray: "third", endedAtMs: 10_000 }));
    expect(shown()).toBe("third");
  });
});

describe("the tunnel", () => {
  test("reconnects are counted by cause, calls by method, and counters of a connection never go back", async () => {
    const clock = new VirtualClock();
    const stats: QuicStats = {
      ...{ smoothedRttMs: 7, congestionWindowBytes: 1, mtuBytes: 1350, maxUdpPayloadBytes: 1452, sentBytes: 100 },
      ...{ receivedBytes: 50, lostPackets: 2, pingsSent: 1, datagramsSent: 0, datagramsReceived: 0 },
    };
    let live = true;
    const metrics = new TunnelMetrics(clock, {
      connections: () => (live ? [{ connIndex: 0, latestRttMs: 8, minRttMs: 7, quic: stats }] : []),
      transports: () => [{ name: "quic", score: { failures: 2, retryAtMs: 0, failedReturns: 0 } }],
    });
    expect(linesOf(metrics.families(), "culvert_time_since")).toEqual([]);
    metrics.registered(0, "lis01");
    await clock.advance(1_500);
    expect(linesOf(metrics.families(), "culvert_time_since")).toEqual(["culvert_time_since_registration_seconds 1.5"]);
    const sent = () => linesOf(metrics.families(), "quic_client_sent_bytes");
    expect(sent()).toEqual(['quic_client_sent_bytes{conn_index="0"} 100']);
    metrics.attemptEnded("quic", { kind: "lost", silent: true }, false);
    metrics.attemptEnded("quic", { kind: "drained" }, true);
    live = false;
    metrics.sessionEnded(0, stats);
    metrics.unregistered(0);
    expect(sent()).toEqual(['quic_client_sent_bytes{conn_index="0"} 100']);
    live = true;
    expect(sent()).toEqual(['quic_client_sent_bytes{conn_index="0"} 200']);
    metrics.registered(0, "fra03");
    expect(linesOf(metrics.families(), "cloudflared_tunnel_server_locations")).toEqual([
      'cloudflared_tunnel_server_locations{connection_id="0",edge_location="lis01"} 0',
      'cloudflared_tunnel_server_locations{connection_id="0",edge_location="fra03"} 1',
    ]);
    expect(linesOf(metrics.families(), "culvert_reconnects_total").filter((line) => !line.endsWith(" 0"))).toEqual([
      'culvert_reconnects_total{cause="silent"} 1',
    ]);
    expect(linesOf(metrics.families(), "culvert_transport_score")).toEqual([
      'culvert_transport_score{transport="quic"} 2',
    ]);
    await metrics.call("update_local_configuration", () => Promise.reject(new Error("no"))).catch(() => {});
    await metrics.call(
      "register_connection",
      () => Promise.resolve("refused"),
      (kind) => kind === "refused",
    );
    await metrics.call(
      "register_connection",
      () => Promise.resolve("ok"),
      () => false,
    );
    const rpc = (what: string) =>
      linesOf(metrics.families(), `cloudflared_rpc_client_${what}`).filter((line) => !line.endsWith(" 0"));
    const labels = (method: string) => `{handler="registration",method="${method}"}`;
    expect(rpc("operations")).toEqual([
      `cloudflared_rpc_client_operations${labels("register_connection")} 2`,
      `cloudflared_rpc_client_operations${labels("update_local_configuration")} 1`,
    ]);
    expect(rpc("failures")).toEqual([
      `cloudflared_rpc_client_failures${labels("register_connection")} 1`,
      `cloudflared_rpc_client_failures${labels("update_local_configuration")} 1`,
    ]);
    expect(linesOf(metrics.families(), "cloudflared_config_local_config_pushes_errors")).toEqual([
      "cloudflared_config_local_config_pushes_errors 1",
    ]);
  });
});
