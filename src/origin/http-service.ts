import type { CancelTimer, Clock } from "../core/clock.ts";
import { TunnelError } from "../core/errors.ts";
import { dialName, type NameDialOptions } from "../net/happy-eyeballs.ts";
import type { Connection, DialAddress } from "../net/sockets.ts";
import { headerValue } from "../wire/headers.ts";
import { encodeProxyHeader, type ProxyProtocolVersion } from "../wire/proxy-protocol.ts";
import { OriginPool } from "./http/pool.ts";
import { withSizedBodies } from "./http/sized-bodies.ts";
import { ConnectionSlots } from "./http/slots.ts";
import { Http2Origin } from "./http2/service.ts";
import type { OriginEvents, OriginExchange, OriginLoad, OriginRequest, OriginService } from "./port.ts";
import type { TlsFiles } from "./tls-files.ts";

/** Server names with connections of their own (`matchSNItoHost`); visitors choose them, so the least used one goes. */
export const MAX_SERVER_NAMES = 64;

/** What stands for "as long as the system tries", whose own limit is minutes. */
const UNBOUNDED_MS = 24 * 3_600_000;

/** How an HTTP service is reached and kept (surface: section 11). Times in ms. */
export interface HttpServiceOptions {
  /** As the rule names it, for logs. */
  readonly label: string;
  /** Host and port, or the path of a unix socket. */
  readonly address: DialAddress;
  readonly secure: boolean;
  /** With TLS: offered, and taken when the service chooses it. Without: spoken from the first byte. */
  readonly http2: boolean;
  /** 0 = for as long as the system tries. */
  readonly connectTimeoutMs: number;
  /** From the connection to the end of the TLS handshake; 0 = for ever. */
  readonly tlsTimeoutMs: number;
  readonly keepAliveMs: number;
  readonly maxIdleConnections: number;
  readonly idleTimeoutMs: number;
  /** False: a name's addresses are tried one after another (`noHappyEyeballs`). */
  readonly raceAddresses: boolean;
  /** Name in the service's certificate. */
  readonly serverName: string;
  /** The Host of each request takes the place of `serverName` (`matchSNItoHost`). */
  readonly serverNameFromHost: boolean;
  /** Absent = the system's authorities, and no certificate of our own. */
  readonly tlsFiles: TlsFiles | undefined;
  /** False accepts any certificate. */
  readonly verify: boolean;
  /** Tells the service who the visitor is, in front of each connection, which then carries one request only. */
  readonly proxyProtocol: ProxyProtocolVersion | undefined;
  /** HTTP/1.1 connections at once, and HTTP/2 ones for each server name; 0 = no bound. */
  readonly maxConnections: number;
  /** From the end of the request to the head of the answer; 0 = for ever. */
  readonly answerTimeoutMs: number;
  /** False: bodies of unknown length are gathered first (`disableChunkedEncoding`). */
  readonly chunkedRequests: boolean;
}

/** `http`, `https`, `h2c` and those over unix sockets: pools of connections to one address. */
export function createHttpService(options: HttpServiceOptions, clock: Clock): OriginService {
  const origins = new Origins(options, clock);
  const exchange = (request: OriginRequest, events: OriginEvents): OriginExchange =>
    origins.for(request).exchange(request, events);
  return {
    label: options.label,
    start: () => Promise.resolve(),
    exchange: options.chunkedRequests ? exchange : withSizedBodies(exchange),
    close: () => Promise.resolve(origins.close()),
    load: () => origins.load,
  };
}

type Origin = OriginPool | Http2Origin;

/** Connections of one service: those with another server name, or with other certificates, are kept apart. */
class Origins {
  readonly #options: HttpServiceOptions;
  readonly #clock: Clock;
  readonly #slots: ConnectionSlots | undefined;
  /** The least recently used first. */
  readonly #byName = new Map<string, Origin>();
  #version: number;
  #closed = false;

  constructor(options: HttpServiceOptions, clock: Clock) {
    this.#options = options;
    this.#clock = clock;
    this.#version = options.tlsFiles?.current().version ?? 0;
    this.#slots =
      options.maxConnections === 0
        ? undefined
        : new ConnectionSlots(options.maxConnections, clock, connectTimeoutMs(options));
  }

  for(request: OriginRequest): Origin {
    const version = this.#options.tlsFiles?.current().version ?? 0;
    // What was agreed with the old certificates must not outlive them.
    if (version !== this.#version) this.#dropAll();
    this.#version = version;
    const name = this.#serverName(request);
    const known = this.#byName.get(name);
    if (known !== undefined && this.#byName.size === 1) return known;
    this.#byName.delete(name);
    const origin = known ?? this.#create(name);
    this.#byName.set(name, origin);
    if (this.#closed) this.#dropAll();
    if (this.#byName.size > MAX_SERVER_NAMES) this.#dropOldest();
    return origin;
  }

  get load(): OriginLoad | undefined {
    return this.#slots?.load;
  }

  close(): void {
    this.#closed = true;
    this.#dropAll();
  }

  #dropAll(): void {
    for (const origin of this.#byName.values()) origin.close();
    this.#byName.clear();
  }

  #dropOldest(): void {
    const [name, origin] = this.#byName.entries().next().value ?? [];
    if (name !== undefined) this.#byName.delete(name);
    origin?.close();
  }

  #serverName(request: OriginRequest): string {
    const { serverNameFromHost, serverName } = this.#options;
    if (!serverNameFromHost) return serverName;
    const name = hostWithoutPort(headerValue(request.headers, "host") ?? "");
    return name === "" ? serverName : name;
  }

  #create(serverName: string): Origin {
    const { secure, http2, maxIdleConnections, idleTimeoutMs, maxConnections, proxyProtocol } = this.#options;
    const clock = this.#clock;
    const common = {
      clock,
      connectTimeoutMs: connectTimeoutMs(this.#options),
      maxIdle: proxyProtocol === undefined ? maxIdleConnections : 0,
      idleTimeoutMs,
      answerTimeoutMs: this.#options.answerTimeoutMs,
    };
    const dialWith = (alpn: readonly string[] | undefined) => (how: { signal: AbortSignal; request?: OriginRequest }) =>
      this.#dial(serverName, alpn, how.signal, how.request);
    // A service that was offered HTTP/2 elsewhere must not choose it where HTTP/1.1 is about to be spoken.
    const http1 = new OriginPool({
      ...common,
      dial: dialWith(http2 ? ["http/1.1"] : undefined),
      slots: this.#slots,
    });
    if (!http2) return http1;
    const scheme = secure ? "https" : "http";
    const bound = maxConnections === 0 ? {} : { maxConnections };
    return new Http2Origin({ ...common, ...bound, dial: dialWith(["h2", "http/1.1"]), scheme }, http1, secure);
  }

  #dial(
    serverName: string,
    alpn: readonly string[] | undefined,
    signal: AbortSignal,
    request: OriginRequest | undefined,
  ): Promise<Connection> {
    const { address, verify, keepAliveMs, raceAddresses: race, tlsFiles, proxyProtocol } = this.#options;
    const limitMs = connectTimeoutMs(this.#options);
    const { ca, cert, key } = tlsFiles?.current() ?? {};
    return dialInPhases(
      address,
      {
        signal,
        race,
        // The pool has the first word on time, so that running out of it is told apart from being refused. Addresses
        // that take turns share what there really is.
        timeoutMs: race ? limitMs * 2 : limitMs,
        keepAliveMs,
        ...(this.#options.secure ? { tls: { serverName, ca, cert, key, verify, alpn } } : {}),
        ...(proxyProtocol === undefined ? {} : { prelude: (peer) => proxyHeader(proxyProtocol, request, peer) }),
      },
      this.#options,
      this.#clock,
    );
  }
}

/** Connecting and TLS together. */
function connectTimeoutMs({ connectTimeoutMs: connectMs, tlsTimeoutMs: tlsMs, secure }: HttpServiceOptions): number {
  const unbounded = connectMs === 0 || (secure && tlsMs === 0);
  return unbounded ? UNBOUNDED_MS : connectMs + (secure ? tlsMs : 0);
}

/** Dials, giving connecting and TLS their own time each: what one leaves over is not the other's. */
async function dialInPhases(
  address: DialAddress,
  options: NameDialOptions & { readonly signal: AbortSignal },
  { secure, connectTimeoutMs: connectMs, tlsTimeoutMs: tlsMs }: HttpServiceOptions,
  clock: Clock,
): Promise<Connection> {
  // Without TLS there is one phase, which the pool's own limit bounds.
  if (!secure) return await dialName(address, options, { clock });
  const phase = new AbortController();
  const limit = (ms: number, what: string): CancelTimer =>
    ms === 0
      ? () => {}
      : clock.after(ms, () => {
          phase.abort(new TunnelError("origin.timeout", `${what} within ${ms} ms`, { retry: "elsewhere" }));
        });
  let cancel = limit(connectMs, "Origin not reached");
  const onConnected = (): void => {
    cancel();
    cancel = limit(tlsMs, "Origin agreed on no TLS");
  };
  const forward = (): void => phase.abort(options.signal.reason);
  options.signal.addEventListener("abort", forward, { once: true });
  if (options.signal.aborted) forward();
  try {
    return await dialName(address, { ...options, signal: phase.signal, onConnected }, { clock });
  } catch (error) {
    throw phase.signal.aborted ? phase.signal.reason : error;
  } finally {
    cancel();
    options.signal.removeEventListener("abort", forward);
  }
}

/** The edge names the visitor; their port nobody tells. */
export function proxyHeader(
  version: ProxyProtocolVersion,
  request: OriginRequest | undefined,
  peer: { readonly ip: string; readonly port: number },
): Uint8Array {
  const sourceIp = headerValue(request?.headers ?? [], "cf-connecting-ip");
  return encodeProxyHeader(
    version,
    sourceIp === undefined
      ? undefined
      : { sourceIp, sourcePort: 0, destinationIp: peer.ip, destinationPort: peer.port },
  );
}

/** `Example.com:8080` as a certificate would name it. */
function hostWithoutPort(host: string): string {
  const end = host.startsWith("[") ? host.indexOf("]") + 1 : host.indexOf(":");
  const bare = (end > 0 ? host.slice(0, end) : host).toLowerCase();
  return bare.replace(/^\[|\]$|\.$/g, "");
}
