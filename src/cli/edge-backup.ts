import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { expandHome } from "../config/host.ts";
import { Values } from "../config/values.ts";
import { systemClock } from "../core/clock.ts";
import { TunnelError } from "../core/errors.ts";
import { restoreEdgeBackup, writeEdgeBackup } from "../edge/backup-file.ts";
import { openStateDir } from "../edge/state-dir.ts";
import { lockStateDir } from "../edge/store/lock.ts";
import { openSqliteStore } from "../edge/store/sqlite/index.ts";
import { type Context, EXIT } from "./command.ts";
import { EDGE_STATE_FLAGS } from "./edge-flags.ts";
import { stateDirOf, withEdgeState } from "./edge-state.ts";
import { reportError, reportFailure } from "./failure.ts";
import { positionals, UsageError } from "./management.ts";
import { operator } from "./operator.ts";

/**
 * How far configurations are numbered ahead when they come back. Connectors may hold versions that were made after the
 * backup, and would take a different one of the same number for one that they have.
 */
const RESTORED_AHEAD = 1_000_000;

/** `culvert edge backup FILE`: also while the edge runs. */
export function backup(context: Context): Promise<number> {
  return withEdgeState(context, "edge backup", EDGE_STATE_FLAGS, { make: false }, async ({ store, state }) => {
    const [given] = positionals(context, ["FILE"]);
    const path = resolve(expandHome(context.host, given));
    await writeEdgeBackup(state, store, path);
    context.note(`Wrote ${path}. It holds the edge's keys: keep it secret`);
  });
}

/** `culvert edge restore FILE`: while the edge stands still; what was there before goes aside. */
export async function restore(context: Context): Promise<number> {
  const values = new Values(EDGE_STATE_FLAGS, { args: context.args, env: context.host.env });
  try {
    const [given] = positionals(context, ["FILE"]);
    const dir = resolve(stateDirOf(values, context.host));
    // Held until all is in place: an edge that starts meanwhile must not find half of it.
    using _lock = takeLock(dir);
    const aside = restoreEdgeBackup(
      resolve(expandHome(context.host, given)),
      dir,
      systemClock.wallMs(),
      prepareRestored,
    );
    if (aside !== undefined) context.note(`Moved what was there to ${aside}`);
    context.note(`Restored ${dir}`);
    return EXIT.ok;
  } catch (error) {
    if (!(error instanceof UsageError)) return reportError(context, error);
    return reportFailure(context, [error.message], { usage: true, command: "culvert edge restore" });
  }
}

/** Throws while an edge runs there; where there is no directory yet, none does. */
function takeLock(dir: string): Disposable | null {
  return existsSync(dir) ? lockStateDir(dir) : null;
}

function prepareRestored(dir: string): void {
  const state = openStateDir(dir, systemClock.wallMs());
  const store = openSqliteStore(state.databasePath, state.sealingKey);
  try {
    const damages = store.check();
    if (damages.length > 0) throw new TunnelError("store.failed", `The backup is damaged: ${damages.join("; ")}`);
    for (const { id } of store.tunnels.find({ deleted: false, configSource: "remote" }).items) {
      const current = store.configurations.current(id);
      if (current === undefined) continue;
      store.configurations.put(id, current.config, operator(), current.version + RESTORED_AHEAD);
    }
  } finally {
    store.close();
  }
}
