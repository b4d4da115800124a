import { createServer, type Server } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { getRequestListener } from "@hono/node-server";
import type { Hono } from "hono";
import { describe } from "../../core/errors.ts";
import type { Logger } from "../../core/log.ts";
import { ConnectionLimit } from "../../net/connection-limit.ts";
import { listenError } from "../../net/socket-errors.ts";
import type { CertifiedKey } from "../certificates.ts";
import type { ApiEnvironment } from "./app.ts";

const MAX_CONNECTIONS = 1_000;
const MAX_CONNECTIONS_PER_ADDRESS = 200;
/** How long calls may go on over connections that began with an earlier certificate, in ms: as long as any may last. */
const RENEWAL_GRACE_MS = 60_000;
/** Between attempts to listen again, in ms. */
const RELISTEN_MS = 1_000;
const MAX_HEAD_BYTES = 32 * 1024;
/** Bound on receiving one request, in ms. */
const REQUEST_TIMEOUT_MS = 30_000;
const HEADERS_TIMEOUT_MS = 15_000;
const CONNECTION_CHECK_MS = 5_000;

export interface ApiServer {
  readonly host: string;
  readonly port: number;
  /** Shows callers another certificate from now on. Never rejects; does nothing in clear text. */
  renew(certificate: CertifiedKey): Promise<void>;
  /** Ends connections without a request at once, the others after theirs or after `graceMs`. Never rejects. */
  close(graceMs: number): Promise<void>;
}

/** Serves the management API. Rejects with `listen.failed`. */
export async function startApiServer(
  app: Hono<ApiEnvironment>,
  options: {
    readonly host: string;
    readonly port: number;
    readonly certificate: CertifiedKey | undefined;
    /** Connections at once; further ones are closed. @default 1000 */
    readonly maxConnections?: number;
    /** Of one address, or of one IPv6 /64. @default 200 */
    readonly maxPerAddress?: number;
  },
  { log }: { readonly log: Logger },
): Promise<ApiServer> {
  const { host, certificate } = options;
  const limits = {
    maxHeaderSize: MAX_HEAD_BYTES,
    headersTimeout: HEADERS_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    connectionsCheckingInterval: CONNECTION_CHECK_MS,
  };
  const listener = getRequestListener(
    (request, env) => {
      const { incoming } = env as { readonly incoming: { readonly socket: { readonly remoteAddress?: string } } };
      return app.fetch(request, { ip: plainIp(incoming.socket.remoteAddress ?? "") });
    },
    // Else Request and Response are other ones from here on, for everything in this process.
    { overrideGlobalObjects: false },
  );
  const handle = (...args: Parameters<typeof listener>): void => void listener(...args);
  const connections = new ConnectionLimit({
    total: options.maxConnections ?? MAX_CONNECTIONS,
    perAddress: options.maxPerAddress ?? MAX_CONNECTIONS_PER_ADDRESS,
  });
  const open = async (key: CertifiedKey | undefined, at: number): Promise<Server> => {
    const server =
      key === undefined
        ? createServer(limits, handle)
        : createTlsServer({ ...limits, cert: key.cert, key: key.key, minVersion: "TLSv1.2" }, handle);
    // `maxConnections` of the server does nothing in Bun.
    server.on("connection", (socket) => void connections.admit(socket));
    await new Promise<void>((resolve, reject) => {
      server.once("error", (error) => reject(listenError(host, at, error)));
      server.listen({ host, port: at }, resolve);
    });
    server.on("error", (error) => log.warn("The API listener has trouble", { error: describe(error) }));
    return server;
  };
  let server = await open(certificate, options.port);
  const bound = server.address();
  const port = typeof bound === "object" && bound !== null ? bound.port : options.port;
  /** Servers that take nothing new. */
  const leaving = new Map<Server, Promise<void>>();
  const leave = (one: Server, graceMs: number): Promise<void> => {
    const left = end(one, graceMs).then(() => void leaving.delete(one));
    leaving.set(one, left);
    return left;
  };
  let closed = false;

  return {
    host,
    port,
    // Bun's servers keep the certificate they began with: a new one takes its place, and running calls go on.
    renew: async (key) => {
      if (certificate === undefined || closed) return;
      void leave(server, RENEWAL_GRACE_MS);
      while (!closed) {
        try {
          server = await open(key, port);
          if (closed) await leave(server, 0);
          return;
        } catch (error) {
          log.error("Cannot listen for API calls with the new certificate", { error: describe(error) });
          await new Promise((resolve) => setTimeout(resolve, RELISTEN_MS).unref());
        }
      }
    },
    close: async (graceMs) => {
      closed = true;
      for (const one of leaving.keys()) setTimeout(() => one.closeAllConnections(), graceMs).unref();
      if (server.listening) void leave(server, graceMs);
      await Promise.all(leaving.values());
    },
  };
}

/** Ends connections without a request at once, the others after theirs or after `graceMs`. */
function end(server: Server, graceMs: number): Promise<void> {
  return new Promise((resolve) => {
    const late = setTimeout(() => server.closeAllConnections(), graceMs);
    server.close(() => {
      clearTimeout(late);
      resolve();
    });
    server.closeIdleConnections();
  });
}

/** IPv4 without its IPv6 prefix. */
function plainIp(ip: string): string {
  return ip.replace(/^::ffff:(?=\d+\.)/, "");
}
