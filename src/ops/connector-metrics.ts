import { Counter, Gauge, Registry } from "prom-client";
import { VERSION } from "../core/version.ts";

/**
 * The connector's metrics under cloudflared's names (surface: section 16). The request path only adds to plain
 * numbers; they become metrics when somebody asks for them.
 */
export interface ConnectorMetrics {
  readonly registry: Registry;
  requestStarted(): void;
  requestEnded(status: number | undefined): void;
  requestFailed(): void;
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

export function createConnectorMetrics(): ConnectorMetrics {
  const registry = new Registry();
  const registers = [registry];
  let total = 0;
  let concurrent = 0;
  let failed = 0;
  let overBudget = 0;
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
      this.set(concurrent);
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
    requestStarted: () => {
      total += 1;
      concurrent += 1;
    },
    requestEnded: (status) => {
      concurrent -= 1;
      if (status !== undefined) byCode.set(status, (byCode.get(status) ?? 0) + 1);
    },
    requestFailed: () => {
      failed += 1;
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

function processMetrics(registers: Registry[]): void {
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
