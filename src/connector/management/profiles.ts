import { getHeapStatistics } from "node:v8";
import type { Clock } from "../../core/clock.ts";
import { memoryUsage } from "../../ops/memory-usage.ts";
import { cpuProfile, profileSeconds } from "../../ops/profiles.ts";

/**
 * What this process does with time and memory, for whoever looks in through the tunnel: numbers and names of functions,
 * never what is in memory, which only this machine may see (`/debug/pprof/heap` of the metrics port). As JSON text;
 * undefined = there is no such profile. The paths are cloudflared's (protocol: section 8), and `profile`.
 */
export async function profilePage(url: URL, clock: Clock, signal: AbortSignal): Promise<string | undefined> {
  switch (url.pathname) {
    case "/debug/pprof/heap":
      return JSON.stringify({ memory: memoryUsage(), heap: getHeapStatistics() });
    case "/debug/pprof/goroutine":
      return JSON.stringify({ waitsFor: counted(process.getActiveResourcesInfo()) });
    case "/debug/pprof/profile":
      return await cpuProfile(profileSeconds(url.searchParams.get("seconds")), clock, signal);
    default:
      return undefined;
  }
}

function counted(names: readonly string[]): Readonly<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const name of names) counts[name] = (counts[name] ?? 0) + 1;
  return counts;
}
