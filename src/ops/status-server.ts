import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { listenError } from "../net/socket-errors.ts";

/** Bound on one request, in ms. */
const REQUEST_TIMEOUT_MS = 10_000;

export interface StatusServer {
  /** `host:port` it listens on. */
  readonly address: string;
  close(): Promise<void>;
}

/** Answers a GET or HEAD for this path; undefined = there is no such page. */
export type StatusPages = (path: string) => StatusPage | undefined | Promise<StatusPage | undefined>;

export interface StatusPage {
  /** @default 200 */
  readonly status?: number;
  readonly type: string;
  readonly body: string;
}

/** Serves small pages for operators and machines over plain HTTP. Rejects with `listen.failed`. */
export function startStatusServer(pages: StatusPages, host: string, port: number): Promise<StatusServer> {
  const server = createServer((request, response) => {
    answer(pages, request, response).catch((error: unknown) => {
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

async function answer(pages: StatusPages, request: IncomingMessage, response: ServerResponse): Promise<void> {
  if (request.method !== "GET" && request.method !== "HEAD") {
    response.writeHead(405, { Allow: "GET, HEAD" }).end();
    return;
  }
  const page = await pages((request.url ?? "/").split("?", 1)[0] ?? "/");
  const { status = 200, type, body } = page ?? NOT_FOUND;
  response.writeHead(status, { "Content-Type": type }).end(body);
}

const NOT_FOUND: StatusPage = { status: 404, type: "text/plain; charset=utf-8", body: "404 page not found\n" };
