import { statSync } from "node:fs";
import { join } from "node:path";
import type { Flag } from "../config/flags.ts";
import { expandHome, type Host } from "../config/host.ts";
import { Values } from "../config/values.ts";
import { systemClock } from "../core/clock.ts";
import { systemCode, TunnelError } from "../core/errors.ts";
import { refuseHalfRestored } from "../edge/restore-journal.ts";
import { type EdgeState, openStateDir, stateDirError } from "../edge/state-dir.ts";
import type { Store } from "../edge/store/port.ts";
import { openSqliteStore } from "../edge/store/sqlite/index.ts";
import { familyOf, type Layout, layoutOf, type Scope } from "../service/layout.ts";
import { type Context, EXIT } from "./command.ts";
import { reportError, reportFailure } from "./failure.ts";
import { UsageError } from "./management.ts";

const SYSTEM: Scope = { kind: "system" };
const OF_ROOT = "that of this machine's service is for root: use sudo, or name another place with --state-dir";

/** What a command of the edge's owner works with. */
export interface EdgeWork {
  readonly store: Store;
  readonly state: EdgeState;
  readonly values: Values;
  readonly context: Context;
}

/** Where the edge keeps its state: `--state-dir`, else the usual place of the system or of the user. */
export function stateDirOf(values: Values, host: Host): string {
  const asked = values.string("state-dir");
  return asked === undefined ? usualStateDir(host) : expandHome(host, asked);
}

/** Where it is when nobody says: where a service of this account has it, so that one edge is meant by both. */
export function usualStateDir(host: Host, isRoot = process.getuid?.() === 0): string {
  return edgeLayout(host, isRoot || host.platform === "win32" ? SYSTEM : userScope(host)).stateDir;
}

/** A service of this account alone. A relative XDG_STATE_HOME is none (XDG Base Directory Specification). */
export function userScope({ env, homeDir }: Host): Scope {
  const stateHome = env["XDG_STATE_HOME"];
  return { kind: "user", home: homeDir, stateHome: stateHome?.startsWith("/") === true ? stateHome : undefined };
}

function edgeLayout(host: Host, scope: Scope): Layout {
  return layoutOf({ role: "edge", name: undefined, scope, program: [], user: undefined }, familyOf(host.platform));
}

/**
 * Opens the edge's state for a command of its owner, whether the edge runs or not, and turns what is thrown into lines
 * and exit codes. `command`: its name behind `culvert`. `make`: an edge that is not there yet is made.
 */
export async function withEdgeState(
  context: Context,
  command: string,
  flags: readonly Flag[],
  options: { readonly make: boolean },
  work: (edge: EdgeWork) => void | Promise<void>,
): Promise<number> {
  const values = new Values(flags, { args: context.args, env: context.host.env });
  const problems = values.issues.map((issue) => issue.message);
  if (problems.length > 0) return reportFailure(context, problems, { usage: true, command: `culvert ${command}` });
  try {
    const dir = stateDirOf(values, context.host);
    lookInto(dir);
    if (!options.make && isMissing(join(dir, "culvert.db"))) {
      // Its own folder is closed to whoever asks this.
      const elsewhere = process.getuid?.() !== 0 && context.host.exists(edgeLayout(context.host, SYSTEM).envFile);
      if (elsewhere) throw new TunnelError("store.missing", `There is no edge in "${dir}": ${OF_ROOT}`);
      throw new TunnelError(
        "store.missing",
        `There is no edge in "${dir}": make one with culvert edge init --state-dir ${dir}, or name its place with --state-dir`,
      );
    }
    const state = openStateDir(dir, systemClock.wallMs());
    const store = openSqliteStore(state.databasePath, state.sealingKey);
    try {
      await work({ store, state, values, context });
    } finally {
      store.close();
    }
    return EXIT.ok;
  } catch (error) {
    if (!(error instanceof UsageError)) return reportError(context, error);
    return reportFailure(context, [error.message], { usage: true, command: `culvert ${command}` });
  }
}

function lookInto(dir: string): void {
  try {
    refuseHalfRestored(dir);
  } catch (error) {
    throw stateDirError(dir, error);
  }
}

/** A file that is there and out of reach is not missing: opening it says why. */
function isMissing(path: string): boolean {
  try {
    statSync(path);
    return false;
  } catch (error) {
    return systemCode(error) === "ENOENT";
  }
}
