import type { Clock } from "../core/clock.ts";
import { dial } from "../net/dial.ts";
import type { DialAddress } from "../net/sockets.ts";
import { OriginPool } from "./http/pool.ts";
import type { OriginEvents, OriginExchange, OriginRequest, OriginService } from "./port.ts";

/** How an HTTP service is reached and kept (surface: section 11). Times in ms. */
export interface HttpServiceOptions {
  /** As the rule names it, for logs. */
  readonly label: string;
  /** Host and port, or the path of a unix socket. */
  readonly address: DialAddress;
  readonly secure: boolean;
  readonly connectTimeoutMs: number;
  readonly tlsTimeoutMs: number;
  readonly keepAliveMs: number;
  readonly maxIdleConnections: number;
  readonly idleTimeoutMs: number;
  /** Name in the service's certificate. */
  readonly serverName: string;
  /** PEM text of the authorities to trust; undefined = the system's. */
  readonly ca: string | undefined;
  /** False accepts any certificate. */
  readonly verify: boolean;
}

/** `http`, `https` and the two over unix sockets: a pool of HTTP/1.1 connections to one address. */
export function createHttpService(options: HttpServiceOptions, clock: Clock): OriginService {
  const { address, secure } = options;
  const timeoutMs = options.connectTimeoutMs + (secure ? options.tlsTimeoutMs : 0);
  const tls = { serverName: options.serverName, ca: options.ca, verify: options.verify };
  const pool = new OriginPool({
    clock,
    connectTimeoutMs: timeoutMs,
    maxIdle: options.maxIdleConnections,
    idleTimeoutMs: options.idleTimeoutMs,
    dial: ({ signal }) =>
      // The pool has the first word on time, so that running out of it is told apart from being refused.
      dial(address, { signal, timeoutMs: timeoutMs * 2, keepAliveMs: options.keepAliveMs, ...(secure ? { tls } : {}) }),
  });
  return {
    label: options.label,
    start: () => Promise.resolve(),
    exchange: (request: OriginRequest, events: OriginEvents): OriginExchange => pool.exchange(request, events),
    close: () => Promise.resolve(pool.close()),
  };
}
