import { systemClock } from "../core/clock.ts";
import type { ServiceState } from "../service/init.ts";
import { processOf } from "./service-process.ts";
import { stateOf, type Target } from "./service-target.ts";

/** A new program that has not registered by then is given up by the old one, which has a little less, in ms. */
const TAKEN_WITHIN_MS = 70_000;
/** All of it: that, and the longest grace period there is. */
const OVER_WITHIN_MS = 270_000;
const LOOK_EVERY_MS = 200;

/**
 * Whether the running tunnel can make way for the program that is installed now without a stop. Only systemd tells how
 * many connections it has, and without one there is nothing to keep up.
 */
export function canHandOver({ spec, init }: Target, before: ServiceState): before is ServiceState & { pid: number } {
  return (
    process.platform === "linux" &&
    spec.role === "connector" &&
    init.kind === "systemd" &&
    before.active === "running" &&
    before.pid !== undefined &&
    (before.connections ?? 0) > 0
  );
}

/**
 * Has the process make way for the installed program, and waits until that is what runs: new requests go to the new
 * one at once, and what the old one has is ended within its grace period. False: it was not taken, and the old one
 * goes on.
 */
export async function handOver(target: Target, pid: number, stop: AbortSignal): Promise<boolean> {
  process.kill(pid, "SIGUSR2");
  const begunMs = systemClock.nowMs();
  for (;;) {
    const state = await stateOf(target);
    if (state.active === "running" && (await processOf(target, state)) === "ours") return true;
    const tookMs = systemClock.nowMs() - begunMs;
    // Once the new one is registered, the old one has no connection left.
    const refused = state.connected === true && tookMs > TAKEN_WITHIN_MS;
    if (refused || tookMs > OVER_WITHIN_MS || stop.aborted) return false;
    await new Promise<void>((resolve) => systemClock.after(LOOK_EVERY_MS, resolve));
  }
}
