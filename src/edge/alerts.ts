import type { CancelTimer, Clock } from "../core/clock.ts";
import type { ConnectorId, TunnelId } from "../core/ids.ts";
import type { Logger } from "../core/log.ts";
import type { Webhooks } from "./dispatcher/balancers/webhook.ts";
import type { LiveConnection, Registry, TunnelWatcher } from "./registry.ts";
import type { Store } from "./store/port.ts";

/** How long something must be unhealthy before somebody is told, in ms. */
export const ALERT_AFTER_MS = 300_000;
/** A connector that does not come back is forgotten after this time, in ms. */
export const FORGET_CONNECTOR_MS = 86_400_000;

export type AlertKind = "tunnel" | "connector";

interface Alarm {
  readonly kind: AlertKind;
  readonly tunnelId: TunnelId;
  readonly connectorId: ConnectorId | undefined;
  readonly sinceMs: number;
  /** The same on the wall. */
  readonly sinceWallMs: number;
  /** Connections of the connector that were lost and not made again. */
  missing: number;
  firing: boolean;
  cancelTimer: CancelTimer;
}

interface Deps {
  readonly store: Store;
  readonly registry: Registry;
  readonly clock: Clock;
  readonly log: Logger;
  readonly webhooks: Pick<Webhooks, "post">;
}

/**
 * Tells, once each, of tunnels that have had no connection for too long and of connectors that lost connections without
 * a farewell and have not made them again; and when they are well again. A tunnel counts from its first connection to
 * this edge on; quick tunnels do not count.
 */
export class HealthAlerts implements TunnelWatcher {
  readonly #deps: Deps;
  readonly #webhook: string | undefined;
  readonly #afterMs: number;
  readonly #alarms = new Map<string, Alarm>();
  readonly #stops: readonly (() => void)[];

  /** `webhook`: where to tell; @default only the log. `afterMs` @default {@link ALERT_AFTER_MS} */
  constructor(
    deps: Deps,
    options: { readonly webhook?: string | undefined; readonly afterMs?: number | undefined } = {},
  ) {
    this.#deps = deps;
    this.#webhook = options.webhook;
    this.#afterMs = options.afterMs ?? ALERT_AFTER_MS;
    this.#stops = [
      deps.registry.watch(this),
      deps.store.watch((change) => {
        if (change.kind === "tunnel") this.#forgetDeleted((alarm) => alarm.tunnelId === change.tunnelId);
        else if (change.kind === "unknown") this.#forgetDeleted(() => true);
      }),
    ];
  }

  /** Alerts that were told and not taken back. */
  firing(kind: AlertKind): number {
    let count = 0;
    for (const alarm of this.#alarms.values()) if (alarm.firing && alarm.kind === kind) count += 1;
    return count;
  }

  stop(): void {
    for (const stop of this.#stops) stop();
    for (const key of [...this.#alarms.keys()]) this.#forget(key);
  }

  onServed(tunnelId: TunnelId, { connectorId }: LiveConnection): void {
    this.#resolve(tunnelId);
    const own = this.#alarms.get(connectorId);
    if (own !== undefined) {
      own.missing -= 1;
      if (own.missing <= 0) this.#resolve(connectorId);
      return;
    }
    const isNew = this.#live(tunnelId, connectorId) === 1;
    if (isNew) this.#replaceLost(tunnelId);
  }

  onRemoved({ tunnelId, connectorId, draining }: LiveConnection): void {
    if (!draining) this.#raise("connector", connectorId, tunnelId, connectorId).missing += 1;
    else if (this.#live(tunnelId, connectorId) === 0) this.#resolve(connectorId);
  }

  onAbsent(tunnelId: TunnelId): void {
    this.#raise("tunnel", tunnelId, tunnelId, undefined);
  }

  /** Connections of the connector that take requests. */
  #live(tunnelId: TunnelId, connectorId: ConnectorId): number {
    const own = this.#deps.registry.connections(tunnelId);
    return own.filter((connection) => connection.connectorId === connectorId && !connection.draining).length;
  }

  /** A connector that starts again comes under a new id: it stands for the one of its tunnel that is gone the longest. */
  #replaceLost(tunnelId: TunnelId): void {
    for (const [key, alarm] of this.#alarms) {
      if (alarm.connectorId === undefined || alarm.tunnelId !== tunnelId) continue;
      if (this.#live(tunnelId, alarm.connectorId) > 0) continue;
      this.#resolve(key);
      return;
    }
  }

  #raise(kind: AlertKind, key: string, tunnelId: TunnelId, connectorId: ConnectorId | undefined): Alarm {
    const known = this.#alarms.get(key);
    if (known !== undefined) return known;
    const { clock } = this.#deps;
    const alarm: Alarm = {
      ...{ kind, tunnelId, connectorId, missing: 0, firing: false },
      ...{ sinceMs: clock.nowMs(), sinceWallMs: clock.wallMs() },
      cancelTimer: () => {},
    };
    this.#alarms.set(key, alarm);
    this.#later(this.#afterMs, key, alarm);
    return alarm;
  }

  #later(ms: number, key: string, alarm: Alarm): void {
    alarm.cancelTimer = this.#deps.clock.after(ms, () => this.#due(key, alarm), { background: true });
  }

  #due(key: string, alarm: Alarm): void {
    const tunnel = this.#tunnel(alarm.tunnelId);
    if (tunnel === "gone") {
      this.#forget(key);
      return;
    }
    if (alarm.firing) {
      this.#deps.log.info("A connector that did not come back is forgotten", { connector: alarm.connectorId });
      this.#forget(key);
      return;
    }
    if (alarm.kind === "connector") {
      // While its tunnel is without a connection, the alert of that says it all.
      const isCovered = this.#alarms.has(alarm.tunnelId);
      this.#later(isCovered ? this.#afterMs : FORGET_CONNECTOR_MS, key, alarm);
      if (isCovered) return;
    }
    alarm.firing = true;
    this.#tell(alarm, tunnel.name);
  }

  #resolve(key: string): void {
    const alarm = this.#alarms.get(key);
    this.#forget(key);
    if (alarm?.firing !== true) return;
    const tunnel = this.#tunnel(alarm.tunnelId);
    if (tunnel === "gone") return;
    alarm.firing = false;
    this.#tell(alarm, tunnel.name);
  }

  #forget(key: string): void {
    this.#alarms.get(key)?.cancelTimer();
    this.#alarms.delete(key);
  }

  #forgetDeleted(concerned: (alarm: Alarm) => boolean): void {
    for (const [key, alarm] of [...this.#alarms]) {
      if (concerned(alarm) && this.#tunnel(alarm.tunnelId) === "gone") this.#forget(key);
    }
  }

  /** `gone`: deleted, or one that ends by itself. */
  #tunnel(tunnelId: TunnelId): { readonly name: string | undefined } | "gone" {
    try {
      const tunnel = this.#deps.store.tunnels.get(tunnelId);
      const isGone = tunnel === undefined || tunnel.deletedAtMs !== undefined || tunnel.expiresAtMs !== undefined;
      return isGone ? "gone" : { name: tunnel.name };
    } catch {
      // A broken store is no reason to keep silent.
      return { name: undefined };
    }
  }

  #tell({ kind, firing, tunnelId, connectorId, sinceMs, sinceWallMs }: Alarm, name: string | undefined): void {
    const { clock, log, webhooks } = this.#deps;
    const seconds = Math.round((clock.nowMs() - sinceMs) / 1_000);
    const since = new Date(sinceWallMs).toISOString();
    const fields = { tunnelID: tunnelId, tunnel: name, connector: connectorId, since, seconds };
    if (!firing) log.info(kind === "tunnel" ? "A tunnel is connected again" : "A connector is well again", fields);
    else if (kind === "tunnel") log.warn("A tunnel has had no connection for a long time", fields);
    else log.warn("A connector has been without connections that it lost for a long time", fields);
    if (this.#webhook === undefined) return;
    webhooks.post(this.#webhook, {
      event: firing ? "alert.firing" : "alert.resolved",
      kind,
      tunnel: { id: tunnelId, name: name ?? null },
      connector: connectorId ?? null,
      since,
      seconds,
    });
  }
}
