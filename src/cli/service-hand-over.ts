import { readdirSync, readFileSync } from "node:fs";
import { systemClock } from "../core/clock.ts";
import { systemCode } from "../core/errors.ts";
import type { ServiceState } from "../service/init.ts";
import { processOf } from "./service-process.ts";
import { stateOf, type Target } from "./service-target.ts";

/** A new program that has not registered by then is given up by the old one, which has a little less, in ms. */
const TAKEN_WITHIN_MS = 70_000;
/** How long one without a connection may take to have one again, in ms. */
const BACK_WITHIN_MS = 90_000;
/** All of one try: what the new program is given, and the longest grace period there is. */
const OVER_WITHIN_MS = 270_000;
/** A second one for an edge that was away during the first. */
const MAX_TRIES = 2;
const LOOK_EVERY_MS = 200;

/** `refused`: the old program goes on, and kept its connections meanwhile. `unclear`: so it does, and had none. */
export type HandOver = "taken" | "refused" | "unclear";

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
 * one at once, and what the old one has is ended within its grace period. An edge that is away meanwhile is waited for,
 * and then the process is asked once more. Takes 6 minutes at most.
 */
export async function handOver(target: Target, pid: number, stop: AbortSignal): Promise<HandOver> {
  for (let tries = 0; tries < MAX_TRIES; tries++) {
    const outcome = await tryOnce(target, pid, stop);
    if (outcome !== "again") return outcome;
  }
  return "unclear";
}

/** `again`: the old program is connected, and was not all the time. */
async function tryOnce(target: Target, pid: number, stop: AbortSignal): Promise<HandOver | "again"> {
  ask(pid);
  const begunMs = systemClock.nowMs();
  let connectedMs = begunMs;
  let cutOff = false;
  for (;;) {
    const state = await stateOf(target);
    if (state.active === "running" && (await processOf(target, state)) === "ours") return "taken";
    const nowMs = systemClock.nowMs();
    const tookMs = nowMs - begunMs;
    // Without a connection it either drains, since the new one is registered, or has lost its edge.
    if (state.connected === true) connectedMs = nowMs;
    else cutOff = true;
    if (state.connected === true && tookMs > TAKEN_WITHIN_MS) return cutOff ? "again" : "refused";
    const away = tookMs > TAKEN_WITHIN_MS && nowMs - connectedMs > BACK_WITHIN_MS && !hasChild(pid);
    if (away || tookMs > OVER_WITHIN_MS || stop.aborted) return "unclear";
    await new Promise<void>((resolve) => systemClock.after(LOOK_EVERY_MS, resolve));
  }
}

function ask(pid: number): void {
  try {
    process.kill(pid, "SIGUSR2");
  } catch (error) {
    // Gone: systemd starts the service again, with what is installed.
    if (systemCode(error) !== "ESRCH") throw error;
  }
}

/** One that drains has the new program for a child; one that gave it up has none (proc_pid_task_children(5)). */
function hasChild(pid: number): boolean {
  try {
    const tasks = `/proc/${pid}/task`;
    return readdirSync(tasks).some((task) => readFileSync(`${tasks}/${task}/children`, "utf8").trim() !== "");
  } catch (error) {
    // A kernel that does not tell: the longest grace period is waited for.
    return systemCode(error) !== "ESRCH";
  }
}
