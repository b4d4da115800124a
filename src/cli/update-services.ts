import { statSync } from "node:fs";
import { TunnelError } from "../core/errors.ts";
import { applySteps } from "../service/apply.ts";
import type { ServiceState } from "../service/init.ts";
import type { Context } from "./command.ts";
import { canHandOver, handOver } from "./service-hand-over.ts";
import { awaitState, findTarget, installedProgram, stateOf, type Target } from "./service-target.ts";

const COMMAND = "culvert update --services";
/** How long a service may take to be what it was before, in ms: as `TimeoutStartSec=` of our units. */
const UP_WITHIN_MS = 60_000;
const NAME_FLAGS = [
  { name: "name", type: "string", help: "" },
  { name: "edge", type: "bool", help: "" },
  { name: "init", type: "string", help: "" },
] as const;
const UNITS = ["culvert.service", "culvert@*.service", "culvert-edge.service"];

interface RunningService {
  readonly target: Target;
  readonly unit: string;
  readonly before: ServiceState;
}

/** The services of systemd that run a program, whose file gets another version. */
export class RunningServices {
  readonly #context: Context;
  readonly #services: readonly RunningService[];

  private constructor(context: Context, services: readonly RunningService[]) {
    this.#context = context;
    this.#services = services;
  }

  /** What runs now. Throws a TunnelError where systemd does not look after services. */
  static async find(context: Context, program: string): Promise<RunningServices> {
    const first = await target(context, new Map());
    if (first.init.kind !== "systemd") {
      throw new TunnelError("update.failed", "--services is for services of systemd: restart those of this machine");
    }
    const scope = first.spec.scope.kind === "user" ? ["--user"] : [];
    const { stdout } = await first.machine.run([
      ...["systemctl", ...scope, "list-units", "--plain", "--no-legend", "--state=active,activating,reloading"],
      ...UNITS,
    ]);
    const found: RunningService[] = [];
    for (const line of stdout.split("\n")) {
      const [, instance, edge] = /^culvert(?:@([a-z0-9-]+)|(-edge))?\.service\s/.exec(line) ?? [];
      if (!line.startsWith("culvert")) continue;
      const which: readonly [string, string] | undefined =
        edge !== undefined ? ["edge", "true"] : instance !== undefined ? ["name", instance] : undefined;
      const its = await target(context, new Map(which === undefined ? [] : [[which[0], [which[1]]]]));
      if ((await installedProgram(its)) !== program) continue;
      found.push({ target: its, unit: its.init.unit(its.spec), before: await stateOf(its) });
    }
    // Tunnels can make way without a stop; an edge that restarts ends connections of visitors, so it comes last.
    found.sort((a, b) => Number(a.target.spec.role === "edge") - Number(b.target.spec.role === "edge"));
    return new RunningServices(context, found);
  }

  /** One after the other; rejects with a TunnelError at the first that is not what it was before. */
  async takeOver(): Promise<void> {
    for (const service of this.#services) {
      this.#context.print(`${service.unit} takes over the new version`);
      await this.#renew(service);
    }
  }

  /** After the version before is installed again: whoever runs another one gets it. Never rejects. */
  async bringBack(): Promise<void> {
    for (const service of this.#services) {
      const { target: its, unit } = service;
      const now = await stateOf(its);
      if (now.active === "running" && runsInstalled(now, its)) continue;
      this.#context.note(`${unit} goes back to the version before`);
      try {
        await this.#renew(service);
      } catch (error) {
        // One that is not connected may have lost its edge: the others are still to be brought back.
        this.#context.note(`culvert: ${error instanceof Error ? error.message : String(error)}`);
      }
    }
  }

  async #renew({ target: its, unit, before }: RunningService): Promise<void> {
    const { stop } = this.#context;
    const { init, spec, machine } = its;
    const now = await stateOf(its);
    if (now.active === "running" && runsInstalled(now, its)) {
      // It came up with it, after a trial that was cut short.
    } else if (!canHandOver(its, now)) await applySteps(init.restart(spec), machine);
    else if (!(await handOver(its, now.pid, stop))) throw failed(`${unit} did not hand over to the installed version`);
    const wanted = ({ active, connected }: ServiceState): boolean =>
      active === "running" && (before.connected !== true || connected === true);
    const after = await awaitState(its, UP_WITHIN_MS, stop, wanted);
    if (stop.aborted) throw failed("Stopped");
    if (!wanted(after)) throw failed(`${unit} is ${after.active === "running" ? "not connected" : "not running"}`);
  }
}

async function target(context: Context, args: Context["args"]): Promise<Target> {
  const found = await findTarget({ ...context, args, positionals: [] }, NAME_FLAGS, COMMAND);
  if ("code" in found) throw failed("Cannot tell which services run");
  return found;
}

/** The very file, whatever its name has become meanwhile (proc(5)). */
function runsInstalled({ pid }: ServiceState, { spec }: Target): boolean {
  const [program = ""] = spec.program;
  try {
    const [runs, installed] = [statSync(`/proc/${pid}/exe`), statSync(program)];
    return runs.dev === installed.dev && runs.ino === installed.ino;
  } catch {
    return false;
  }
}

function failed(message: string): TunnelError {
  return new TunnelError("update.failed", message);
}
