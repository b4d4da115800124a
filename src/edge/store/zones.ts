import type { Zone } from "./port.ts";

/** The zone with the longest name that a hostname (or wildcard) is of; undefined when it is of none. */
export function zoneOf(hostname: string, zones: readonly Zone[]): Zone | undefined {
  let best: Zone | undefined;
  for (const zone of zones) {
    const within = zone.name === "" || hostname === zone.name || hostname.endsWith(`.${zone.name}`);
    if (within && (best === undefined || zone.name.length > best.name.length)) best = zone;
  }
  return best;
}
