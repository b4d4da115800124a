import { VERSION } from "../core/version.ts";
import { applySteps } from "../service/apply.ts";
import type { ServiceState } from "../service/init.ts";
import { type Context, EXIT } from "./command.ts";
import { reportError } from "./failure.ts";
import { SERVICE_LOGS_FLAGS, SERVICE_RESTART_FLAGS, SERVICE_STATUS_FLAGS } from "./service-flags.ts";
import { programOfProcess } from "./service-process.ts";
import { awaitState, findTarget, installedProgram, stateOf, type Target } from "./service-target.ts";

/** Exit codes of `status`, as init scripts have them (LSB 5.0, section 22.2). */
const STATUS_EXIT = { running: 0, stopped: 3, unknown: 4 } as const;
const RESTART_DEADLINE_MS = 60_000;

/** `culvert service status`. */
export async function status(context: Context): Promise<number> {
  const target = await findTarget(context, SERVICE_STATUS_FLAGS, "culvert service status");
  if ("code" in target) return target.code;
  const state = await stateOf(target);
  const shown = describeState(target, state, await installedProgram(target));
  if (target.values.bool("json")) context.print(JSON.stringify(shown));
  else for (const line of lines(shown)) context.print(line);
  if (!state.installed) return STATUS_EXIT.unknown;
  return state.active === "running" || state.active === "starting" ? STATUS_EXIT.running : STATUS_EXIT.stopped;
}

/** `culvert service restart`. */
export async function restart(context: Context): Promise<number> {
  const target = await findTarget(context, SERVICE_RESTART_FLAGS, "culvert service restart");
  if ("code" in target) return target.code;
  const { init, spec, machine } = target;
  try {
    if (!(await stateOf(target)).installed) {
      context.note(`culvert: ${init.unit(spec)} is not installed: see 'culvert service install --help'`);
      return EXIT.failed;
    }
    await applySteps(init.restart(spec), machine);
    const state = await awaitState(target, RESTART_DEADLINE_MS, context.stop, ({ active }) => active !== "starting");
    context.print(`${init.unit(spec)} is ${state.active}`);
    return state.active === "running" ? EXIT.ok : EXIT.failed;
  } catch (error) {
    return reportError(context, error);
  }
}

/** `culvert service logs`. */
export async function logs(context: Context): Promise<number> {
  const target = await findTarget(context, SERVICE_LOGS_FLAGS, "culvert service logs");
  if ("code" in target) return target.code;
  const { init, spec, machine, values } = target;
  const options = { lines: Math.max(0, values.number("lines")), follow: values.bool("follow") };
  return await machine.show(init.logs(spec, options), context.stop);
}

interface ShownState extends ServiceState {
  readonly unit: string;
  readonly init: string;
  readonly scope: "system" | "user";
  /** Of the program that answers this. */
  readonly version: string;
  /** What the installed service starts: the path of the program. */
  readonly program?: string;
  /** The process runs another program than the one that is installed: a restart is due. Known on Linux only. */
  readonly outdated: boolean;
}

function describeState({ init, spec }: Target, state: ServiceState, program: string | undefined): ShownState {
  return {
    unit: init.unit(spec),
    init: init.kind,
    scope: spec.scope.kind,
    version: VERSION,
    ...state,
    ...(program === undefined ? {} : { program }),
    outdated: program !== undefined && programOfProcess(state.pid, program) === "other",
  };
}

function lines(state: ShownState): readonly string[] {
  if (!state.installed) return [`${state.unit} (${state.init}) is not installed`];
  const { restarts } = state;
  return [
    `${state.unit} (${state.init}) is ${state.active}${state.enabled ? ", starts by itself" : ", does not start by itself"}`,
    ...(state.detail === undefined ? [] : [state.detail]),
    ...(state.pid === undefined
      ? []
      : [`process ${state.pid}${state.since === undefined ? "" : ` since ${state.since}`}`]),
    ...(restarts === undefined || restarts === 0 ? [] : [`started again by itself ${restarts} times`]),
    ...(state.outdated ? ["it runs an older program than the one installed: culvert service restart"] : []),
  ];
}
