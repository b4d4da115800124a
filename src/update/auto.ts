import { access, constants } from "node:fs/promises";
import { dirname } from "node:path";
import { type Clock, delay, type Random } from "../core/clock.ts";
import { describe, TunnelError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import type { MinisignPublicKey } from "../wire/minisign.ts";
import { packageManagerOf } from "./installed.ts";
import { nextCheckMs, type Schedule } from "./schedule.ts";
import { updateOnTrial } from "./trial.ts";
import { type Running, update } from "./update.ts";

export interface AutoUpdateOptions {
  readonly from: string;
  readonly keys: readonly MinisignPublicKey[];
  /** See `SourceDeps`. */
  readonly ca?: string | undefined;
  readonly running: Running;
  readonly schedule: Schedule;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  /** Ends it. */
  readonly signal: AbortSignal;
  /** Lets the program file, as it is now, take over; rejects when it does not, and then nothing has changed. */
  readonly handOver: () => Promise<void>;
  /** Whether this process could serve all through the last try, so that the version is at fault. @default it could */
  readonly couldServe?: () => boolean;
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
 * back and, where that is its fault, not tried again, by this process or by another. Resolves at the end of the signal, or after the hand-over; never rejects.
 */
export async function updateNowAndThen(options: AutoUpdateOptions): Promise<void> {
  const { clock, log, signal } = options;
  const failed = new Set<string>();
  while (await delay(clock, nextCheckMs(options.schedule, clock.wallMs(), options.random), signal)) {
    try {
      if (await tryOnce(options, failed)) return;
    } catch (error) {
      if (!signal.aborted) log.warn("The update failed, and this version goes on", { error: describe(error) });
    }
  }
}

/** True after a hand-over. */
async function tryOnce(options: AutoUpdateOptions, failed: Set<string>): Promise<boolean> {
  const { from, keys, ca, running, clock, log, signal } = options;
  const rest = { allowDowngrade: false, automatic: true, onProgress: () => {} };
  const common = { from, keys, ca, running, clock, signal, ...rest };
  const found = await update({ ...common, check: true });
  if (found.kind !== "available" || failed.has(found.to)) return false;
  const outcome = await updateOnTrial({
    ...{ ...common, version: found.to, check: false },
    takeOver: async (version) => {
      // Another process may have been quicker, also with a version that is newer still.
      if (failed.has(version)) throw new TunnelError("update.failed", "It did not take over before");
      log.info(`Version ${version} is installed, and takes over from ${running.version}`);
      await options.handOver();
    },
    bringBack: async () => options.couldServe?.() ?? true,
  });
  if (outcome.kind === "rejected") return false;
  if (outcome.kind !== "failed") return true;
  const { version, reason, backTo, rejected } = outcome;
  if (signal.aborted || failed.has(version)) return false;
  if (backTo !== undefined && !rejected) {
    log.warn(`Version ${version} is tried again later: the edge was away`, { error: reason });
    return false;
  }
  failed.add(version);
  log.error(`Version ${version} does not work here, and ${running.version} goes on`, { error: reason });
  return false;
}
