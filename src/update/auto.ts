import { access, constants } from "node:fs/promises";
import { dirname } from "node:path";
import { type Clock, delay, type Random } from "../core/clock.ts";
import { describe } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import type { MinisignPublicKey } from "../wire/minisign.ts";
import { packageManagerOf, versionOf } from "./installed.ts";
import { nextCheckMs, type Schedule } from "./schedule.ts";
import { type Running, rollback, update } from "./update.ts";

export interface AutoUpdateOptions {
  readonly from: string;
  readonly keys: readonly MinisignPublicKey[];
  readonly running: Running;
  readonly schedule: Schedule;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  /** Ends it. */
  readonly signal: AbortSignal;
  /** Lets the program file, as it is now, take over; rejects when it does not, and then nothing has changed. */
  readonly handOver: () => Promise<void>;
}

/** Why the program at this path is not this process's to replace; undefined when it is. */
export async function whyNotReplaceable(path: string): Promise<string | undefined> {
  const manager = await packageManagerOf(path);
  if (manager !== undefined) return `a package manager (${manager}) has installed it`;
  return await access(dirname(path), constants.W_OK).then(
    () => undefined,
    () => `this account may not write to "${dirname(path)}"`,
  );
}

/**
 * Looks for newer versions now and then, installs one and lets it take over. A version that does not take over is taken
 * back and not tried again. Resolves at the end of the signal, or after the hand-over; never rejects.
 */
export async function updateNowAndThen(options: AutoUpdateOptions): Promise<void> {
  const { clock, log, signal } = options;
  const rejected = new Set<string>();
  while (await delay(clock, nextCheckMs(options.schedule, clock.wallMs(), options.random), signal)) {
    try {
      if (await tryOnce(options, rejected)) return;
    } catch (error) {
      if (!signal.aborted) log.warn("The update failed, and this version goes on", { error: describe(error) });
    }
  }
}

/** True after a hand-over. */
async function tryOnce(options: AutoUpdateOptions, rejected: Set<string>): Promise<boolean> {
  const { from, keys, running, clock, log, signal } = options;
  const common = { from, keys, running, clock, signal, allowDowngrade: false, onProgress: () => {} };
  const found = await update({ ...common, check: true });
  if (found.kind === "current" || rejected.has(found.to)) return false;
  // Another process may have been quicker, also with a version that is newer still.
  const outcome = await update({ ...common, version: found.to, check: false });
  const to = outcome.kind === "current" ? outcome.version : outcome.to;
  if (rejected.has(to)) return false;
  log.info(`Version ${to} is installed, and takes over from ${running.version}`);
  try {
    await options.handOver();
    return true;
  } catch (error) {
    if (signal.aborted) return false;
    rejected.add(to);
    const there = await versionOf(running.path, clock).catch(() => undefined);
    if (outcome.kind === "updated" && there === to) await rollback(running, clock);
    log.error(`Version ${to} does not work here, and ${running.version} goes on`, { error: describe(error) });
    return false;
  }
}
