import type { Clock } from "../core/clock.ts";
import type { LostLines } from "../core/log-losses.ts";
import { BUILD_DATE } from "../core/version.ts";
import type { BackendStatus, OriginLoad } from "../origin/port.ts";
import {
  EXPOSITION_TYPES,
  type ExpositionFormat,
  type MetricFamily,
  renderMetrics,
  type Sample,
} from "./exposition.ts";
import { logFamilies } from "./log-metrics.ts";
import { MAX_SHOWN_RULES, RequestMetrics } from "./request-metrics.ts";
import { processFamilies, RuntimeWatch } from "./runtime-metrics.ts";
import { type Tracing, traceFamilies } from "./tracing/tracing.ts";
import { TunnelMetrics, type TunnelMetricsSources } from "./tunnel-metrics.ts";

/** What metrics ask for when somebody reads them. */
export interface ConnectorMetricsSources extends TunnelMetricsSources {
  /** Of each rule with several services how they are, in their order; the rules by their number from 0. */
  backends(): ReadonlyMap<number, readonly BackendStatus[]>;
  /** Of each rule with `maxConnections` how many are in use, by its number from 0. */
  loads(): ReadonlyMap<number, OriginLoad>;
  /** What each rule's service is called, in the order of the rules. */
  services(): readonly string[];
  /** Bound on native TCP streams at once; 0 = none. */
  flowLimit(): number;
  readonly version: string;
  /** Undefined = there are no traces. */
  readonly tracing?: Pick<Tracing, "counters"> | undefined;
  /** What the log lost. @default nobody counts */
  readonly lostLogLines?: (() => LostLines) | undefined;
  /** Hostname of a quick tunnel, else empty. */
  readonly quickTunnelHostname: string;
}

/** Backends that have metrics, the first ones: what rules hold is not for an edge to flood a time series store with. */
export const MAX_SHOWN_BACKENDS = 1_000;
/** Longest name of a service in a label. */
const MAX_SERVICE_CHARS = 128;

/**
 * The connector's metrics: cloudflared's under their own names (surface: section 16), as far as there is something to say,
 * and ours. Labels are numbers of rules, backends and connections, and closed lists: nothing that visitors choose.
 */
export class ConnectorMetrics {
  readonly requests: RequestMetrics;
  readonly tunnel: TunnelMetrics;
  readonly #sources: ConnectorMetricsSources;
  readonly #runtime: RuntimeWatch;
  #scrapes = 0;

  constructor(sources: ConnectorMetricsSources, clock: Clock) {
    this.#sources = sources;
    this.requests = new RequestMetrics(() => clock.wallMs());
    this.tunnel = new TunnelMetrics(clock, sources);
    this.#runtime = new RuntimeWatch(clock);
  }

  /** The whole exposition with its content type. */
  render(format: ExpositionFormat): { readonly type: string; readonly body: string } {
    const body = renderMetrics(this.#families(), format);
    this.#scrapes += 1;
    return { type: EXPOSITION_TYPES[format], body };
  }

  stop(): void {
    this.#runtime.stop();
  }

  *#families(): Iterable<MetricFamily> {
    const { version, quickTunnelHostname } = this.#sources;
    yield {
      name: "build_info",
      help: "Build and version information",
      type: "gauge",
      samples: [
        {
          labels: { goversion: `bun${process.versions["bun"] ?? ""}`, type: "", revision: BUILD_DATE, version },
          value: 1,
        },
      ],
    };
    yield* this.tunnel.families();
    yield* this.requests.families();
    yield* noTraffic();
    if (quickTunnelHostname !== "") {
      yield {
        name: "cloudflared_tunnel_user_hostnames_counts",
        help: "Which user hostnames cloudflared is serving",
        type: "counter",
        samples: [{ labels: { userHostname: `https://${quickTunnelHostname}` }, value: 1 }],
      };
    }
    yield* this.#ruleFamilies();
    yield* backendFamilies(this.#sources);
    yield* traceFamilies(this.#sources.tracing);
    yield* logFamilies(this.#sources.lostLogLines?.());
    yield {
      name: "culvert_event_loop_delay_seconds",
      help: "How late timers fire, looked at once a second",
      type: "histogram",
      samples: this.#runtime.delay.samples(),
    };
    yield* processFamilies(this.requests.open + this.#sources.connections().length, this.#runtime.allocatedBytes);
    yield {
      name: "promhttp_metric_handler_requests_in_flight",
      help: "Current number of scrapes being served.",
      type: "gauge",
      samples: [{ value: 1 }],
    };
    yield {
      name: "promhttp_metric_handler_requests_total",
      help: "Total number of scrapes by HTTP status code.",
      type: "counter",
      samples: [{ labels: { code: "200" }, value: this.#scrapes }],
    };
  }

  *#ruleFamilies(): Iterable<MetricFamily> {
    const services = this.#sources.services().slice(0, MAX_SHOWN_RULES);
    yield {
      name: "culvert_rule_info",
      help: "Which service a rule has, by the number of the rule, from 0; always 1",
      type: "gauge",
      samples: services.map((service, rule) => ({
        labels: { rule: String(rule), service: service.replace(/\/\/[^/@]*@/, "//").slice(0, MAX_SERVICE_CHARS) },
        value: 1,
      })),
    };
    const loads = [...this.#sources.loads()].filter(([rule]) => rule < MAX_SHOWN_RULES);
    const each = (name: string, help: string, read: (load: OriginLoad) => number): MetricFamily => ({
      ...{ name, help, type: "gauge" },
      samples: loads.map(([rule, load]) => ({ labels: { rule: String(rule) }, value: read(load) })),
    });
    yield each(
      "culvert_origin_connections_limit",
      "Connections that a rule with maxConnections may have to its service",
      ({ limit }) => limit,
    );
    yield each("culvert_origin_connections", "Those it has, idle ones included", ({ taken }) => taken);
    yield each("culvert_origin_queue_depth", "Requests that wait for one of them", ({ waiting }) => waiting);
    yield {
      name: "culvert_tcp_streams_limit",
      help: "Native TCP streams that may be open at once; 0 = no bound",
      type: "gauge",
      samples: [{ value: this.#sources.flowLimit() }],
    };
  }
}

/** What cloudflared counts of UDP and ICMP: this connector serves neither yet, so there is none. */
function* noTraffic(): Iterable<MetricFamily> {
  const zero = (type: "counter" | "gauge", name: string, help: string): MetricFamily => ({
    ...{ name: `cloudflared_${name}`, help, type },
    samples: [{ value: 0 }],
  });
  yield zero("gauge", "udp_active_sessions", "Concurrent count of UDP sessions that are being proxied to any origin");
  yield zero("counter", "udp_total_sessions", "Total count of UDP sessions that have been proxied to any origin");
  yield zero("counter", "icmp_total_requests", "Total count of ICMP requests that have been proxied to any origin");
  yield zero("counter", "icmp_total_replies", "Total count of ICMP replies that have been proxied from any origin");
}

/** Labels are numbers, from 0 as in logs: of the rule, and of the service among those of the rule. */
function* backendFamilies(sources: ConnectorMetricsSources): Iterable<MetricFamily> {
  const shown: {
    readonly labels: { readonly rule: string; readonly backend: string };
    readonly facts: BackendStatus;
  }[] = [];
  for (const [rule, backends] of sources.backends()) {
    for (const [backend, facts] of backends.entries()) {
      if (shown.length >= MAX_SHOWN_BACKENDS) break;
      shown.push({ labels: { rule: String(rule), backend: String(backend) }, facts });
    }
  }
  const each = (read: (facts: BackendStatus) => number): Sample[] =>
    shown.map(({ labels, facts }) => ({ labels, value: read(facts) }));
  yield {
    name: "culvert_backend_up",
    help: "1 while requests go to this service of a rule",
    type: "gauge",
    samples: each(({ up }) => Number(up)),
  };
  yield {
    name: "culvert_backend_pending",
    help: "Requests this service has not answered",
    type: "gauge",
    samples: each(({ pending }) => pending),
  };
  yield {
    name: "culvert_backend_ejections_total",
    help: "Times this service was left out because requests to it failed",
    type: "counter",
    samples: each(({ ejections }) => ejections),
  };
  yield {
    name: "culvert_backend_failed_checks_total",
    help: "Health checks that this service did not pass",
    type: "counter",
    samples: each(({ failedChecks }) => failedChecks),
  };
}
