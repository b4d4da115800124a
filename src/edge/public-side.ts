import type { Registry as MetricsRegistry } from "prom-client";
import type { Clock } from "../core/clock.ts";
import type { TunnelId } from "../core/ids.ts";
import type { Logger } from "../core/log.ts";
import { formatAddress } from "../net/socket-errors.ts";
import { type MetricFamily, renderMetrics } from "../ops/exposition.ts";
import { withPassword } from "../ops/page-password.ts";
import { type StatusServer, startStatusServer } from "../ops/status-server.ts";
import { type AccessLineContext, type AccessLogFormat, accessLine } from "./access-line.ts";
import { AccessLog } from "./access-log.ts";
import type { CertifiedKey } from "./certificates.ts";
import { createEdgeMetrics } from "./edge-metrics.ts";
import { CustomPages } from "./listener/custom-pages.ts";
import { type PublicListener, startPublicListener } from "./listener/listener.ts";
import type { RequestPolicy } from "./listener/request-policy.ts";
import type { AccessEntry, VisitorTracing } from "./listener/visitor-deps.ts";
import type { Limits } from "./policy/limits.ts";
import type { Registry } from "./registry.ts";
import type { FrontDoor } from "./site/own-site.ts";
import type { ConfigSource, Store } from "./store/port.ts";
import { Certificates } from "./tls/certificates.ts";
import { FileCertificates, type PairPaths } from "./tls/files.ts";
import { InternalCertificates } from "./tls/internal.ts";

/** Tunnels whose configuration source is remembered for the access log. */
const MAX_KNOWN_SOURCES = 10_000;

interface Address {
  readonly host: string;
  /** 0 = any free port. */
  readonly port: number;
}

export interface HttpsSideOptions extends Address {
  readonly pairs: readonly PairPaths[];
  readonly dirs: readonly string[];
  /** Issue certificates for these names and the routed hostnames, where no file has one. */
  readonly internal?: { readonly authority: CertifiedKey; readonly own: readonly string[] } | undefined;
  readonly redirect: boolean;
  readonly redirectPort?: number | undefined;
  /** Value of Strict-Transport-Security. */
  readonly hsts?: string | undefined;
}

/** What an edge's visitors meet; everything but the address has a default. */
export interface PublicSideOptions {
  readonly http: Address;
  readonly https?: HttpsSideOptions | undefined;
  readonly limits?: Limits | undefined;
  /** Folder of error pages. */
  readonly errorPages?: string | undefined;
  /** `path`: a file, or `-` for standard output. */
  readonly accessLog?: { readonly path: string; readonly format: AccessLogFormat; readonly query: boolean } | undefined;
  /** `auth`: `user:password` that its pages ask for; probes stay open. @default nobody is asked */
  readonly metrics?: (Address & { readonly auth?: string | undefined }) | undefined;
}

export interface PublicSide {
  /** `host:port` as bound. */
  readonly httpAddress: string;
  readonly httpsAddress: string | undefined;
  readonly metricsAddress: string | undefined;
  readonly listener: PublicListener;
  /** Reads certificates and pages again, and opens the access log anew. */
  reload(): void;
  /** Takes nothing new; resolves when the running requests are over. */
  close(): Promise<void>;
  /** Cuts what is left. */
  abort(): void;
  /** After that: writes what the access log still has, and frees the rest. */
  end(): Promise<void>;
}

/** Starts everything visitors meet. Rejects with `listen.failed` or `config.invalid`; then nothing is left running. */
export async function startPublicSide(
  options: PublicSideOptions,
  deps: {
    readonly dispatcher: FrontDoor;
    readonly registry: Registry;
    readonly store: Store;
    readonly policy: RequestPolicy;
    readonly location: string;
    readonly clock: Clock;
    readonly log: Logger;
    /** More metrics than those of visitors. */
    readonly addMetrics?: (metrics: MetricsRegistry) => void;
    readonly moreMetrics?: () => Iterable<MetricFamily>;
    /** Is told of each request when it is over. Must not throw. */
    readonly onAccess?: (entry: AccessEntry) => void;
    /** @default no traces */
    readonly tracing?: VisitorTracing | undefined;
  },
): Promise<PublicSide> {
  const { clock, log, dispatcher } = deps;
  await using undo = new AsyncDisposableStack();
  const certificates = options.https === undefined ? undefined : openCertificates(options.https, dispatcher, deps);
  undo.defer(() => certificates?.close());
  const pages = options.errorPages === undefined ? undefined : new CustomPages(options.errorPages, deps);
  undo.defer(() => pages?.close());
  const accessLog = options.accessLog === undefined ? undefined : await AccessLog.open(options.accessLog.path, deps);
  undo.defer(async () => await accessLog?.close());
  const sources = new SourceMemo(deps.store);
  undo.defer(() => sources.close());

  const listener = await startPublicListener({
    ...options.http,
    https: options.https === undefined || certificates === undefined ? undefined : { ...options.https, certificates },
    dispatcher,
    clock,
    policy: deps.policy,
    limits: options.limits,
    pages,
    location: deps.location,
    tracing: deps.tracing,
    onAccess: (entry) => {
      deps.onAccess?.(entry);
      if (log.enabled("debug")) log.debug("request", debugFields(entry));
      if (accessLog === undefined || options.accessLog === undefined) return;
      const rules = entry.tunnelId === undefined ? undefined : sources.get(entry.tunnelId);
      const context: AccessLineContext = { query: options.accessLog.query, wallMs: clock.wallMs(), rules };
      accessLog.add(accessLine(options.accessLog.format, entry, context));
    },
  });
  undo.defer(async () => {
    listener.abort();
    await listener.close();
  });
  let open = true;
  const metrics = await startMetrics(options.metrics, listener, {
    ...deps,
    accessLog,
    certificates,
    open: () => open,
  });
  undo.defer(async () => await metrics?.close());
  const owned = undo.move();

  return {
    httpAddress: formatAddress(listener),
    httpsAddress: listener.https === undefined ? undefined : formatAddress(listener.https),
    metricsAddress: metrics?.address,
    listener,
    reload: () => {
      certificates?.reload();
      pages?.reload();
      accessLog?.reopen();
    },
    close: async () => {
      open = false;
      await listener.close();
    },
    abort: () => listener.abort(),
    end: () => owned.disposeAsync(),
  };
}

function openCertificates(
  https: HttpsSideOptions,
  dispatcher: FrontDoor,
  deps: { readonly clock: Clock; readonly log: Logger },
): Certificates {
  const { pairs, dirs, internal } = https;
  const files = pairs.length + dirs.length === 0 ? [] : [new FileCertificates({ pairs, dirs }, deps)];
  const isRouted = (hostname: string): boolean => {
    const { kind } = dispatcher.find(hostname);
    return kind === "tunnel" || kind === "no-connection";
  };
  const made = internal === undefined ? [] : [new InternalCertificates({ ...internal, isRouted }, deps.clock)];
  const certificates = new Certificates([...files, ...made], deps);
  if (certificates.fallback() === undefined) {
    deps.log.warn("There is no certificate yet: HTTPS fails until there is one", { folder: dirs.join(",") });
  }
  return certificates;
}

async function startMetrics(
  address: PublicSideOptions["metrics"],
  listener: PublicListener,
  parts: {
    readonly registry: Registry;
    readonly accessLog: AccessLog | undefined;
    readonly certificates: Certificates | undefined;
    readonly open: () => boolean;
    readonly addMetrics?: (metrics: MetricsRegistry) => void;
    readonly moreMetrics?: () => Iterable<MetricFamily>;
  },
): Promise<StatusServer | undefined> {
  if (address === undefined) return undefined;
  const metrics = createEdgeMetrics({
    listener,
    registry: parts.registry,
    accessLog: parts.accessLog?.counters,
    certificateExpiryMs: () => parts.certificates?.soonestExpiryMs(),
  });
  parts.addMetrics?.(metrics);
  const pages = withPassword(async (path) => {
    switch (path) {
      case "/metrics":
        return {
          type: metrics.contentType,
          body: (await metrics.metrics()) + renderMetrics(parts.moreMetrics?.() ?? [], "text"),
        };
      case "/ready": {
        const status = parts.open() ? 200 : 503;
        const body = JSON.stringify({ status, tunnelConnections: parts.registry.size });
        return { status, type: "application/json", body };
      }
      case "/healthcheck":
        return { type: "text/plain; charset=utf-8", body: "OK\n" };
      default:
        return undefined;
    }
  }, address.auth);
  return await startStatusServer(pages, address.host, address.port);
}

/** Who writes a tunnel's rules, remembered until something is written: a request must not cost a look into the store. */
class SourceMemo {
  readonly #store: Store;
  readonly #known = new Map<TunnelId, ConfigSource | undefined>();
  readonly #endWatch: () => void;

  constructor(store: Store) {
    this.#store = store;
    this.#endWatch = store.watch(() => this.#known.clear());
  }

  get(id: TunnelId): ConfigSource | undefined {
    if (this.#known.has(id)) return this.#known.get(id);
    let source: ConfigSource | undefined;
    try {
      source = this.#store.tunnels.get(id)?.configSource;
    } catch {
      // Whoever looks a hostname up says that the store is broken; a line of the log can do without.
      return undefined;
    }
    if (this.#known.size >= MAX_KNOWN_SOURCES) this.#known.clear();
    this.#known.set(id, source);
    return source;
  }

  close(): void {
    this.#endWatch();
  }
}

function debugFields(entry: AccessEntry): Record<string, string | number | undefined> {
  const { ray, ip, method, host, status, durationMs, error, retries } = entry;
  return { ray, ip, method, host, status, durationMs: Math.round(durationMs), error, retries };
}
