import { randomBytes } from "node:crypto";
import { type Clock, systemRandom } from "../core/clock.ts";
import type { Logger } from "../core/log.ts";
import { HealthAlerts } from "./alerts.ts";
import { EXPECT_MS } from "./dispatcher/absences.ts";
import { Balancers } from "./dispatcher/balancers/index.ts";
import { Webhooks } from "./dispatcher/balancers/webhook.ts";
import { Dispatcher } from "./dispatcher/dispatcher.ts";
import { createRaySource } from "./listener/listener.ts";
import type { TcpCounters } from "./listener/tcp-port.ts";
import { type Limits, limitsFrom } from "./policy/limits.ts";
import type { Registry } from "./registry.ts";
import type { Store } from "./store/port.ts";
import { TcpPorts } from "./tcp-ports.ts";

const SECRET_BYTES = 32;

export interface DispatchSideOptions {
  /** Name of the edge itself: `TUNNEL-ID.` in front of it reaches a tunnel. @default no such names */
  readonly domain?: string | undefined;
  /** Makes what cookies call the tunnels of a balancer. @default chance: a restart moves visitors */
  readonly cookieKey?: Uint8Array;
  /** Signs webhook messages. @default chance */
  readonly webhookSecret?: string;
  /** When to tell of tunnels and connectors that are unhealthy, and where. @default after 5 minutes, to the log */
  readonly alerts?: { readonly afterMs: number; readonly webhook: string | undefined } | undefined;
  /** Address that public TCP ports are opened on. */
  readonly tcpHost: string;
  readonly limits?: Limits | undefined;
}

/** Everything that brings traffic to tunnels, and watches over them for it. */
export interface DispatchSide {
  readonly dispatcher: Dispatcher;
  readonly balancers: Balancers;
  readonly alerts: HealthAlerts;
  readonly webhooks: Webhooks;
  readonly tcpPorts: TcpPorts;
  readonly tcpCounters: Readonly<TcpCounters>;
  /**
   * Takes no TCP connections any more, and tells nobody of what leaves, since it was sent away. Resolves when the open
   * ones are over.
   */
  close(): Promise<void>;
  /** Cuts the TCP connections that are left, and ends everything else. */
  end(): void;
}

export function startDispatchSide(
  options: DispatchSideOptions,
  deps: {
    readonly store: Store;
    readonly registry: Registry;
    readonly clock: Clock;
    readonly log: Logger;
    readonly location: string;
  },
): DispatchSide {
  const { store, log } = deps;
  const shared = { ...deps, random: systemRandom };
  const secret = options.webhookSecret ?? randomBytes(SECRET_BYTES).toString("hex");
  const webhooks = new Webhooks({ ...shared, secret });
  const key = options.cookieKey ?? randomBytes(SECRET_BYTES);
  const balancers = new Balancers({ ...shared, key, webhooks });
  const alerts = new HealthAlerts({ ...deps, webhooks }, options.alerts);
  const dispatcher = new Dispatcher({
    ...deps,
    startGraceMs: EXPECT_MS,
    balance: balancers.choose,
    directDomain: options.domain?.toLowerCase(),
  });
  const { values } = options.limits ?? limitsFrom();
  const tcpCounters: TcpCounters = { connections: 0, failed: 0, refused: 0, bytesIn: 0, bytesOut: 0 };
  const tcpPorts = new TcpPorts(options.tcpHost, store, {
    ...{ dispatcher, clock: deps.clock, log, counters: tcpCounters, nextRay: createRaySource(deps.location) },
    limits: { connections: values.connections, perIp: values["connections-per-ip"] },
  });
  return {
    ...{ dispatcher, balancers, alerts, webhooks, tcpPorts, tcpCounters },
    close: async () => {
      alerts.stop();
      balancers.stop();
      await tcpPorts.close();
    },
    end: () => {
      tcpPorts.abort();
      webhooks.stop();
    },
  };
}
