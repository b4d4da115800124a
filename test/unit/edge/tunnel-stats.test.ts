import { expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import type { TunnelId } from "../../../src/core/ids.ts";
import { silentLogger } from "../../../src/core/log.ts";
import { newDispatchCounters } from "../../../src/edge/dispatcher/counters.ts";
import type { AccessEntry } from "../../../src/edge/listener/visitor-deps.ts";
import { Registry } from "../../../src/edge/registry.ts";
import { openSqliteStore } from "../../../src/edge/store/sqlite/index.ts";
import { StoreWatch } from "../../../src/edge/store-watch.ts";
import { trafficMetrics } from "../../../src/edge/traffic-metrics.ts";
import { MAX_COUNTED_TUNNELS, TunnelStats } from "../../../src/edge/tunnel-stats.ts";
import { renderMetrics } from "../../../src/ops/exposition.ts";
import { ACTOR, storeTunnel } from "../../support/stored.ts";
import { VirtualClock } from "../../support/virtual-clock.ts";

function entry(tunnelId: TunnelId | undefined, change: Partial<AccessEntry> = {}): AccessEntry {
  return {
    ...{ ray: "r", ip: "192.0.2.1", scheme: "http", protocol: "HTTP/1.1", method: "GET", host: "h", target: "/" },
    ...{ headers: [], status: 200, bytesIn: 10, bytesOut: 100, firstByteMs: 7, durationMs: 9, error: undefined },
    ...{ retries: 0, tunnelId, connectorId: undefined, answeredBy: "origin" },
    ...change,
  };
}

test("counts by tunnel up to a bound, and the rest together", () => {
  const clock = new VirtualClock();
  using stack = new DisposableStack();
  const store = openSqliteStore(":memory:", randomBytes(32), clock);
  stack.defer(() => store.close());
  const stats = new TunnelStats(store);
  const watch = new StoreWatch({ store, clock, log: silentLogger });
  stack.defer(() => watch.stop());
  const web = storeTunnel(store, "web", { hostnames: ["web.example.test"] });
  stats.add(entry(web.id));
  stats.add(entry(web.id, { status: 502, firstByteMs: 3_000, protocol: "HTTP/2.0" }));
  stats.add(entry(web.id, { status: undefined, firstByteMs: undefined }));
  stats.add(entry(undefined, { status: 404 }));
  for (let i = 0; i < MAX_COUNTED_TUNNELS + 50; i += 1) stats.add(entry(crypto.randomUUID() as TunnelId));
  expect([stats.tunnels.size, stats.other.requests]).toEqual([MAX_COUNTED_TUNNELS, 51]);

  const sources = { stats, registry: new Registry(), dispatch: newDispatchCounters(), store: watch };
  const text = renderMetrics(trafficMetrics(sources), "text");
  for (const line of [
    `culvert_edge_tunnel_responses_total{tunnel="${web.id}",class="2xx"} 1`,
    `culvert_edge_tunnel_responses_total{tunnel="${web.id}",class="5xx"} 1`,
    `culvert_edge_tunnel_responses_total{tunnel="${web.id}",class="none"} 1`,
    `culvert_edge_tunnel_response_bytes_total{tunnel="${web.id}"} 300`,
    `culvert_edge_tunnel_first_byte_seconds_bucket{tunnel="${web.id}",le="0.01"} 1`,
    `culvert_edge_tunnel_first_byte_seconds_bucket{tunnel="${web.id}",le="+Inf"} 2`,
    `culvert_edge_tunnel_responses_total{tunnel="other",class="2xx"} 51`,
    `culvert_edge_tunnel_up{tunnel="${web.id}"} 0`,
    'culvert_edge_requests_by_protocol_total{protocol="HTTP/2.0"} 1',
    "culvert_edge_store_tunnels 1",
    "culvert_edge_store_hostnames 1",
  ]) {
    expect(text).toContain(`${line}\n`);
  }
  // However much is asked, no more series.
  const series = text.split("\n").length;
  for (let i = 0; i < 1_000; i += 1) stats.add(entry(crypto.randomUUID() as TunnelId, { status: 100 + (i % 900) }));
  expect(renderMetrics(trafficMetrics(sources), "text").split("\n").length).toBe(series);

  // A deleted tunnel makes room for another.
  store.tunnels.remove(web.id, ACTOR);
  expect(stats.tunnels.has(web.id)).toBe(false);
  const next = storeTunnel(store, "next");
  stats.add(entry(next.id));
  expect(stats.tunnels.get(next.id)?.requests).toBe(1);
  expect(watch.changes.tunnel).toBeGreaterThan(0);
});

test("a store that cannot be read is counted, and asked again", async () => {
  const clock = new VirtualClock();
  const store = openSqliteStore(":memory:", randomBytes(32), clock);
  const watch = new StoreWatch({ store, clock, log: silentLogger });
  store.close();
  await clock.advance(3_000);
  expect(watch.failures).toBe(3);
  expect(watch.sizes).toBeUndefined();
  watch.stop();
});
