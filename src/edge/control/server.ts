import { randomBytes, timingSafeEqual } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { describe } from "../../core/errors.ts";
import { parseTunnelId } from "../../core/ids.ts";
import type { Logger } from "../../core/log.ts";
import { ConnectionLimit } from "../../net/connection-limit.ts";
import { loopbackHost } from "../../net/loopback.ts";
import { listenError } from "../../net/socket-errors.ts";
import type { Registry } from "../registry.ts";
import { activeConnectors, countByLocation } from "./connectors.ts";
import { removeControlFile, writeControlFile } from "./control-file.ts";
import type { EdgeNumbers } from "./stats.ts";

const TOKEN_BYTES = 32;
const MAX_HEAD_BYTES = 4_096;
const MAX_CONNECTIONS = 16;
/** Bound on receiving one request, in ms; looked at every second. */
const REQUEST_TIMEOUT_MS = 2_000;

export interface ControlServerOptions {
  /** The state directory, where others find the way here. */
  readonly dir: string;
  readonly registry: Registry;
  /** Name of this place, as connectors are told. */
  readonly location: string;
  /** What the edge does; asked for each answer. */
  readonly numbers: () => EdgeNumbers;
}

export interface ControlServer {
  readonly port: number;
  /** Stops answering and takes the file away. Never rejects. */
  close(): Promise<void>;
}

type Answer = { readonly status: 200; readonly body: unknown } | { readonly status: 401 | 404 | 405 | 413 | 500 };

/**
 * Answers commands of this machine's owner about who is connected and what the edge does:
 * `GET /v1/tunnels/<id>/connections`, `GET /v1/tunnels` and `GET /v1/numbers`, on loopback, to whoever shows the token from the state directory. Rejects with `listen.failed` or
 * `store.failed`.
 */
export async function startControlServer(options: ControlServerOptions, deps: { log: Logger }): Promise<ControlServer> {
  const token = randomBytes(TOKEN_BYTES).toString("hex");
  const expected = Buffer.from(`Bearer ${token}`);
  const limits = {
    maxHeaderSize: MAX_HEAD_BYTES,
    headersTimeout: REQUEST_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    connectionsCheckingInterval: 1_000,
  };
  const server = createServer(limits, (request, response) => {
    try {
      send(response, decide(options, expected, request));
    } catch (error) {
      deps.log.error("Cannot answer a question about connectors", { error: describe(error) });
      send(response, { status: 500 });
    }
  });
  // `maxConnections` of the server does nothing in Bun.
  const connections = new ConnectionLimit({ total: MAX_CONNECTIONS, perAddress: MAX_CONNECTIONS });
  server.on("connection", (socket) => void connections.admit(socket));
  const host = await loopbackHost();
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error) => reject(listenError(host, 0, error)));
    server.listen({ host, port: 0 }, resolve);
  });
  server.on("error", (error) => deps.log.warn("The control endpoint has trouble", { error: describe(error) }));
  const bound = server.address();
  const address = { host, port: typeof bound === "object" && bound !== null ? bound.port : 0, token };
  const stop = (): Promise<void> =>
    new Promise((resolve) => {
      server.close(() => resolve());
      server.closeAllConnections();
    });
  try {
    writeControlFile(options.dir, address);
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    port: address.port,
    close: async () => {
      try {
        removeControlFile(options.dir, address);
      } catch (error) {
        deps.log.warn("Cannot take the control file away", { error: describe(error) });
      }
      await stop();
    },
  };
}

function decide(
  { registry, location, numbers }: ControlServerOptions,
  expected: Buffer,
  request: IncomingMessage,
): Answer {
  const { headers } = request;
  const given = Buffer.from(headers.authorization ?? "");
  if (given.length !== expected.length || !timingSafeEqual(given, expected)) return { status: 401 };
  if (request.method !== "GET") return { status: 405 };
  if (headers["transfer-encoding"] !== undefined || (headers["content-length"] ?? "0") !== "0") return { status: 413 };
  const path = request.url ?? "";
  if (path === "/v1/numbers") return { status: 200, body: numbers() };
  if (path === "/v1/tunnels") {
    const byTunnel = Map.groupBy(registry.all(), (connection) => connection.tunnelId);
    const body = [...byTunnel].flatMap(([id, connections]) => {
      const locations = countByLocation(
        connections.map(({ draining }) => ({ colo_name: location, is_pending_reconnect: draining })),
      );
      return locations.length === 0 ? [] : [{ id, locations }];
    });
    return { status: 200, body };
  }
  const id = parseTunnelId(/^\/v1\/tunnels\/([^/]+)\/connections$/.exec(path)?.[1] ?? "");
  return id === undefined
    ? { status: 404 }
    : { status: 200, body: activeConnectors(registry.connections(id), location) };
}

function send(response: ServerResponse, answer: Answer): void {
  const text = answer.status === 200 ? JSON.stringify(answer.body) : "";
  const length = String(Buffer.byteLength(text));
  const type = answer.status === 200 ? { "Content-Type": "application/json" } : {};
  response
    .writeHead(answer.status, { ...type, "Content-Length": length, "Cache-Control": "no-store", Connection: "close" })
    .end(text);
}
