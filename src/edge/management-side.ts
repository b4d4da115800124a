import type { KeyObject } from "node:crypto";
import type { Clock } from "../core/clock.ts";
import { describe } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import { formatAddress } from "../net/socket-errors.ts";
import { API_PREFIX, createApiApp } from "./api/app.ts";
import { type ApiServer, startApiServer } from "./api/server.ts";
import type { CertifiedKey } from "./certificates.ts";
import { createDashboard } from "./dashboard/app.ts";
import { type ManagementDoor, tunnelLogs } from "./dashboard/tunnel-logs.ts";
import { signManagementToken } from "./management-token.ts";
import type { Registry } from "./registry.ts";
import type { createSiteApp } from "./site/app.ts";
import type { Store, StoredTunnel } from "./store/port.ts";
import type { TunnelHistory } from "./tunnel-history.ts";

/** How long calls may go on when the edge stops, in ms. */
const GRACE_MS = 2_000;

/** Where the edge is managed from. */
export interface ManagementSideOptions {
  readonly host: string;
  /** 0 = any free port. */
  readonly port: number;
  /** Undefined = in clear text, for loopback. */
  readonly certificate: CertifiedKey | undefined;
  /** PEM text of the authority that issued it, for whoever logs in. */
  readonly ca: string;
  /** The edge goes on without it when the address is taken. */
  readonly optional: boolean;
  /** Signs tokens for looking into tunnels. */
  readonly key: KeyObject;
}

export interface ManagementSide {
  /** `http://host:port` or `https://host:port` as bound. */
  readonly url: string;
  /** Shows callers another certificate from now on. Never rejects; does nothing in clear text. */
  renew(certificate: CertifiedKey): Promise<void>;
  close(): Promise<void>;
}

/** Starts the management API. Rejects with `listen.failed` unless it is optional. */
export async function startManagementSide(
  options: ManagementSideOptions,
  deps: {
    readonly store: Store;
    readonly registry: Registry;
    readonly history: TunnelHistory;
    readonly clock: Clock;
    readonly log: Logger;
    readonly location: string;
    /** The text that `tunnel run --token` takes; undefined when the tunnel is gone. */
    readonly tunnelToken: (tunnel: StoredTunnel) => string | undefined;
    /** Where tokens for looking into tunnels are taken; undefined = at no name of the edge's own. */
    readonly managementUrl: string | undefined;
    /** Where the management host is; undefined = nobody may look into tunnels. */
    readonly managementDoor?: ManagementDoor | undefined;
    /** The edge's own site, which is served here too, below the dashboard. */
    readonly site: ReturnType<typeof createSiteApp>;
  },
): Promise<ManagementSide | undefined> {
  const { clock, history, log } = deps;
  const stopping = new AbortController();
  const app = createApiApp({
    ...deps,
    managementToken: (tunnel, resources, actor) =>
      signManagementToken(options.key, {
        ...{ tunnel, resources, actor, nowMs: clock.wallMs() },
        managementUrl: deps.managementUrl,
      }),
    ca: options.certificate && options.ca,
    stopping: stopping.signal,
    lastChange: (tunnel) => history.of(tunnel),
  });
  app.route(
    "/",
    createDashboard({
      api: (path, init, from) => app.request(API_PREFIX + path, init, from),
      ...{ clock, log, stopping: stopping.signal },
      logs: deps.managementDoor && tunnelLogs(deps.managementDoor, clock),
    }),
  );
  app.route("/", deps.site);
  let server: ApiServer;
  try {
    server = await startApiServer(app, options, { log });
  } catch (error) {
    if (!options.optional) throw error;
    log.warn("The edge runs without its API: give it another address with --api-listen", { error: describe(error) });
    return undefined;
  }
  const scheme = options.certificate === undefined ? "http" : "https";
  return {
    url: `${scheme}://${formatAddress(server)}`,
    renew: (certificate) => server.renew(certificate),
    close: () => {
      stopping.abort();
      return server.close(GRACE_MS);
    },
  };
}
