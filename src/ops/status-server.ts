import { chmodSync, lstatSync, unlinkSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { connect, type ListenOptions } from "node:net";
import { describe, systemCode, TunnelError, toTunnelError } from "../core/errors.ts";
import { ConnectionLimit } from "../net/connection-limit.ts";
import { isLoopbackIp } from "../net/loopback.ts";
import { listenError } from "../net/socket-errors.ts";

/** What a server of small pages puts up with. */
export interface StatusBounds {
  /** Connections at once; further ones are closed. Each takes a file descriptor from the tunnels. */
  readonly total: number;
  /** Of one address, or of one IPv6 /64; all of a unix socket's have one. */
  readonly perAddress: number;
  /** For the arrival of one request, in ms: else its connection is closed. */
  readonly requestMs: number;
}

/** Scrapers and probes are few, and a stranger with one address leaves room for them. */
const BOUNDS: StatusBounds = { total: 256, perAddress: 64, requestMs: 10_000 };
/** Requests that are late are looked for this often for each allowed wait; a server's own 30 s would be no bound. */
const CHECKS = 5;
/** Owner and group may connect. */
const SOCKET_MODE = 0o660;

export interface StatusServer {
  /** `host:port` it listens on, or `unix:PATH`. */
  readonly address: string;
  close(): Promise<void>;
}

/** What is asked beside the path. */
export interface StatusRequest {
  readonly query: URLSearchParams;
  readonly accept: string | undefined;
  readonly authorization: string | undefined;
  readonly host: string | undefined;
  /** `Sec-Fetch-Site`: whose page made a browser ask; undefined = nobody's, or the browser does not tell. */
  readonly fetchSite: string | undefined;
  /** What it came over: a unix socket, a loopback address, which are of this machine, or anything else. */
  readonly from: "socket" | "loopback" | "network";
  /** Aborts when whoever asked has left. */
  readonly left: AbortSignal;
}

/** Answers a GET or HEAD for this path; undefined = there is no such page. */
export type StatusPages = (
  path: string,
  request: StatusRequest,
) => StatusPage | undefined | Promise<StatusPage | undefined>;

export interface StatusPage {
  /** @default 200 */
  readonly status?: number;
  readonly type: string;
  readonly body: string | Uint8Array;
  /** More header fields. */
  readonly fields?: Readonly<Record<string, string>>;
}

/** Serves small pages for operators and machines over plain HTTP. Rejects with `listen.failed`. */
export function startStatusServer(
  pages: StatusPages,
  host: string,
  port: number,
  bounds = BOUNDS,
): Promise<StatusServer> {
  return start(pages, { host, port }, bounds, (error) => listenError(host, port, error));
}

/** The same on a unix socket. One that a dead process left behind is replaced. Rejects with `listen.failed`. */
export async function startStatusSocket(pages: StatusPages, path: string, bounds = BOUNDS): Promise<StatusServer> {
  const failed = (error: unknown): TunnelError => toTunnelError(error, "listen.failed", `Cannot listen on ${path}`);
  await removeStale(path).catch((error: unknown) => {
    throw failed(error);
  });
  const server = await start(pages, { path }, bounds, failed);
  try {
    chmodSync(path, SOCKET_MODE);
  } catch (error) {
    await server.close();
    throw failed(error);
  }
  return server;
}

function start(
  pages: StatusPages,
  where: ListenOptions,
  { requestMs, ...limits }: StatusBounds,
  failure: (error: unknown) => TunnelError,
): Promise<StatusServer> {
  // Set on the server later, they would do nothing.
  const timeouts = {
    headersTimeout: requestMs,
    requestTimeout: requestMs,
    connectionsCheckingInterval: requestMs / CHECKS,
  };
  const server = createServer(timeouts, (request, response) => {
    answer(pages, request, response, where.path !== undefined).catch((error: unknown) => {
      response.statusCode = 500;
      response.end(`${describe(error)}\n`);
    });
  });
  // `maxConnections` of the server does nothing in Bun.
  const connections = new ConnectionLimit(limits);
  server.on("connection", (socket) => void connections.admit(socket));
  return new Promise((resolve, reject) => {
    server.once("error", (error) => reject(failure(error)));
    server.listen(where, () => {
      resolve({
        address: addressOf(server, where),
        close: () =>
          new Promise((closed) => {
            server.close(() => closed());
            server.closeAllConnections();
          }),
      });
    });
  });
}

function addressOf(server: Server, { path, host = "", port }: ListenOptions): string {
  if (path !== undefined) return `unix:${path}`;
  const bound = server.address();
  const boundPort = typeof bound === "object" && bound !== null ? bound.port : port;
  return host.includes(":") ? `[${host}]:${boundPort}` : `${host}:${boundPort}`;
}

/** Only a socket that nobody answers on may go. */
async function removeStale(path: string): Promise<void> {
  try {
    if (!lstatSync(path).isSocket())
      throw new TunnelError("listen.failed", `Cannot listen on ${path}: a file is there`);
  } catch (error) {
    if (systemCode(error) === "ENOENT") return;
    throw error;
  }
  const alive = await new Promise<boolean>((resolve) => {
    const socket = connect({ path });
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
  if (alive) throw new TunnelError("listen.failed", `Cannot listen on ${path}: another program does`);
  unlinkSync(path);
}

async function answer(
  pages: StatusPages,
  request: IncomingMessage,
  response: ServerResponse,
  unix: boolean,
): Promise<void> {
  if (request.method !== "GET" && request.method !== "HEAD") {
    response.writeHead(405, { Allow: "GET, HEAD" }).end();
    return;
  }
  const left = new AbortController();
  response.once("close", () => left.abort());
  const [path = "/", query = ""] = (request.url ?? "/").split("?", 2);
  const page = await pages(path, {
    query: new URLSearchParams(query),
    accept: request.headers.accept,
    authorization: request.headers.authorization,
    host: request.headers.host,
    fetchSite: firstOf(request.headers["sec-fetch-site"]),
    from: unix ? "socket" : isLoopbackIp(request.socket.remoteAddress ?? "") ? "loopback" : "network",
    left: left.signal,
  });
  const { status = 200, type, body, fields } = page ?? NOT_FOUND;
  response.writeHead(status, { "Content-Type": type, ...fields }).end(body);
}

function firstOf(field: string | string[] | undefined): string | undefined {
  return typeof field === "string" ? field : field?.[0];
}

const NOT_FOUND: StatusPage = { status: 404, type: "text/plain; charset=utf-8", body: "404 page not found\n" };
