import type { Registry } from "prom-client";
import { systemCode, TunnelError } from "../core/errors.ts";
import { type StatusPage, type StatusServer, startStatusServer } from "./status-server.ts";

/** Ports tried in turn when no address is given, so that several connectors on a host can be found (surface: section 15). */
export const KNOWN_METRICS_PORTS = [20241, 20242, 20243, 20244, 20245] as const;

export interface MetricsSource {
  readonly registry: Registry;
  readonly connectorId: string;
  /** Registered connections at this moment. */
  readyConnections(): number;
  /** Hostname of a quick tunnel, else empty. */
  readonly quickTunnelHostname: string;
  /** Version and rules in force, as JSON. */
  configuration(): string;
}

/**
 * Serves `/metrics`, `/ready`, `/healthcheck`, `/quicktunnel` and `/config` as cloudflared does. An address that was asked for
 * and is taken is an error; without one the known ports are tried, then any free one.
 */
export async function startMetricsServer(
  source: MetricsSource,
  address: { host: string; port: number } | undefined,
): Promise<StatusServer> {
  const pages = (path: string): Promise<StatusPage | undefined> => page(source, path);
  if (address !== undefined) return await startStatusServer(pages, address.host, address.port);
  for (const port of [...KNOWN_METRICS_PORTS, 0]) {
    try {
      return await startStatusServer(pages, "127.0.0.1", port);
    } catch (error) {
      const inUse = error instanceof TunnelError && systemCode(error.cause) === "EADDRINUSE";
      if (!inUse || port === 0) throw error;
    }
  }
  throw new TunnelError("listen.failed", "Cannot listen for metrics: no free port");
}

async function page(source: MetricsSource, path: string): Promise<StatusPage | undefined> {
  switch (path) {
    case "/metrics":
      return { type: source.registry.contentType, body: await source.registry.metrics() };
    case "/ready": {
      const readyConnections = source.readyConnections();
      const status = readyConnections > 0 ? 200 : 503;
      const body = JSON.stringify({ status, readyConnections, connectorId: source.connectorId });
      return { status, type: "application/json", body };
    }
    case "/healthcheck":
      return { type: "text/plain; charset=utf-8", body: "OK\n" };
    case "/quicktunnel":
      return { type: "application/json", body: JSON.stringify({ hostname: source.quickTunnelHostname }) };
    case "/config":
      return { type: "application/json", body: source.configuration() };
    default:
      return undefined;
  }
}
