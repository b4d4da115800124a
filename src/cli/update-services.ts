import { describe, TunnelError } from "../core/errors.ts";
import { applySteps } from "../service/apply.ts";
import type { ServiceState } from "../service/init.ts";
import type { Context } from "./command.ts";
import { canHandOver, handOver } from "./service-hand-over.ts";
import { programOfProcess } from "./service-process.ts";
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

interface FoundService {
  readonly target: Target;
  readonly unit: string;
}

/** A service that does not serve. */
interface Failure {
  readonly service: FoundService;
  readonly before: ServiceState;
  readonly reason: string;
  /** It had what it takes to serve, so that another version that does shows where the fault is. */
  readonly fair: boolean;
}

/** The services of systemd that run a program, whose file gets another version. */
export class RunningServices {
  readonly #context: Context;
  readonly #program: string;
  #services: readonly FoundService[] = [];
  #failure: Failure | undefined;
  #serving = 0;

  private constructor(context: Context, program: string) {
    this.#context = context;
    this.#program = program;
  }

  /** Throws a TunnelError where systemd does not look after services. */
  static async of(context: Context, program: string): Promise<RunningServices> {
    const { init } = await target(context, new Map());
    if (init.kind !== "systemd") {
      throw new TunnelError("update.failed", "--services is for services of systemd: restart those of this machine");
    }
    return new RunningServices(context, program);
  }

  /** How many serve after {@link takeOver}. */
  get serving(): number {
    return this.#serving;
  }

  /**
   * One after the other; rejects with a TunnelError at the first that ran before and now is not what it was. One that did
   * not run is started with the new version, whatever comes of it. `resumed`: a trial was cut short, and what does not
   * run may be for this version's fault.
   */
  async takeOver({ resumed }: { readonly resumed: boolean }): Promise<void> {
    // Not before: a download takes its time.
    this.#services = await findServices(this.#context, this.#program);
    this.#failure = undefined;
    this.#serving = 0;
    for (const service of this.#services) {
      const before = await stateOf(service.target);
      if (before.active !== "running" && !resumed) {
        await this.#startAnew(service);
        continue;
      }
      this.#context.print(`${service.unit} takes over the new version`);
      this.#failure = await this.#renew(service, before);
      if (this.#failure !== undefined) throw failed(this.#failure.reason);
      this.#serving++;
    }
  }

  /**
   * After the version before is installed again: whoever runs another one gets it. Never rejects.
   *
   * @returns whether the other version is at fault, as far as can be told: this one serves where that one did not
   */
  async bringBack(): Promise<boolean> {
    const failure = this.#failure;
    let atFault = false;
    for (const service of this.#services) {
      try {
        const now = await stateOf(service.target);
        const isBack = now.active === "running" && programOfProcess(now.pid, this.#program) === "ours";
        if (!isBack) this.#context.note(`${service.unit} goes back to the version before`);
        else if (service !== failure?.service || !failure.fair) continue;
        const before = service === failure?.service ? failure.before : now;
        const problem = await this.#renew(service, before);
        // One that is not connected may have lost its edge: the others are still to be brought back.
        if (problem !== undefined) this.#context.note(`culvert: ${problem.reason}`);
        else if (service === failure?.service) atFault = failure.fair;
      } catch (error) {
        this.#context.note(`culvert: ${describe(error)}`);
      }
    }
    return atFault;
  }

  async #startAnew({ target: { init, spec, machine }, unit }: FoundService): Promise<void> {
    this.#context.print(`${unit} was not running: it is started with the new version, which is not judged by it`);
    try {
      await applySteps(init.restart(spec), machine);
    } catch (error) {
      this.#context.note(`culvert: ${describe(error)}`);
    }
  }

  /** Undefined when it is what it was before. */
  async #renew(service: FoundService, before: ServiceState): Promise<Failure | undefined> {
    const { target: its, unit } = service;
    const { stop } = this.#context;
    const problem = (reason: string, fair: boolean): Failure => ({
      ...{ service, before },
      ...(stop.aborted ? { reason: "Stopped", fair: false } : { reason, fair }),
    });
    const now = await stateOf(its);
    if (now.active === "running" && programOfProcess(now.pid, this.#program) === "ours") {
      // It came up with it, after a trial that was cut short.
    } else if (canHandOver(its, now)) {
      const taken = await handOver(its, now.pid, stop);
      if (taken === "refused") return problem(`${unit} did not hand over to the installed version`, true);
      if (taken === "unclear") return problem(`${unit} lost its edge while it handed over`, false);
    } else {
      try {
        await applySteps(its.init.restart(its.spec), its.machine);
      } catch (error) {
        return problem(describe(error), true);
      }
    }
    const wanted = ({ active, connected }: ServiceState): boolean =>
      active === "running" && (before.connected !== true || connected === true);
    const after = await awaitState(its, UP_WITHIN_MS, stop, wanted);
    if (stop.aborted) return problem("", false);
    if (wanted(after)) return undefined;
    // What was taken over was connected before that: now the edge may be away just as well.
    return after.active === "running"
      ? problem(`${unit} is not connected`, false)
      : problem(`${unit} is not running`, true);
  }
}

/** What runs a program, or tries to. */
async function findServices(context: Context, program: string): Promise<readonly FoundService[]> {
  const first = await target(context, new Map());
  const scope = first.spec.scope.kind === "user" ? ["--user"] : [];
  const { stdout } = await first.machine.run([
    ...["systemctl", ...scope, "list-units", "--plain", "--no-legend", "--state=active,activating,reloading"],
    ...UNITS,
  ]);
  const found: FoundService[] = [];
  for (const line of stdout.split("\n")) {
    const [, instance, edge] = /^culvert(?:@([a-z0-9-]+)|(-edge))?\.service\s/.exec(line) ?? [];
    if (!line.startsWith("culvert")) continue;
    const which: readonly [string, string] | undefined =
      edge !== undefined ? ["edge", "true"] : instance !== undefined ? ["name", instance] : undefined;
    const its = await target(context, new Map(which === undefined ? [] : [[which[0], [which[1]]]]));
    if ((await installedProgram(its)) !== program) continue;
    found.push({ target: its, unit: its.init.unit(its.spec) });
  }
  // Tunnels can make way without a stop; an edge that restarts ends connections of visitors, so it comes last.
  return found.sort((a, b) => Number(a.target.spec.role === "edge") - Number(b.target.spec.role === "edge"));
}

async function target(context: Context, args: Context["args"]): Promise<Target> {
  const found = await findTarget({ ...context, args, positionals: [] }, NAME_FLAGS, COMMAND);
  if ("code" in found) throw failed("Cannot tell which services run");
  return found;
}

function failed(message: string): TunnelError {
  return new TunnelError("update.failed", message);
}
