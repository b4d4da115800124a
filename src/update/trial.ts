import { describe, TunnelError } from "../core/errors.ts";
import { begunTrial, endTrial, installedBinary, versionOf } from "./installed.ts";
import { type Blame, reject, rollback, type UpdateOptions, type UpdateOutcome, update } from "./update.ts";

export interface TrialOptions extends UpdateOptions {
  /** Lets what is installed now, which is this version, serve; rejects when it does not. */
  readonly takeOver: (version: string) => Promise<void>;
  /**
   * Lets the version before serve, which is installed again; never rejects. Tells whether the one that failed is at
   * fault, and not something that hinders both, such as an edge that is away. @default nothing is to do, and it is
   */
  readonly bringBack?: () => Promise<boolean>;
}

export type TrialOutcome =
  | UpdateOutcome
  /** It was not taken over. `backTo`: this version is installed again. `rejected`: the one that failed is remembered. */
  | {
      readonly kind: "failed";
      readonly version: string;
      readonly backTo: string | undefined;
      readonly rejected: boolean;
      readonly reason: string;
    };

type Failed = Extract<TrialOutcome, { readonly kind: "failed" }>;

/**
 * An update that holds only when the new version serves: else the version before comes back, and where the new one is at
 * fault no update takes it again by itself. What others have installed is let serve too, and not taken back; nor is a version that was not
 * tried to the end because of the signal. A trial that was cut short, of what is installed now, is gone through first,
 * whoever began it. Throws a TunnelError as `update` does; one about a version that failed says why that was as well.
 */
export async function updateOnTrial(options: TrialOptions): Promise<TrialOutcome> {
  const { running, clock } = options;
  const binary = installedBinary(running.path);
  const begun = await begunTrial(binary);
  if (begun !== undefined && begun === (await versionOf(binary.path, clock).catch(() => undefined))) {
    const failed = await tryOut(options, begun, true);
    if (failed !== undefined) return failed;
    // What is newer still is for the version that serves now.
    if (begun !== running.version) return { kind: "current", version: begun };
  }
  const outcome = await update({ ...options, onTrial: true });
  if (outcome.kind === "rejected" || outcome.kind === "available") return outcome;
  const version = outcome.kind === "updated" ? outcome.to : outcome.version;
  if (version === running.version) return outcome;
  return (await tryOut(options, version, outcome.kind === "updated")) ?? outcome;
}

/** Undefined when it serves. `ours`: it may be taken back. */
async function tryOut(options: TrialOptions, version: string, ours: boolean): Promise<Failed | undefined> {
  const { running, clock } = options;
  const binary = installedBinary(running.path);
  try {
    await options.takeOver(version);
    await endTrial(binary, version);
    return undefined;
  } catch (error) {
    const reason = describe(error);
    // Whoever comes next goes on with a trial that was stopped.
    if (!ours || options.signal.aborted) return { kind: "failed", version, backTo: undefined, rejected: false, reason };
    const blame = { version, reason };
    // With nothing to go back to it is not tried over and over, instead of what is newer.
    const back = await rollback(running, clock, version)
      .finally(() => endTrial(binary, version))
      .catch((problem) => failWithBoth(blame, "it could not be taken back", problem));
    if (back.kind !== "updated") return { kind: "failed", version, backTo: undefined, rejected: false, reason };
    const rejected = (await options.bringBack?.()) ?? true;
    if (rejected) {
      await reject(running, clock, blame).catch((problem) =>
        failWithBoth(blame, `${back.to} is back, but that could not be remembered`, problem),
      );
    }
    return { kind: "failed", version, backTo: back.to, rejected, reason };
  }
}

function failWithBoth({ version, reason }: Blame, then: string, problem: unknown): never {
  const message = `Version ${version} failed (${reason}), and ${then}: ${describe(problem)}`;
  throw new TunnelError("update.failed", message, { cause: problem });
}
