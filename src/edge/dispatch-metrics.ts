import { Counter, Gauge, type Registry } from "prom-client";
import type { DispatchSide } from "./dispatch-side.ts";
import type { TcpCounters } from "./listener/tcp-port.ts";

const TCP: readonly (readonly [field: keyof TcpCounters, name: string, help: string])[] = [
  ["connections", "culvert_edge_tcp_connections_total", "Connections to public TCP ports"],
  ["failed", "culvert_edge_tcp_failed_total", "Those of them whose service was not reached"],
  ["refused", "culvert_edge_tcp_refused_total", "Connections to public TCP ports that a limit turned away"],
  ["bytesIn", "culvert_edge_tcp_received_bytes_total", "Bytes from visitors of TCP ports, when they were gone"],
  ["bytesOut", "culvert_edge_tcp_sent_bytes_total", "Bytes to visitors of TCP ports, when they were gone"],
];

/** Metrics of load balancers, alerts, webhooks and TCP ports. Labels are what the operator made, and closed lists. */
export function addDispatchMetrics(registry: Registry, side: DispatchSide): void {
  const registers = [registry];
  new Gauge({
    name: "culvert_edge_pool_member_healthy",
    help: "1 = this tunnel of a pool in use may get requests, 0 = it may not",
    labelNames: ["pool", "tunnel"],
    registers,
    collect() {
      this.reset();
      for (const { pool, tunnelId, enabled, trouble } of side.balancers.states()) {
        if (enabled) this.set({ pool, tunnel: tunnelId }, trouble === undefined ? 1 : 0);
      }
    },
  });
  new Gauge({
    name: "culvert_edge_alerts",
    help: "Tunnels and connectors that have been unhealthy for longer than --alert-after",
    labelNames: ["kind"],
    registers,
    collect() {
      for (const kind of ["tunnel", "connector"] as const) this.set({ kind }, side.alerts.firing(kind));
    },
  });
  new Counter({
    name: "culvert_edge_webhook_messages_total",
    help: "Webhook messages by what became of them",
    labelNames: ["outcome"],
    registers,
    collect() {
      this.reset();
      for (const [outcome, count] of Object.entries(side.webhooks.counters)) this.inc({ outcome }, count);
    },
  });
  new Gauge({
    name: "culvert_edge_tcp_open_connections",
    help: "Connections to public TCP ports open now",
    registers,
    collect() {
      this.set(side.tcpPorts.size);
    },
  });
  for (const [field, name, help] of TCP) {
    new Counter({
      ...{ name, help, registers },
      collect() {
        this.reset();
        this.inc(side.tcpCounters[field]);
      },
    });
  }
}
