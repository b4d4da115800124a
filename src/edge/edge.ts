import { Downloads, type DownloadsOptions } from "../bundle/downloads.ts";
import { type Clock, delay, systemRandom } from "../core/clock.ts";
import { describe } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import type { LostLines } from "../core/log-losses.ts";
import { formatAddress } from "../net/socket-errors.ts";
import { logFamilies } from "../ops/log-metrics.ts";
import { startTracing, type TracingOptions, traceFamilies } from "../ops/tracing/tracing.ts";
import type { Cidr } from "../wire/cidr.ts";
import type { CertifiedKey } from "./certificates.ts";
import { ConfigurationPush } from "./configuration-push.ts";
import type { EdgeNumbers } from "./control/stats.ts";
import { addDispatchMetrics } from "./dispatch-metrics.ts";
import { type DispatchSideOptions, startDispatchSide } from "./dispatch-side.ts";
import { edgeNumbers } from "./edge-numbers.ts";
import { type InspectOptions, startInspectSide } from "./inspect/inspect-side.ts";
import { MANAGEMENT_HOST, type ManagementHostOptions, managementUrl, withManagementHost } from "./management-host.ts";
import { type ManagementSideOptions, startManagementSide } from "./management-side.ts";
import { type PublicSideOptions, startPublicSide } from "./public-side.ts";
import { QuickTunnels } from "./quick/quick-tunnels.ts";
import { Registry } from "./registry.ts";
import { createSiteApp } from "./site/app.ts";
import { withOwnSite } from "./site/own-site.ts";
import type { Store, StoredTunnel } from "./store/port.ts";
import { StoreWatch } from "./store-watch.ts";
import { trafficMetrics } from "./traffic-metrics.ts";
import { TunnelFront } from "./tunnel-front.ts";
import { TunnelHistory } from "./tunnel-history.ts";
import { openTunnelListeners } from "./tunnel-listeners.ts";
import { TunnelStats } from "./tunnel-stats.ts";
import { createVisitorTracing } from "./visitor-tracing.ts";

/** How often the certificate is looked at, in ms. */
const CERTIFICATE_CHECK_MS = 12 * 3_600_000;
/** How long running requests of a connector that unregistered may go on, in ms. */
const CONNECTOR_DRAIN_MS = 180_000;
/** How long connections without requests may take to end in good order when the edge stops, in ms. */
const GOODBYE_MS = 2_000;

/** How long QUIC's own farewell may take behind that, in ms. */
const FAREWELL_MS = 500;

export interface EdgeOptions extends Omit<PublicSideOptions, "http">, Omit<DispatchSideOptions, "tcpHost"> {
  readonly store: Store;
  /** What the tunnel listener shows connectors. */
  readonly certificate: CertifiedKey;
  /** Gives a new certificate when the one in use runs out soon; asked twice a day. */
  readonly renewCertificate?: () => CertifiedKey | undefined;
  /** Where visitors come, and where connectors come. Port 0 = any. */
  readonly http: { readonly host: string; readonly port: number };
  readonly tunnel: { readonly host: string; readonly port: number };
  /** Name of this place, such as `ams01`. */
  readonly location: string;
  readonly trustedProxies: readonly Cidr[];
  /** Answer a connector's second connection with EDUPCONN (protocol: section 3.6). @default false */
  readonly oncePerConnector?: boolean;
  /** Take QUIC beside HTTP/2, where an engine can serve it. @default true */
  readonly quic?: boolean;
  /** Secret that survives a restart, so that connectors learn at once that their QUIC connections are gone. */
  readonly resetKey?: Uint8Array;
  /** The management API. @default none */
  readonly api?: ManagementSideOptions | undefined;
  /** Lets those who have a token look into connectors. @default nobody may */
  readonly management?: ManagementHostOptions | undefined;
  /** Keep requests to some tunnels and show them on a page of this machine. @default none */
  readonly inspect?: InspectOptions | undefined;
  /** Name of the edge itself, under which visitors find its own site. @default none */
  readonly domain?: string | undefined;
  /** Address that public TCP ports are opened on. @default that of `http` */
  readonly tcpHost?: string | undefined;
  /** Give out tunnels with hostnames below the domain to whoever asks. @default false */
  readonly quickTunnels?: boolean;
  /** Releases that the edge's own site hands out, with the installer. @default none */
  readonly releases?: DownloadsOptions;
  /** Where spans of visitors' requests go. @default there are none */
  readonly tracing?: TracingOptions | undefined;
  /** The text that `tunnel run --token` takes; undefined when the tunnel is gone. @default no tokens */
  readonly tunnelToken?: (tunnel: StoredTunnel) => string | undefined;
}

export interface Edge {
  /** `host:port` as bound. */
  readonly publicAddress: string;
  readonly httpsAddress: string | undefined;
  readonly metricsAddress: string | undefined;
  readonly tunnelAddress: string;
  /** Where the management API is; undefined = there is none. */
  readonly apiUrl: string | undefined;
  /** Where requests are shown; `url` opens it and is a secret. Undefined = nowhere. */
  readonly inspector: { readonly address: string; readonly url: string } | undefined;
  /** What connectors can come over. */
  readonly protocols: readonly string[];
  readonly registry: Registry;
  /** What it has done since it started. */
  numbers(): EdgeNumbers;
  /** Reads visitors' certificates and error pages again, and opens the access log anew. */
  reload(): void;
  /**
   * Takes nothing new, sends connectors elsewhere, lets running requests finish for `graceMs`, then closes everything.
   */
  close(graceMs: number): Promise<void>;
}

/**
 * Starts an edge: the tunnel side first, so that connectors are there when the first visitor comes. Rejects with
 * `listen.failed` or `config.invalid`; then nothing is left running.
 */
export async function startEdge(
  options: EdgeOptions,
  deps: {
    readonly clock: Clock;
    readonly log: Logger;
    /** What the log lost. @default nobody counts */
    readonly lostLogLines?: () => LostLines;
  },
): Promise<Edge> {
  const { clock, log } = deps;
  const registry = new Registry({ oncePerConnector: options.oncePerConnector ?? false });
  await using undo = new AsyncDisposableStack();
  const history = new TunnelHistory({ registry, store: options.store, clock });
  undo.defer(() => history.stop());
  const push = new ConfigurationPush({ store: options.store, registry, clock, log });
  undo.defer(() => push.stop());
  const front = new TunnelFront({
    store: options.store,
    registry,
    clock,
    log,
    location: options.location,
    drainMs: CONNECTOR_DRAIN_MS,
  });
  undo.defer(() => front.close(0));
  const tunnels = await openTunnelListeners(
    {
      ...options.tunnel,
      certificate: options.certificate,
      quic: options.quic ?? true,
      resetKey: options.resetKey,
      onSession: (session, ip) => front.accept(session, ip),
    },
    deps,
  );
  undo.defer(async () => {
    const freed = tunnels.close();
    await front.close(0);
    tunnels.destroy();
    await freed;
  });
  const { domain, tunnelToken = () => undefined } = options;
  // Also where none are given out: those of an earlier run must end.
  const quickTunnels = new QuickTunnels({
    ...{ store: options.store, registry, clock, log, tunnelToken },
    domain: options.quickTunnels === true ? domain : undefined,
  });
  undo.defer(() => quickTunnels.stop());
  const downloads = options.releases && new Downloads(options.releases);
  const site = createSiteApp({ log, quickTunnels, downloads });
  const traffic = startDispatchSide(
    { ...options, tcpHost: options.tcpHost ?? options.http.host },
    { store: options.store, registry, clock, log, location: options.location },
  );
  undo.defer(async () => {
    traffic.end();
    await traffic.close();
  });
  const { dispatcher } = traffic;
  const ownSite =
    domain === undefined
      ? undefined
      : withOwnSite(dispatcher, {
          ...{ hostname: domain, store: options.store },
          handler: (request, ip) => site.fetch(request, { ip }),
        });
  undo.defer(() => ownSite?.stop());
  const door = ownSite ?? dispatcher;
  const inspection = await (options.inspect === undefined
    ? undefined
    : startInspectSide(options.inspect, { door, clock, log, location: options.location }));
  undo.defer(() => inspection?.close());
  const shown = inspection?.door ?? door;
  const managed =
    options.management && withManagementHost(shown, options.management, { ...deps, registry, store: options.store });
  undo.defer(() => managed?.stop());
  // Other processes write the same store: the commands of this machine's owner.
  const storeWatch = new StoreWatch({ store: options.store, clock, log });
  undo.defer(() => storeWatch.stop());
  const stats = new TunnelStats(options.store);
  undo.defer(() => stats.stop());
  const tracing =
    options.tracing &&
    startTracing(
      options.tracing,
      {
        service: "culvert-edge",
        attributes: [
          ["service.instance.id", crypto.randomUUID()],
          ["culvert.location", options.location],
        ],
      },
      { ...deps, random: systemRandom },
    );
  undo.defer(() => tracing?.close(0));
  const visitors = await startPublicSide(options, {
    dispatcher: managed ?? shown,
    registry,
    store: options.store,
    policy: { trustedProxies: options.trustedProxies },
    location: options.location,
    clock,
    log,
    addMetrics: (metrics) => addDispatchMetrics(metrics, traffic),
    moreMetrics: () => [
      ...trafficMetrics({ stats, registry, dispatch: dispatcher.counters, store: storeWatch }),
      ...traceFamilies(tracing),
      ...logFamilies(deps.lostLogLines?.()),
    ],
    tracing: tracing && createVisitorTracing(tracing.tracer),
    onAccess: (entry) => stats.add(entry),
  });
  undo.defer(async () => {
    visitors.abort();
    await visitors.close();
    await visitors.end();
  });
  const { hostname: managementHost, url: managementHostUrl } = options.management ?? {};
  const managing = {
    site,
    managementDoor: managed && { door: managed, host: MANAGEMENT_HOST },
    managementUrl:
      managementHost === undefined
        ? undefined
        : (managementHostUrl ??
          managementUrl(managementHost, { http: visitors.httpAddress, https: visitors.httpsAddress })),
    tunnelToken,
    store: options.store,
    registry,
    history,
    clock,
    log,
    location: options.location,
  };
  const management = await (options.api === undefined ? undefined : startManagementSide(options.api, managing));
  // From here on it is up to whoever has the edge.
  undo.move();
  const numbers = edgeNumbers({
    ...{ listener: visitors.listener, registry, store: options.store, storeWatch, history, stats, clock },
    ...{ location: options.location, protocols: tunnels.protocols },
    addresses: {
      http: visitors.httpAddress,
      https: visitors.httpsAddress ?? null,
      tunnel: formatAddress(tunnels),
      api: management?.url ?? null,
      metrics: visitors.metricsAddress ?? null,
      inspect: inspection?.address ?? null,
    },
  });

  const renew = async (): Promise<void> => {
    try {
      const certificate = options.renewCertificate?.();
      if (certificate !== undefined) {
        await Promise.all([tunnels.renew(certificate), management?.renew(certificate)]);
        log.info("Renewed the edge certificate");
      }
    } catch (error) {
      log.error("Cannot renew the edge certificate", { error: describe(error) });
    }
    cancelRenewal = clock.after(CERTIFICATE_CHECK_MS, () => void renew(), { background: true });
  };
  let cancelRenewal = clock.after(CERTIFICATE_CHECK_MS, () => void renew(), { background: true });

  return {
    publicAddress: visitors.httpAddress,
    httpsAddress: visitors.httpsAddress,
    metricsAddress: visitors.metricsAddress,
    tunnelAddress: formatAddress(tunnels),
    apiUrl: management?.url,
    inspector: inspection && { address: inspection.address, url: inspection.url },
    protocols: tunnels.protocols,
    registry,
    numbers,
    reload: () => visitors.reload(),
    close: async (graceMs) => {
      const fromMs = clock.nowMs();
      cancelRenewal();
      storeWatch.stop();
      stats.stop();
      push.stop();
      quickTunnels.stop();
      history.stop();
      ownSite?.stop();
      managed?.stop();
      const unmanaged = Promise.all([management?.close(), inspection?.close()]);
      const freed = tunnels.close();
      // Connectors that know another edge go there now; until visitors' running requests are done they serve both.
      front.announceLeaving();
      const patience = new AbortController();
      const served = Promise.all([visitors.close(), traffic.close()]);
      await Promise.race([served, delay(clock, graceMs, patience.signal)]);
      patience.abort();
      visitors.abort();
      traffic.end();
      await visitors.end();
      const traced = tracing?.close(fromMs + graceMs - clock.nowMs());
      await front.close(GOODBYE_MS);
      // A dead connector acknowledges no farewell.
      const farewell = new AbortController();
      await Promise.race([freed, delay(clock, FAREWELL_MS, farewell.signal)]);
      farewell.abort();
      tunnels.destroy();
      await Promise.all([unmanaged, traced]);
    },
  };
}
