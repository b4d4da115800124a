import { existsSync, readdirSync } from "node:fs";
import { applySteps } from "../service/apply.ts";
import { describeStep } from "../service/steps.ts";
import { type Context, EXIT } from "./command.ts";
import { reportError, reportFailure } from "./failure.ts";
import { SERVICE_UNINSTALL_FLAGS } from "./service-flags.ts";
import { keptFiles, planUninstall } from "./service-plan.ts";
import { findTarget, type Target } from "./service-target.ts";

const COMMAND = "culvert service uninstall";
const TUNNEL_UNIT = /^culvert(@[a-z0-9-]+\.service|\.service|-(?!edge$)[a-z0-9-]+)?$/;

/** `culvert service uninstall`: also what is left of a service that was removed half. */
export async function run(context: Context): Promise<number> {
  const target = await findTarget(context, SERVICE_UNINSTALL_FLAGS, COMMAND);
  if ("code" in target) return target.code;
  const { init, spec, layout, machine, values } = target;
  const purge = values.bool("purge");
  const steps = planUninstall({ host: context.host, init, spec, layout }, { purge, others: othersInstalled(target) });
  if (values.bool("dry-run")) {
    for (const step of steps) context.print(describeStep(step));
    return EXIT.ok;
  }
  if (spec.scope.kind === "system" && (process.getuid?.() ?? 0) !== 0) {
    return reportFailure(context, ["Removing a service of this machine is for root: use sudo"], {
      usage: false,
      command: COMMAND,
    });
  }
  try {
    await applySteps(steps, machine);
  } catch (error) {
    return reportError(context, error);
  }
  context.print(`${init.unit(spec)} is removed`);
  for (const path of keptFiles({ host: context.host, spec, layout })) {
    context.print(`kept ${path}: --purge removes it too`);
  }
  return EXIT.ok;
}

/** Units of other tunnels, with whom this one shares what belongs to none of them alone. */
function othersInstalled({ init, spec }: Target): readonly string[] {
  if (spec.role === "edge") return [];
  const folders =
    spec.scope.kind === "user"
      ? [`${spec.scope.home}/.config/systemd/user/default.target.wants`]
      : ["/etc/systemd/system/multi-user.target.wants", "/etc/init.d", "/usr/local/etc/rc.d"];
  return folders
    .filter((folder) => existsSync(folder))
    .flatMap((folder) => readdirSync(folder))
    .map((name) => name.replaceAll("_", "-"))
    .filter((name) => TUNNEL_UNIT.test(name) && name !== init.unit(spec));
}
