import type { Dispatcher } from "../dispatcher/dispatcher.ts";
import type { Store } from "../store/port.ts";
import { SITE_ID, SiteDispatch, type SiteHandler } from "./site-dispatch.ts";

/** Finds where a visitor's request goes, and takes it there. */
export type FrontDoor = Pick<Dispatcher, "find" | "open">;

/**
 * A dispatcher that also knows the edge's own site: what is asked of `hostname`, unless somebody has routed just that name.
 * A wildcard around it does not take it: the edge and the tunnels that it gives out would be out of reach. `stop`: ends
 * what it does besides.
 */
export function withOwnSite(
  dispatcher: FrontDoor,
  site: {
    readonly hostname: string;
    readonly handler: SiteHandler;
    readonly store: Pick<Store, "hostnames" | "watch">;
  },
): FrontDoor & { readonly stop: () => void } {
  const { hostname: own, handler, store } = site;
  let isRouted: boolean | undefined;
  const stop = store.watch(() => {
    isRouted = undefined;
  });
  const isOwn = (hostname: string): boolean => {
    if (hostname !== own) return false;
    try {
      isRouted ??= store.hostnames.get(own) !== undefined;
    } catch {
      // The dispatcher says that the store is broken.
      return false;
    }
    return !isRouted;
  };
  return {
    find: (hostname, ...rest) =>
      isOwn(hostname) ? { kind: "tunnel", tunnelId: SITE_ID } : dispatcher.find(hostname, ...rest),
    open: (tunnelId, request, events, ...rest) =>
      tunnelId === SITE_ID
        ? new SiteDispatch(handler, request, events)
        : dispatcher.open(tunnelId, request, events, ...rest),
    stop,
  };
}
