import type { Clock } from "../../core/clock.ts";
import { TunnelError } from "../../core/errors.ts";
import { listen } from "../../net/listen.ts";
import type { Connection, Listener, ListenOptions } from "../../net/sockets.ts";
import { ipGroup } from "../../wire/ip-bytes.ts";
import type { Dispatcher } from "../dispatcher/dispatcher.ts";
import { Admission } from "../policy/admission.ts";
import { COUNTED_LIMITS, type CountedLimit, LIMIT_RULES, type Limits, limitsFrom } from "../policy/limits.ts";
import type { Certificates } from "../tls/certificates.ts";
import { BUILT_IN_PAGES, type ErrorPages } from "./error-page.ts";
import type { RequestPolicy } from "./request-policy.ts";
import { Visitor } from "./visitor.ts";
import type { AccessEntry, ListenerCounters, VisitorDeps, VisitorTracing } from "./visitor-deps.ts";

/** Visitors' connections open at once from one address, unless told otherwise. */
export const MAX_VISITOR_CONNECTIONS_PER_IP = LIMIT_RULES["connections-per-ip"].default;
/** How often deadlines are looked at, in ms: one timer for all connections instead of one for each. */
const SWEEP_MS = 1_000;

/** HTTPS beside plain HTTP. */
export interface HttpsOptions {
  readonly host: string;
  /** 0 = any free port. */
  readonly port: number;
  readonly certificates: Certificates;
  /** Send requests over plain HTTP here, with 308; what an ACME server asks for excepted. */
  readonly redirect: boolean;
  /** Port that redirects lead to, where something in front maps ports. @default the one that is bound */
  readonly redirectPort?: number | undefined;
  /** Value of Strict-Transport-Security for answers whose service sends none. */
  readonly hsts?: string | undefined;
}

export interface PublicListener {
  readonly host: string;
  readonly port: number;
  /** Where HTTPS is served. */
  readonly https: { readonly host: string; readonly port: number } | undefined;
  readonly counters: Readonly<ListenerCounters>;
  /** Connections open now. */
  readonly openConnections: () => number;
  /** Takes no new connections and no further requests; resolves when the running ones are over. */
  close(): Promise<void>;
  /** Cuts what is left. */
  abort(): void;
}

export interface PublicListenerOptions {
  readonly host: string;
  readonly port: number;
  readonly https?: HttpsOptions | undefined;
  readonly dispatcher: Pick<Dispatcher, "find" | "open">;
  readonly clock: Clock;
  readonly policy: RequestPolicy;
  /** @default the defaults */
  readonly limits?: Limits | undefined;
  /** @default the built-in ones */
  readonly pages?: ErrorPages | undefined;
  /** Name of this place; ends each ray id. */
  readonly location: string;
  /** @default no traces */
  readonly tracing?: VisitorTracing | undefined;
  readonly onAccess: (entry: AccessEntry) => void;
}

/** Listens for visitors over HTTP/1.1 and HTTP/2, with TLS and without. Rejects with `listen.failed`. */
export async function startPublicListener(options: PublicListenerOptions): Promise<PublicListener> {
  const { clock, https } = options;
  const limits = options.limits ?? limitsFrom();
  const admission = new Admission(limits);
  const counters = newCounters();
  const visitors = new VisitorSet(limits.values, counters);
  let closing = false;
  let httpsPort: number | undefined;
  const plainDeps: VisitorDeps = {
    dispatcher: options.dispatcher,
    clock,
    scheme: "http",
    policy: options.policy,
    limits: limits.values,
    admission,
    pages: options.pages ?? BUILT_IN_PAGES,
    hsts: undefined,
    redirectPort: () => (https?.redirect === true ? (https.redirectPort ?? httpsPort) : undefined),
    mayCarry: () => true,
    counters,
    nextRay: createRaySource(options.location),
    closing: () => closing,
    tracing: options.tracing,
    onAccess: options.onAccess,
  };
  const common: Pick<ListenOptions, "maxConnections" | "onRefused"> = {
    maxConnections: limits.values.connections,
    onRefused: (_ip, reason) => {
      if (reason === "handshake") counters.handshakeFailures += 1;
      else counters.refused[reason === "limit" ? "connections" : "connections-per-ip"] += 1;
    },
  };
  const accept = (deps: VisitorDeps) => (connection: Connection) => visitors.accept(connection, deps);

  // TLS first: nobody is sent to a port that is not there.
  const secure =
    https === undefined
      ? undefined
      : await listenTls(https, limits.values, common, (connection) => {
          counters.tlsConnections += 1;
          const { certificates, hsts } = https;
          const mayCarry = certificates.mayCarry.bind(certificates);
          accept({ ...plainDeps, scheme: "https", hsts, mayCarry })(connection);
        });
  httpsPort = secure?.port;
  const socket = await listen({
    host: options.host,
    port: options.port,
    ...common,
    onConnection: accept(plainDeps),
  }).catch(async (error: unknown) => {
    await secure?.close();
    throw error;
  });

  let cancelSweep = (): void => {};
  const sweep = (): void => {
    const nowMs = clock.nowMs();
    visitors.checkDeadlines(nowMs);
    admission.sweep(nowMs);
    cancelSweep = clock.after(SWEEP_MS, sweep, { background: true });
  };
  sweep();

  return {
    host: socket.host,
    port: socket.port,
    https: secure === undefined ? undefined : { host: secure.host, port: secure.port },
    counters,
    openConnections: () => visitors.size,
    close: async () => {
      closing = true;
      // Not awaited yet: some runtimes free the port only when the last connection is gone.
      const freed = Promise.all([socket.close(), secure?.close()]);
      await visitors.retire();
      cancelSweep();
      await freed;
    },
    abort: () => {
      visitors.abort(new TunnelError("aborted", "The edge is shutting down"));
      cancelSweep();
    },
  };
}

async function listenTls(
  https: HttpsOptions,
  limits: Limits["values"],
  common: Pick<ListenOptions, "maxConnections" | "onRefused">,
  onConnection: (connection: Connection) => void,
): Promise<Listener> {
  const { certificates } = https;
  const socket = await listen({
    host: https.host,
    port: https.port,
    ...common,
    maxHandshakesPerIp: limits["connections-per-ip"],
    handshakeTimeoutMs: limits["header-timeout"],
    tls: {
      alpn: ["h2", "http/1.1"],
      choose: (serverName) => certificates.choose(serverName)?.identity,
      fallback: certificates.fallback()?.identity,
    },
    onConnection,
  });
  let shown = certificates.fallback()?.identity;
  certificates.watch(() => {
    const identity = certificates.fallback()?.identity;
    if (identity === undefined || identity === shown) return;
    shown = identity;
    socket.setFallback?.(identity);
  });
  return socket;
}

/** Everybody who is connected, within the limits of all and of each address. */
class VisitorSet {
  readonly #limits: Limits["values"];
  readonly #counters: ListenerCounters;
  readonly #open = new Set<Visitor>();
  readonly #perIp = new Map<string, number>();
  #idle: (() => void) | undefined;

  constructor(limits: Limits["values"], counters: ListenerCounters) {
    this.#limits = limits;
    this.#counters = counters;
  }

  get size(): number {
    return this.#open.size;
  }

  accept(connection: Connection, deps: VisitorDeps): void {
    const group = ipGroup(connection.remoteIp);
    const fromIp = this.#perIp.get(group) ?? 0;
    // Two sockets listen, and each knows its own connections only.
    if (this.#open.size >= this.#limits.connections) this.#refuse(connection, "connections");
    else if (fromIp >= this.#limits["connections-per-ip"]) this.#refuse(connection, "connections-per-ip");
    else {
      this.#counters.connections += 1;
      this.#perIp.set(group, fromIp + 1);
      this.#open.add(new Visitor(connection, deps, (visitor) => this.#onGone(visitor)));
    }
  }

  checkDeadlines(nowMs: number): void {
    for (const visitor of this.#open) visitor.checkDeadline(nowMs);
  }

  /** Resolves when the last one is gone. */
  async retire(): Promise<void> {
    const gone = new Promise<void>((resolve) => {
      this.#idle = resolve;
    });
    for (const visitor of [...this.#open]) visitor.retire();
    if (this.#open.size > 0) await gone;
  }

  abort(error: TunnelError): void {
    for (const visitor of [...this.#open]) visitor.abort(error);
  }

  #refuse(connection: Connection, limit: CountedLimit): void {
    this.#counters.refused[limit] += 1;
    connection.channel.abort(new TunnelError("stream.limit", "Too many connections"));
  }

  #onGone(visitor: Visitor): void {
    this.#open.delete(visitor);
    const group = ipGroup(visitor.ip);
    const left = (this.#perIp.get(group) ?? 1) - 1;
    if (left === 0) this.#perIp.delete(group);
    else this.#perIp.set(group, left);
    if (this.#open.size === 0) this.#idle?.();
  }
}

function newCounters(): ListenerCounters {
  return {
    connections: 0,
    tlsConnections: 0,
    handshakeFailures: 0,
    requests: 0,
    malformed: 0,
    timeouts: 0,
    retries: 0,
    redirects: 0,
    misdirected: 0,
    bytesIn: 0,
    bytesOut: 0,
    refused: Object.fromEntries(COUNTED_LIMITS.map((name) => [name, 0])) as Record<CountedLimit, number>,
    answers: { 0: 0, 1: 0, 2: 0, 3: 0, 4: 0, 5: 0 },
  };
}

/** Ray ids: 16 hexadecimal digits and the place, unique for this process and hard to mistake for another's. */
export function createRaySource(location: string): () => string {
  const seed = crypto.getRandomValues(new Uint32Array(2));
  const prefix = (seed[0] as number).toString(16).padStart(8, "0");
  const place = location.replace(/[0-9]+$/, "").toUpperCase();
  let count = seed[1] as number;
  return () => {
    count = (count + 1) >>> 0;
    return `${prefix}${count.toString(16).padStart(8, "0")}-${place}`;
  };
}
