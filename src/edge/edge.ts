import type { Clock } from "../core/clock.ts";
import { delay } from "../core/clock.ts";
import { describe } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import { formatAddress } from "../net/socket-errors.ts";
import type { Cidr } from "../wire/cidr.ts";
import type { CertifiedKey } from "./certificates.ts";
import { EXPECT_MS } from "./dispatcher/absences.ts";
import { Dispatcher } from "./dispatcher/dispatcher.ts";
import { startPublicListener } from "./listener/listener.ts";
import { Registry } from "./registry.ts";
import type { Store } from "./store/port.ts";
import { TunnelFront } from "./tunnel-front.ts";
import { openTunnelListeners } from "./tunnel-listeners.ts";

/** How often the certificate is looked at, in ms. */
const CERTIFICATE_CHECK_MS = 12 * 3_600_000;
/** How long running requests of a connector that unregistered may go on, in ms. */
const CONNECTOR_DRAIN_MS = 180_000;
/** How long connections without requests may take to end in good order when the edge stops, in ms. */
const GOODBYE_MS = 2_000;

/** How long QUIC's own farewell may take behind that, in ms. */
const FAREWELL_MS = 500;

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
  /** Take QUIC beside HTTP/2, where an engine can serve it. @default true */
  readonly quic?: boolean;
  /** Secret that survives a restart, so that connectors learn at once that their QUIC connections are gone. */
  readonly resetKey?: Uint8Array;
}

export interface Edge {
  /** `host:port` as bound. */
  readonly publicAddress: string;
  readonly tunnelAddress: string;
  /** What connectors can come over. */
  readonly protocols: readonly string[];
  readonly registry: Registry;
  /**
   * Takes nothing new, sends connectors elsewhere, lets running requests finish for `graceMs`, then closes everything.
   */
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
  const publicListener = await startPublicListener({
    ...options.http,
    dispatcher: new Dispatcher({ store: options.store, registry, clock, log, startGraceMs: EXPECT_MS }),
    clock,
    policy: { trustedProxies: options.trustedProxies },
    location: options.location,
    onAccess: (entry) => {
      if (log.enabled("debug")) log.debug("request", { ...entry, durationMs: Math.round(entry.durationMs) });
    },
  }).catch(async (error: unknown) => {
    await tunnels.close();
    throw error;
  });

  const renew = async (): Promise<void> => {
    try {
      const certificate = options.renewCertificate?.();
      if (certificate !== undefined) {
        await tunnels.renew(certificate);
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
    tunnelAddress: formatAddress(tunnels),
    protocols: tunnels.protocols,
    registry,
    close: async (graceMs) => {
      cancelRenewal();
      const freed = tunnels.close();
      // Connectors that know another edge go there now; until visitors' running requests are done they serve both.
      front.announceLeaving();
      const patience = new AbortController();
      await Promise.race([publicListener.close(), delay(clock, graceMs, patience.signal)]);
      patience.abort();
      publicListener.abort();
      await front.close(GOODBYE_MS);
      // A dead connector acknowledges no farewell.
      const farewell = new AbortController();
      await Promise.race([freed, delay(clock, FAREWELL_MS, farewell.signal)]);
      farewell.abort();
      tunnels.destroy();
    },
  };
}
