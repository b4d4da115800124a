import { chmodSync, lstatSync, unlinkSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { connect, type ListenOptions } from "node:net";
import { describe, systemCode, TunnelError } from "../core/errors.ts";
import { listenError } from "../net/socket-errors.ts";

/** Bound on one request, in ms. */
const REQUEST_TIMEOUT_MS = 10_000;
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
export function startStatusServer(pages: StatusPages, host: string, port: number): Promise<StatusServer> {
  return start(pages, { host, port }, (error) => listenError(host, port, error));
}

/** The same on a unix socket. One that a dead process left behind is replaced. Rejects with `listen.failed`. */
export async function startStatusSocket(pages: StatusPages, path: string): Promise<StatusServer> {
  await removeStale(path);
  const failed = (error: unknown): TunnelError =>
    new TunnelError("listen.failed", `Cannot listen on ${path}: ${describe(error)}`, { cause: error });
  const server = await start(pages, { path }, failed);
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
  failure: (error: unknown) => TunnelError,
): Promise<StatusServer> {
  const server = createServer((request, response) => {
    answer(pages, request, response, where.path !== undefined).catch((error: unknown) => {
      response.statusCode = 500;
      response.end(`${describe(error)}\n`);
    });
  });
  server.requestTimeout = REQUEST_TIMEOUT_MS;
  server.headersTimeout = REQUEST_TIMEOUT_MS;
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
    from: unix ? "socket" : isLoopback(request.socket.remoteAddress ?? "") ? "loopback" : "network",
    left: left.signal,
  });
  const { status = 200, type, body, fields } = page ?? NOT_FOUND;
  response.writeHead(status, { "Content-Type": type, ...fields }).end(body);
}

function isLoopback(ip: string): boolean {
  return ip === "::1" || ip.startsWith("127.") || ip.startsWith("::ffff:127.");
}

function firstOf(field: string | string[] | undefined): string | undefined {
  return typeof field === "string" ? field : field?.[0];
}

const NOT_FOUND: StatusPage = { status: 404, type: "text/plain; charset=utf-8", body: "404 page not found\n" };
