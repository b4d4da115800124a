import type { Clock } from "../core/clock.ts";
import { dial } from "../net/dial.ts";
import type { Connection, DialAddress } from "../net/sockets.ts";
import { OriginPool } from "./http/pool.ts";
import { Http2Origin } from "./http2/service.ts";
import type { OriginEvents, OriginExchange, OriginRequest, OriginService } from "./port.ts";

/** How an HTTP service is reached and kept (surface: section 11). Times in ms. */
export interface HttpServiceOptions {
  /** As the rule names it, for logs. */
  readonly label: string;
  /** Host and port, or the path of a unix socket. */
  readonly address: DialAddress;
  readonly secure: boolean;
  /** With TLS: offered, and taken when the service chooses it. Without: spoken from the first byte. */
  readonly http2: boolean;
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

/** `http`, `https`, `h2c` and those over unix sockets: pools of connections to one address. */
export function createHttpService(options: HttpServiceOptions, clock: Clock): OriginService {
  const { secure, http2 } = options;
  const dialWith = (alpn: readonly string[] | undefined) => (how: { signal: AbortSignal }) =>
    dialService(options, alpn, how.signal);
  const common = {
    clock,
    connectTimeoutMs: connectTimeoutMs(options),
    maxIdle: options.maxIdleConnections,
    idleTimeoutMs: options.idleTimeoutMs,
  };
  // A service that was offered HTTP/2 elsewhere must not choose it where HTTP/1.1 is about to be spoken.
  const http1 = new OriginPool({ ...common, dial: dialWith(http2 ? ["http/1.1"] : undefined) });
  const origin = http2
    ? new Http2Origin(
        { ...common, dial: dialWith(["h2", "http/1.1"]), scheme: secure ? "https" : "http" },
        http1,
        secure,
      )
    : http1;
  return {
    label: options.label,
    start: () => Promise.resolve(),
    exchange: (request: OriginRequest, events: OriginEvents): OriginExchange => origin.exchange(request, events),
    close: () => Promise.resolve(origin.close()),
  };
}

function connectTimeoutMs(options: HttpServiceOptions): number {
  return options.connectTimeoutMs + (options.secure ? options.tlsTimeoutMs : 0);
}

function dialService(
  options: HttpServiceOptions,
  alpn: readonly string[] | undefined,
  signal: AbortSignal,
): Promise<Connection> {
  const { serverName, ca, verify, keepAliveMs } = options;
  const tls = { serverName, ca, verify, alpn };
  return dial(options.address, {
    signal,
    // The pool has the first word on time, so that running out of it is told apart from being refused.
    timeoutMs: connectTimeoutMs(options) * 2,
    keepAliveMs,
    ...(options.secure ? { tls } : {}),
  });
}
