import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { Registry } from "prom-client";
import { systemCode, TunnelError } from "../core/errors.ts";
import { listenError } from "../net/socket-errors.ts";

/** Ports tried in turn when no address is given, so that several connectors on a host can be found (surface: section 15). */
export const KNOWN_METRICS_PORTS = [20241, 20242, 20243, 20244, 20245] as const;

/** Bound on one scrape, in ms. */
const REQUEST_TIMEOUT_MS = 10_000;

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

export interface MetricsServer {
  /** `host:port` it listens on. */
  readonly address: string;
  close(): Promise<void>;
}

/**
 * Serves `/metrics`, `/ready`, `/healthcheck`, `/quicktunnel` and `/config` as cloudflared does. An address that was asked for
 * and is taken is an error; without one the known ports are tried, then any free one.
 */
export async function startMetricsServer(
  source: MetricsSource,
  address: { host: string; port: number } | undefined,
): Promise<MetricsServer> {
  if (address !== undefined) return await listenOn(source, address.host, address.port);
  for (const port of [...KNOWN_METRICS_PORTS, 0]) {
    try {
      return await listenOn(source, "127.0.0.1", port);
    } catch (error) {
      const inUse = error instanceof TunnelError && systemCode(error.cause) === "EADDRINUSE";
      if (!inUse || port === 0) throw error;
    }
  }
  throw new TunnelError("listen.failed", "Cannot listen for metrics: no free port");
}

function listenOn(source: MetricsSource, host: string, port: number): Promise<MetricsServer> {
  const server = createServer((request, response) => {
    answer(source, request, response).catch((error: unknown) => {
      response.statusCode = 500;
      response.end(`${error instanceof Error ? error.message : String(error)}\n`);
    });
  });
  server.requestTimeout = REQUEST_TIMEOUT_MS;
  server.headersTimeout = REQUEST_TIMEOUT_MS;
  return new Promise((resolve, reject) => {
    server.once("error", (error) => reject(listenError(host, port, error)));
    server.listen({ host, port }, () => {
      const bound = server.address();
      const boundPort = typeof bound === "object" && bound !== null ? bound.port : port;
      resolve({
        address: host.includes(":") ? `[${host}]:${boundPort}` : `${host}:${boundPort}`,
        close: () =>
          new Promise((closed) => {
            server.close(() => closed());
            server.closeAllConnections();
          }),
      });
    });
  });
}

async function answer(source: MetricsSource, request: IncomingMessage, response: ServerResponse): Promise<void> {
  if (request.method !== "GET" && request.method !== "HEAD") {
    response.writeHead(405, { Allow: "GET, HEAD" }).end();
    return;
  }
  const path = (request.url ?? "/").split("?", 1)[0];
  switch (path) {
    case "/metrics":
      response.writeHead(200, { "Content-Type": source.registry.contentType }).end(await source.registry.metrics());
      return;
    case "/ready": {
      const readyConnections = source.readyConnections();
      const status = readyConnections > 0 ? 200 : 503;
      response
        .writeHead(status, { "Content-Type": "application/json" })
        .end(JSON.stringify({ status, readyConnections, connectorId: source.connectorId }));
      return;
    }
    case "/healthcheck":
      response.writeHead(200, { "Content-Type": "text/plain; charset=utf-8" }).end("OK\n");
      return;
    case "/quicktunnel":
      response
        .writeHead(200, { "Content-Type": "application/json" })
        .end(JSON.stringify({ hostname: source.quickTunnelHostname }));
      return;
    case "/config":
      response.writeHead(200, { "Content-Type": "application/json" }).end(source.configuration());
      return;
    default:
      response.writeHead(404, { "Content-Type": "text/plain; charset=utf-8" }).end("404 page not found\n");
  }
}
