import { Counter, Gauge, Registry } from "prom-client";
import { VERSION } from "../core/version.ts";
import { processMetrics } from "../ops/process-metrics.ts";
import type { AccessLogCounters } from "./access-log.ts";
import type { PublicListener } from "./listener/listener.ts";
import type { ListenerCounters } from "./listener/visitor-deps.ts";
import { COUNTED_LIMITS } from "./policy/limits.ts";
import type { Registry as TunnelRegistry } from "./registry.ts";

/** What the numbers are read from when somebody asks for them. */
export interface EdgeMetricsSources {
  readonly listener: PublicListener;
  readonly registry: TunnelRegistry;
  readonly accessLog: Readonly<AccessLogCounters> | undefined;
  /** In ms since 1970. */
  readonly certificateExpiryMs: () => number | undefined;
}

type Plain = {
  [Name in keyof ListenerCounters]: ListenerCounters[Name] extends number ? Name : never;
}[keyof ListenerCounters];

const COUNTERS: readonly (readonly [field: Plain, name: string, help: string])[] = [
  ["connections", "culvert_edge_connections_total", "Connections of visitors that were accepted"],
  ["tlsConnections", "culvert_edge_tls_connections_total", "Those of them over TLS"],
  ["handshakeFailures", "culvert_edge_tls_handshake_failures_total", "TLS handshakes that failed or took too long"],
  ["requests", "culvert_edge_requests_total", "Requests of visitors"],
  ["malformed", "culvert_edge_malformed_total", "Requests refused because they break the rules of HTTP"],
  ["timeouts", "culvert_edge_timeouts_total", "Connections and requests that stood still for too long"],
  ["retries", "culvert_edge_retries_total", "Requests that were given to another connection of their tunnel"],
  ["redirects", "culvert_edge_https_redirects_total", "Requests sent from HTTP to HTTPS"],
  ["misdirected", "culvert_edge_misdirected_total", "Requests over a connection made for another site (421)"],
  ["bytesIn", "culvert_edge_request_bytes_total", "Bytes of bodies from visitors, when their requests were over"],
  ["bytesOut", "culvert_edge_response_bytes_total", "Bytes of bodies to visitors, when their requests were over"],
];

/** Metrics of the edge. Labels come from closed lists, so that no visitor can make a series. */
export function createEdgeMetrics(sources: EdgeMetricsSources): Registry {
  const registry = new Registry();
  const registers = [registry];
  const { counters } = sources.listener;
  for (const [field, name, help] of COUNTERS) counter(registers, name, help, () => counters[field]);
  new Counter({
    name: "culvert_edge_responses_total",
    help: "Answers by class of their status; none = the visitor left before there was one",
    labelNames: ["class"],
    registers,
    collect() {
      this.reset();
      for (const [digit, count] of Object.entries(counters.answers)) {
        this.inc({ class: digit === "0" ? "none" : `${digit}xx` }, count);
      }
    },
  });
  new Counter({
    name: "culvert_edge_limited_total",
    help: "Connections and requests that a limit turned away or cut",
    labelNames: ["limit"],
    registers,
    collect() {
      this.reset();
      for (const limit of COUNTED_LIMITS) this.inc({ limit }, counters.refused[limit]);
    },
  });
  gauge(
    registers,
    "culvert_edge_open_connections",
    "Connections of visitors open now",
    sources.listener.openConnections,
  );
  gauge(
    registers,
    "culvert_edge_tunnel_connections",
    "Connections of connectors that are registered",
    () => sources.registry.size,
  );
  gauge(
    registers,
    "culvert_edge_certificate_expiry_timestamp_seconds",
    "When the first certificate runs out that does not renew itself; 0 = there is none",
    () => Math.floor((sources.certificateExpiryMs() ?? 0) / 1_000),
  );
  const { accessLog } = sources;
  if (accessLog !== undefined) {
    counter(registers, "culvert_edge_access_log_lines_total", "Lines given to the access log", () => accessLog.lines);
    counter(registers, "culvert_edge_access_log_dropped_total", "Lines it lost", () => accessLog.dropped);
  }
  new Gauge({ name: "build_info", help: "Version of this edge", labelNames: ["version"], registers }).set(
    { version: VERSION },
    1,
  );
  processMetrics(registers);
  return registry;
}

function counter(registers: Registry[], name: string, help: string, value: () => number): void {
  new Counter({
    name,
    help,
    registers,
    collect() {
      this.reset();
      this.inc(value());
    },
  });
}

function gauge(registers: Registry[], name: string, help: string, value: () => number): void {
  new Gauge({
    name,
    help,
    registers,
    collect() {
      this.set(value());
    },
  });
}
