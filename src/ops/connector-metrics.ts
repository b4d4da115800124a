import { Counter, Gauge, Registry } from "prom-client";
import { VERSION } from "../core/version.ts";

/**
 * The connector's metrics under cloudflared's names (surface: section 16). The request path only adds to plain
 * numbers; they become metrics when somebody asks for them.
 */
export interface ConnectorMetrics {
  readonly registry: Registry;
  requestStarted(kind: "http" | "websocket"): void;
  requestEnded(kind: "http" | "websocket", status: number | undefined): void;
  requestFailed(): void;
  /** A native TCP stream began to be served. */
  flowStarted(): void;
  flowEnded(): void;
  /** A stream was failed because nobody read what came on it. */
  streamOverBudget(): void;
  /** A connection registered at `location`. */
  registered(connIndex: number, location: string): void;
  /** A registered connection ended. */
  unregistered(connIndex: number): void;
  registrationFailed(error: string): void;
  /** Rules were applied as this version, or refused. */
  configured(result: "applied" | "refused", version: number | undefined): void;
}

/** What metrics ask for when somebody reads them. */
export interface ConnectorMetricsSources {
  /** Of each rule with several services how they are, in their order; the rules by their number from 0. */
  backends(): ReadonlyMap<number, readonly BackendFacts[]>;
}

export interface BackendFacts {
  readonly up: boolean;
  readonly pending: number;
  readonly ejections: number;
  readonly failedChecks: number;
}

/** Backends that have metrics, the first ones: what rules hold is not for an edge to flood a time series store with. */
export const MAX_SHOWN_BACKENDS = 1_000;

export function createConnectorMetrics(sources: ConnectorMetricsSources): ConnectorMetrics {
  const registry = new Registry();
  const registers = [registry];
  let total = 0;
  const open = { http: 0, websocket: 0 };
  let failed = 0;
  let overBudget = 0;
  let flows = 0;
  let activeFlows = 0;
  const byCode = new Map<number, number>();
  const live = new Map<number, string>();

  new Counter({
    name: "cloudflared_tunnel_total_requests",
    help: "Amount of requests proxied through all the tunnels",
    registers,
    collect() {
      this.reset();
      this.inc(total);
    },
  });
  new Gauge({
    name: "cloudflared_tunnel_concurrent_requests_per_tunnel",
    help: "Concurrent requests proxied through each tunnel",
    registers,
    collect() {
      this.set(open.http + open.websocket);
    },
  });
  new Counter({
    name: "cloudflared_tunnel_response_by_code",
    help: "Count of responses by HTTP status code",
    labelNames: ["status_code"],
    registers,
    collect() {
      this.reset();
      for (const [status, count] of byCode) this.inc({ status_code: String(status) }, count);
    },
  });
  new Counter({
    name: "cloudflared_tunnel_request_errors",
    help: "Count of error proxying to origin",
    registers,
    collect() {
      this.reset();
      this.inc(failed);
    },
  });
  new Counter({
    name: "culvert_tunnel_streams_over_budget_total",
    help: "Streams failed because more lay unread than their transport may keep",
    registers,
    collect() {
      this.reset();
      this.inc(overBudget);
    },
  });
  new Gauge({
    name: "cloudflared_tcp_active_sessions",
    help: "Concurrent count of TCP sessions that are being proxied to any origin",
    registers,
    collect() {
      this.set(activeFlows);
    },
  });
  new Counter({
    name: "cloudflared_tcp_total_sessions",
    help: "Total count of TCP sessions that have been proxied to any origin",
    registers,
    collect() {
      this.reset();
      this.inc(flows);
    },
  });
  new Gauge({
    name: "culvert_streams_open",
    help: "Visitors' streams that are being served: requests, WebSockets, and native TCP",
    labelNames: ["kind"],
    registers,
    collect() {
      for (const [kind, count] of Object.entries({ ...open, tcp: activeFlows })) this.set({ kind }, count);
    },
  });
  backendMetrics(sources, registers);
  new Gauge({
    name: "cloudflared_tunnel_ha_connections",
    help: "Number of active ha connections",
    registers,
    collect() {
      this.set(live.size);
    },
  });
  const locations = new Gauge({
    name: "cloudflared_tunnel_server_locations",
    help: "Where each tunnel is connected to. 1 means current location, 0 means previous locations.",
    labelNames: ["connection_id", "edge_location"],
    registers,
  });
  const success = new Counter({
    name: "cloudflared_tunnel_tunnel_register_success",
    help: "Count of successful tunnel registrations",
    labelNames: ["rpcName"],
    registers,
  });
  const failure = new Counter({
    name: "cloudflared_tunnel_tunnel_register_fail",
    help: "Count of tunnel registration errors by type",
    labelNames: ["error", "rpcName"],
    registers,
  });
  const reloads = new Counter({
    name: "culvert_config_reloads_total",
    help: "Times other ingress rules came, from this machine or an edge, while the connector ran",
    labelNames: ["result"],
    registers,
  });
  for (const result of ["applied", "refused"]) reloads.inc({ result }, 0);
  const version = new Gauge({
    name: "cloudflared_orchestration_config_version",
    help: "Configuration Version",
    registers,
  });
  version.set(-1);
  new Gauge({
    name: "build_info",
    help: "Build and version information",
    labelNames: ["goversion", "type", "revision", "version"],
    registers,
  }).set({ goversion: "", type: "", revision: "", version: VERSION }, 1);
  processMetrics(registers);

  return {
    registry,
    requestStarted: (kind) => {
      total += 1;
      open[kind] += 1;
    },
    requestEnded: (kind, status) => {
      open[kind] -= 1;
      if (status !== undefined) byCode.set(status, (byCode.get(status) ?? 0) + 1);
    },
    requestFailed: () => {
      failed += 1;
    },
    flowStarted: () => {
      flows += 1;
      activeFlows += 1;
    },
    flowEnded: () => {
      activeFlows -= 1;
    },
    streamOverBudget: () => {
      overBudget += 1;
    },
    registered: (connIndex, location) => {
      const before = live.get(connIndex);
      if (before !== undefined) locations.set({ connection_id: String(connIndex), edge_location: before }, 0);
      live.set(connIndex, location);
      locations.set({ connection_id: String(connIndex), edge_location: location }, 1);
      success.inc({ rpcName: "registerConnection" });
    },
    unregistered: (connIndex) => {
      const location = live.get(connIndex);
      if (location === undefined) return;
      live.delete(connIndex);
      locations.set({ connection_id: String(connIndex), edge_location: location }, 0);
    },
    configured: (result, applied) => {
      reloads.inc({ result });
      if (applied !== undefined) version.set(applied);
    },
    registrationFailed: (error) => failure.inc({ error, rpcName: "registerConnection" }),
  };
}

/** Labels are numbers, from 0 as in logs: of the rule, and of the service among those of the rule. */
function backendMetrics(sources: ConnectorMetricsSources, registers: Registry[]): void {
  const labelNames = ["rule", "backend"];
  const each = (show: (labels: { rule: string; backend: string }, facts: BackendFacts) => void): void => {
    let shown = 0;
    for (const [rule, backends] of sources.backends()) {
      for (const [backend, facts] of backends.entries()) {
        if (shown >= MAX_SHOWN_BACKENDS) return;
        shown += 1;
        show({ rule: String(rule), backend: String(backend) }, facts);
      }
    }
  };
  const gauges = [
    ["culvert_backend_up", "1 while requests go to this service of a rule", (facts: BackendFacts) => Number(facts.up)],
    ["culvert_backend_pending", "Requests this service has not answered", (facts: BackendFacts) => facts.pending],
  ] as const;
  for (const [name, help, read] of gauges) {
    new Gauge({
      ...{ name, help, labelNames, registers },
      collect() {
        this.reset();
        each((labels, facts) => this.set(labels, read(facts)));
      },
    });
  }
  const counters = [
    [
      "culvert_backend_ejections_total",
      "Times this service was left out because requests to it failed",
      (facts: BackendFacts) => facts.ejections,
    ],
    [
      "culvert_backend_failed_checks_total",
      "Health checks that this service did not pass",
      (facts: BackendFacts) => facts.failedChecks,
    ],
  ] as const;
  for (const [name, help, read] of counters) {
    new Counter({
      ...{ name, help, labelNames, registers },
      collect() {
        this.reset();
        each((labels, facts) => this.inc(labels, read(facts)));
      },
    });
  }
}

/** Memory and processor time of this process, under the names every exporter uses. */
export function processMetrics(registers: Registry[]): void {
  new Gauge({
    name: "process_resident_memory_bytes",
    help: "Resident memory size in bytes.",
    registers,
    collect() {
      this.set(process.memoryUsage().rss);
    },
  });
  new Counter({
    name: "process_cpu_seconds_total",
    help: "Total user and system CPU time spent in seconds.",
    registers,
    collect() {
      const { user, system } = process.cpuUsage();
      this.reset();
      this.inc((user + system) / 1_000_000);
    },
  });
}
