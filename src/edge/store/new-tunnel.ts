import { TunnelError } from "../../core/errors.ts";
import { newTunnelId } from "../../core/ids.ts";
import type { HostnameRoute, Store, StoredTunnel } from "./port.ts";
import { zoneOf } from "./zones.ts";

/** A tunnel that lives until it is deleted, whose connectors bring their own rules. */
export function newTunnel(name: string, accountTag: string, nowMs: number): StoredTunnel {
  return {
    id: newTunnelId(),
    name,
    accountTag,
    createdAtMs: nowMs,
    deletedAtMs: undefined,
    configSource: "local",
    metadata: "{}",
    expiresAtMs: undefined,
  };
}

/** Routes of these hostnames to a tunnel. Throws `store.missing` for one that is in no zone of the tunnel's account. */
export function routesTo(
  store: Store,
  tunnel: StoredTunnel,
  hostnames: readonly string[],
  nowMs: number,
): readonly HostnameRoute[] {
  const zones = store.accounts.zones(tunnel.accountTag);
  return hostnames.map((hostname) => {
    const zone = zoneOf(hostname, zones);
    if (zone === undefined) throw new TunnelError("store.missing", `"${hostname}" is in no zone of this account`);
    return { hostname, target: { kind: "tunnel", tunnelId: tunnel.id }, zoneId: zone.id, createdAtMs: nowMs };
  });
}
