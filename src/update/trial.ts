import { describe } from "../core/errors.ts";
import { rollback, type UpdateOptions, type UpdateOutcome, update } from "./update.ts";

export interface TrialOptions extends UpdateOptions {
  /** Lets what is installed now, which is this version, serve; rejects when it does not. */
  readonly takeOver: (version: string) => Promise<void>;
}

export type TrialOutcome =
  | UpdateOutcome
  /** It was not taken over. `takenBack`: the version before is installed again, and this one is remembered. */
  | { readonly kind: "failed"; readonly version: string; readonly takenBack: boolean; readonly reason: string };

/**
 * An update that holds only when the new version serves: else the version before comes back, and no update takes the new
 * one again by itself. What others have installed is let serve too, and not taken back; nor is a version that was not
 * tried to the end because of the signal. Throws a TunnelError as `update` does.
 */
export async function updateOnTrial(options: TrialOptions): Promise<TrialOutcome> {
  const { running, clock } = options;
  const outcome = await update(options);
  if (outcome.kind === "rejected" || outcome.kind === "available") return outcome;
  const version = outcome.kind === "updated" ? outcome.to : outcome.version;
  if (version === running.version) return outcome;
  try {
    await options.takeOver(version);
    return outcome;
  } catch (error) {
    const reason = describe(error);
    if (outcome.kind === "current" || options.signal.aborted)
      return { kind: "failed", version, takenBack: false, reason };
    const back = await rollback(running, clock, { version, reason });
    return { kind: "failed", version, takenBack: back.kind === "updated", reason };
  }
}
