import { newTunnel, routesTo } from "../../src/edge/store/new-tunnel.ts";
import type { Actor, Store, StoredTunnel } from "../../src/edge/store/port.ts";

export const ACTOR: Actor = { kind: "operator", id: "test", from: "" };

/** Adds a tunnel of the edge's own account, with a secret of 32 zero bytes unless another is given. */
export function storeTunnel(
  store: Store,
  name: string,
  options: { readonly hostnames?: readonly string[]; readonly secret?: Uint8Array } = {},
): StoredTunnel {
  const tunnel = newTunnel(name, store.accounts.own().tag, 0);
  const routes = routesTo(store, tunnel, options.hostnames ?? [], 0);
  store.tunnels.add(tunnel, options.secret ?? new Uint8Array(32), ACTOR, routes);
  return tunnel;
}

/** Routes hostnames to a tunnel that is there. */
export function storeHostnames(store: Store, tunnel: StoredTunnel, hostnames: readonly string[]): void {
  for (const route of routesTo(store, tunnel, hostnames, 0)) store.hostnames.put(route, false, ACTOR);
}
