import type { MetricFamily, Sample } from "../ops/exposition.ts";
import type { DispatchCounters } from "./dispatcher/counters.ts";
import type { Registry } from "./registry.ts";
import type { StoreWatch } from "./store-watch.ts";
import type { TunnelCounts, TunnelStats } from "./tunnel-stats.ts";

/** Label of whatever went to tunnels that are not told apart. */
const OTHER = "other";

/**
 * Metrics by tunnel, of the dispatcher and of the store. Tunnels are labelled by their id, at most
 * `MAX_COUNTED_TUNNELS` of them; every other label is from a closed list.
 */
export function* trafficMetrics(sources: {
  readonly stats: TunnelStats;
  readonly registry: Registry;
  readonly dispatch: DispatchCounters;
  readonly store: StoreWatch;
}): Iterable<MetricFamily> {
  const { stats, registry, dispatch, store } = sources;
  const tunnels: readonly (readonly [string, TunnelCounts])[] = [...stats.tunnels, [OTHER, stats.other]];
  const byTunnel = (value: (counts: TunnelCounts) => number): readonly Sample[] =>
    tunnels.map(([tunnel, counts]) => ({ labels: { tunnel }, value: value(counts) }));
  const counter = (name: string, help: string, samples: Iterable<Sample>): MetricFamily => ({
    ...{ name, help, type: "counter", samples },
  });
  const gauge = (name: string, help: string, samples: Iterable<Sample>): MetricFamily => ({
    ...{ name, help, type: "gauge", samples },
  });
  const labelled = (label: string, counts: Readonly<Record<string, number>>): readonly Sample[] =>
    Object.entries(counts).map(([name, value]) => ({ labels: { [label]: name }, value }));

  yield counter(
    "culvert_edge_tunnel_responses_total",
    "Requests to a tunnel by class of their answer; none = the visitor left before there was one",
    tunnels.flatMap(([tunnel, { answers }]) =>
      Object.entries(answers).map(([digit, value]) => ({
        labels: { tunnel, class: digit === "0" ? "none" : `${digit}xx` },
        value,
      })),
    ),
  );
  yield counter(
    "culvert_edge_tunnel_request_bytes_total",
    "Bytes of bodies from visitors of a tunnel",
    byTunnel(({ bytesIn }) => bytesIn),
  );
  yield counter(
    "culvert_edge_tunnel_response_bytes_total",
    "Bytes of bodies to visitors of a tunnel",
    byTunnel(({ bytesOut }) => bytesOut),
  );
  yield {
    name: "culvert_edge_tunnel_first_byte_seconds",
    help: "From the head of a request to that of its answer",
    type: "histogram",
    samples: tunnels.flatMap(([tunnel, { latency }]) => [...latency.samples({ tunnel })]),
  };
  yield gauge(
    "culvert_edge_tunnel_up",
    "1 = the tunnel has a connection that takes requests, 0 = it has none; tunnels that were asked",
    [...stats.tunnels.keys()].map((tunnel) => ({ labels: { tunnel }, value: registry.serves(tunnel) ? 1 : 0 })),
  );
  yield counter(
    "culvert_edge_requests_by_protocol_total",
    "Requests by the version of HTTP that carried them",
    labelled("protocol", stats.protocols),
  );
  yield counter(
    "culvert_edge_lookups_total",
    "Hostnames looked up, for requests and certificates, by what was found",
    labelled("outcome", dispatch.lookups),
  );
  yield counter(
    "culvert_edge_dispatch_streams_total",
    "Streams opened on connections of tunnels, by transport",
    labelled("protocol", dispatch.streams),
  );
  yield counter(
    "culvert_edge_dispatch_choices_total",
    "What became of requests that did not go to the first connection at once",
    labelled("choice", dispatch.choices),
  );
  yield counter(
    "culvert_edge_store_changes_total",
    "Changes of the store that were noticed; unknown = another process wrote",
    labelled("kind", store.changes),
  );
  const sizes = store.sizes;
  yield counter("culvert_edge_store_failures_total", "Times the store could not be read", [{ value: store.failures }]);
  yield gauge("culvert_edge_store_look_seconds", "How long the last look for changes of other processes took", [
    { value: store.lastLookMs / 1_000 },
  ]);
  if (sizes === undefined) return;
  yield gauge("culvert_edge_store_tunnels", "Tunnels that are not deleted", [{ value: sizes.tunnels }]);
  yield gauge("culvert_edge_store_hostnames", "Hostnames that lead to tunnels and balancers", [
    { value: sizes.hostnames },
  ]);
}
