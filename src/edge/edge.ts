import type { Clock } from "../core/clock.ts";
import { delay } from "../core/clock.ts";
import { describe } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import { listen } from "../net/listen.ts";
import { formatAddress } from "../net/socket-errors.ts";
import type { Listener } from "../net/sockets.ts";
import type { Cidr } from "../wire/cidr.ts";
import type { CertifiedKey } from "./certificates.ts";
import { Dispatcher } from "./dispatcher/dispatcher.ts";
import { startPublicListener } from "./listener/listener.ts";
import { Registry } from "./registry.ts";
import type { Store } from "./store/port.ts";
import { TunnelFront } from "./tunnel-front.ts";

/** TCP connections on the tunnel listener, those still shaking hands among them. */
const MAX_TUNNEL_CONNECTIONS = 10_000;
/** How often the certificate is looked at, in ms. */
const CERTIFICATE_CHECK_MS = 12 * 3_600_000;
/** How long running requests of a connector that unregistered may go on, in ms. */
const CONNECTOR_DRAIN_MS = 180_000;

export interface EdgeOptions {
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
}

export interface Edge {
  /** `host:port` as bound. */
  readonly publicAddress: string;
  readonly tunnelAddress: string;
  readonly registry: Registry;
  /** Takes nothing new, lets running requests finish for `graceMs`, then closes everything. */
  close(graceMs: number): Promise<void>;
}

/**
 * Starts an edge: the tunnel side first, so that connectors are there when the first visitor comes. Rejects with
 * `listen.failed`; then nothing is left running.
 */
export async function startEdge(options: EdgeOptions, deps: { clock: Clock; log: Logger }): Promise<Edge> {
  const { clock, log } = deps;
  const registry = new Registry({ oncePerConnector: options.oncePerConnector ?? false });
  const front = new TunnelFront({
    store: options.store,
    registry,
    clock,
    log,
    location: options.location,
    drainMs: CONNECTOR_DRAIN_MS,
  });
  const listenForTunnels = (certificate: CertifiedKey, port: number): Promise<Listener> =>
    listen({
      host: options.tunnel.host,
      port,
      tls: certificate,
      maxConnections: MAX_TUNNEL_CONNECTIONS,
      onConnection: (connection) => front.accept(connection),
      onRefused: (ip, reason) => log.debug("Refused a tunnel connection", { ip, reason }),
    });
  let tunnelListener = await listenForTunnels(options.certificate, options.tunnel.port);
  const publicListener = await startPublicListener({
    ...options.http,
    dispatcher: new Dispatcher({ store: options.store, registry, log }),
    clock,
    policy: { trustedProxies: options.trustedProxies },
    location: options.location,
    onAccess: (entry) => {
      if (log.enabled("debug")) log.debug("request", { ...entry, durationMs: Math.round(entry.durationMs) });
    },
  }).catch(async (error: unknown) => {
    await tunnelListener.close();
    throw error;
  });

  // A listener keeps the certificate it began with: a new one takes its place, and open connections go on.
  const renew = async (): Promise<void> => {
    try {
      const certificate = options.renewCertificate?.();
      if (certificate !== undefined) {
        const { port } = tunnelListener;
        await tunnelListener.close();
        tunnelListener = await listenForTunnels(certificate, port);
        log.info("Renewed the edge certificate");
      }
    } catch (error) {
      log.error("Cannot renew the edge certificate", { error: describe(error) });
    }
    cancelRenewal = clock.after(CERTIFICATE_CHECK_MS, () => void renew(), { background: true });
  };
  let cancelRenewal = clock.after(CERTIFICATE_CHECK_MS, () => void renew(), { background: true });

  return {
    publicAddress: formatAddress(publicListener),
    tunnelAddress: formatAddress(tunnelListener),
    registry,
    close: async (graceMs) => {
      cancelRenewal();
      // Visitors first: their running requests still need the tunnels.
      const patience = new AbortController();
      await Promise.race([publicListener.close(), delay(clock, graceMs, patience.signal)]);
      patience.abort();
      publicListener.abort();
      const freed = tunnelListener.close();
      front.close(true);
      await freed;
    },
  };
}
