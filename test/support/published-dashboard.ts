/**
 * What the Grafana dashboards that are published for cloudflared ask Prometheus: the one of grafana.com with number 24874, and
 * the metrics that Cloudflare's documentation lists, whose names older dashboards use. `JOB` and `RATE` are filled in.
 */
const RATES = [
  ...[
    "cloudflared_tunnel_total_requests",
    "cloudflared_tunnel_request_errors",
    "cloudflared_proxy_connect_streams_errors",
  ],
  ...["cloudflared_tcp_total_sessions", "cloudflared_udp_total_sessions", "cloudflared_icmp_total_requests"],
  ...["cloudflared_icmp_total_replies", "quic_client_sent_bytes", "quic_client_receive_bytes"],
  ...["quic_client_total_connections", "quic_client_closed_connections", "quic_client_packet_too_big_dropped"],
  ...["process_cpu_seconds_total", "process_network_transmit_bytes_total", "process_network_receive_bytes_total"],
  ...["go_memstats_alloc_bytes_total", "cloudflared_config_local_config_pushes"],
  "cloudflared_config_local_config_pushes_errors",
];

const GAUGES = [
  ...["build_info", "cloudflared_tunnel_ha_connections", "cloudflared_tunnel_concurrent_requests_per_tunnel"],
  ...["cloudflared_orchestration_config_version", "cloudflared_tcp_active_sessions", "cloudflared_udp_active_sessions"],
  ...["cloudflared_tunnel_server_locations", "cloudflared_tunnel_tunnel_register_success"],
  ...["quic_client_smoothed_rtt", "quic_client_min_rtt", "quic_client_latest_rtt", "quic_client_congestion_window"],
  ...["quic_client_congestion_state", "quic_client_mtu", "quic_client_max_udp_payload"],
  ...["process_resident_memory_bytes", "process_open_fds", "process_max_fds", "process_start_time_seconds"],
  ...["process_virtual_memory_bytes", "process_virtual_memory_max_bytes"],
  ...["go_memstats_alloc_bytes", "go_memstats_heap_idle_bytes", "go_goroutines"],
];

/** By these labels, which must not be empty. */
const SUMS: readonly (readonly [name: string, ...labels: string[]])[] = [
  ["cloudflared_tunnel_response_by_code", "status_code"],
  ["quic_client_lost_packets", "conn_index", "reason"],
  ["quic_client_sent_frames", "frame_type"],
  ["quic_client_received_frames", "frame_type"],
  ["cloudflared_rpc_client_operations", "handler", "method"],
  ["cloudflared_rpc_server_operations", "handler", "method"],
];

const HISTOGRAMS = [
  "cloudflared_proxy_connect_latency",
  "cloudflared_rpc_client_latency_secs",
  "cloudflared_rpc_server_latency_secs",
];

export interface PublishedQuery {
  readonly text: string;
  /** Labels that each series of the answer has. */
  readonly labels: readonly string[];
}

/** All of them, for one job. */
export function publishedQueries(job: string): readonly PublishedQuery[] {
  const of = (name: string): string => `${name}{job=~"${job}"}`;
  const rate = (name: string): string => `rate(${of(name)}[10s])`;
  const plain = (text: string): PublishedQuery => ({ text, labels: [] });
  return [
    ...RATES.flatMap((name) => [plain(`sum(${rate(name)})`), plain(rate(name))]),
    ...GAUGES.flatMap((name) => [plain(`sum(${of(name)})`), plain(of(name))]),
    ...SUMS.flatMap(([name, ...labels]) => [
      { text: `sum by (${labels.join(", ")}) (${rate(name)})`, labels },
      { text: `sum by (${labels.join(", ")}) (increase(${of(name)}[10s]))`, labels },
    ]),
    ...HISTOGRAMS.flatMap((name) => [
      ...[0.5, 0.95, 0.99].map((q) => plain(`histogram_quantile(${q}, sum by (le) (${rate(`${name}_bucket`)}))`)),
      { text: `sum(${rate(`${name}_bucket`)}) by (le)`, labels: ["le"] },
    ]),
    plain(
      `sum(${rate("cloudflared_tunnel_request_errors")}) / sum(${rate("cloudflared_tunnel_total_requests")}) * 100`,
    ),
    plain(`sum(${rate("cloudflared_udp_total_sessions")}) * 5 / 50000 * 100`),
    { text: of("cloudflared_tunnel_server_locations"), labels: ["connection_id", "edge_location"] },
    { text: of("build_info"), labels: ["version", "goversion", "revision"] },
    { text: of("quic_client_smoothed_rtt"), labels: ["conn_index"] },
    { text: of("cloudflared_tunnel_tunnel_register_success"), labels: ["rpcName"] },
  ];
}
