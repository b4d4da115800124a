import { expandHome } from "../config/host.ts";
import { Values } from "../config/values.ts";
import { systemClock } from "../core/clock.ts";
import { describe } from "../core/errors.ts";
import { BUILD_TARGET, VERSION } from "../core/version.ts";
import { packageManagerOf } from "../update/installed.ts";
import { builtInKeys } from "../update/keys.ts";
import { updateOnTrial } from "../update/trial.ts";
import { type Running, rollback, type UpdateOptions, type UpdateOutcome, update } from "../update/update.ts";
import { parseVersion } from "../update/version.ts";
import { readAuthorities } from "./authorities.ts";
import { type Context, EXIT } from "./command.ts";
import { reportFailure } from "./failure.ts";
import { UPDATE_FLAGS } from "./update-flags.ts";
import { readKeys } from "./update-keys.ts";
import { RunningServices } from "./update-services.ts";

/** What a timer or a script acts on: there is a new program, which what runs may still have to take (surface: section 7). */
const UPDATED = 11;
const UPDATE_FAILED = 10;
/** Progress is said each time this share more has come. */
const PROGRESS_STEP = 0.1;

/** `culvert update`. */
export async function run(context: Context): Promise<number> {
  const command = "culvert update";
  const { host, note, print } = context;
  const values = new Values(UPDATE_FLAGS, { args: context.args, env: host.env });
  const usage = values.issues.map(({ message }) => message);
  const from = values.string("from");
  const version = values.string("version");
  const goBack = values.bool("rollback");
  if (context.positionals.length > 0) usage.push(`${command} takes no arguments`);
  if (version !== undefined && parseVersion(version) === undefined) usage.push(`"${version}" is not a version`);
  const check = values.bool("check");
  const withServices = values.bool("services");
  if (goBack && (version !== undefined || check)) usage.push("--rollback goes with neither --version nor --check");
  if (withServices && (goBack || check)) usage.push("--services goes with neither --rollback nor --check");
  if (!goBack && from === undefined) {
    usage.push("Say where releases are with --from or CULVERT_UPDATE_FROM: no server is asked unless you name it");
  }
  const keys = readKeys(context, values.list("update-key"), usage, "update-key");
  // Going back asks no server.
  const ca = readAuthorities(context, goBack ? undefined : values.string("cacert"), usage);
  if (usage.length > 0) return reportFailure(context, usage, { usage: true, command });

  const fail = (message: string): number => {
    note(`culvert: ${message}`);
    return UPDATE_FAILED;
  };
  if (BUILD_TARGET === undefined) return fail("This culvert runs from source: update the checkout");
  const running: Running = { path: process.execPath, version: VERSION, target: BUILD_TARGET };
  const manager = await packageManagerOf(running.path);
  if (manager !== undefined) {
    note(`culvert: A package manager (${manager}) has installed this culvert: update it with that`);
    return EXIT.ok;
  }
  try {
    if (goBack) return report(await rollback(running, systemClock), running.path, print);
    const options: UpdateOptions = {
      ...{ from: expandHome(host, from ?? ""), running, keys: [...builtInKeys(), ...keys], version, check },
      ca,
      evenIfRejected: version !== undefined,
      // A timer's way.
      automatic: withServices,
      allowDowngrade: values.bool("allow-downgrade"),
      clock: systemClock,
      signal: context.stop,
      onProgress: progress(note),
    };
    if (!withServices) return report(await update(options), running.path, print);
    const services = await RunningServices.of(context, running.path);
    const outcome = await updateOnTrial({
      ...options,
      takeOver: (installed) => services.takeOver({ resumed: installed === running.version }),
      bringBack: () => services.bringBack(),
    });
    if (outcome.kind !== "failed") return report(outcome, running.path, print, services.serving > 0);
    note(`culvert: Version ${outcome.version} does not work here: ${outcome.reason}`);
    const { version: failed, backTo, rejected } = outcome;
    if (backTo === undefined)
      return fail("It is not taken back: this was stopped, or another process has changed the program");
    const next = rejected
      ? `no update takes ${failed} by itself`
      : `the next one tries ${failed} again: its fault is not proven`;
    return fail(`${running.path} is culvert ${backTo} again, and ${next}`);
  } catch (error) {
    return fail(describe(error));
  }
}

function report(outcome: UpdateOutcome, path: string, print: (text: string) => void, served = false): number {
  switch (outcome.kind) {
    case "current":
      print(`culvert ${outcome.version} is the newest version`);
      return EXIT.ok;
    case "available":
      print(`culvert ${outcome.to} can replace ${outcome.from}`);
      if (outcome.left !== undefined) {
        print(`It was ${outcome.left.reason} at ${outcome.left.at}: no update takes it by itself, culvert update does`);
      }
      return EXIT.ok;
    case "rejected": {
      const { version, at, reason } = outcome.rejection;
      print(`culvert ${version} was taken back here at ${at}: ${reason}`);
      print(`No update takes it by itself; culvert update --version ${version} does`);
      return EXIT.ok;
    }
    case "updated":
      print(
        `${path} is now culvert ${outcome.to}, before ${outcome.from}` +
          (served ? ", and its services run it" : ": restart what runs it"),
      );
      return UPDATED;
  }
}

function progress(note: (text: string) => void): (doneBytes: number, totalBytes: number) => void {
  let said = 0;
  return (doneBytes, totalBytes) => {
    const share = doneBytes / totalBytes;
    if (share < said + PROGRESS_STEP && (share < 1 || said === 1)) return;
    said = share < 1 ? Math.floor(share / PROGRESS_STEP) * PROGRESS_STEP : 1;
    note(`Downloaded ${Math.floor(share * 100)} % of ${(totalBytes / 1e6).toFixed(1)} MB`);
  };
}
