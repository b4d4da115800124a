import { expect, test } from "bun:test";
import { planUninstall } from "../../../src/cli/service-plan.ts";
import { layoutOf, type Scope, type ServiceSpec } from "../../../src/service/layout.ts";
import { createSystemd } from "../../../src/service/systemd.ts";
import { memoryHost } from "../config/memory-host.ts";

function purged(scope: Scope, role: ServiceSpec["role"]): readonly string[] {
  const spec: ServiceSpec = { role, name: undefined, scope, program: ["/usr/local/bin/culvert"], user: undefined };
  const place = { host: memoryHost(), init: createSystemd(252), spec, layout: layoutOf(spec, "linux") };
  const steps = planUninstall(place, { purge: true, others: [] });
  return steps.flatMap((step) => (step.kind === "remove" || step.kind === "remove-empty" ? [step.path] : []));
}

test("purging an account's services stays within its home", () => {
  const home = "/home/ann";
  for (const role of ["connector", "edge"] as const) {
    const paths = purged({ kind: "user", home }, role);
    expect(paths.filter((path) => !path.startsWith(`${home}/`))).toEqual([]);
    expect(paths.slice(-2)).toEqual([`${home}/.config/culvert`, `${home}/.config`]);
  }
});

test("purging the machine's edge removes its state, and the folder that systemd keeps it in", () => {
  const paths = purged({ kind: "system" }, "edge");
  expect(paths).toContain("/var/lib/culvert");
  expect(paths).toContain("/var/lib/private/culvert");
  expect(paths.at(-1)).toBe("/etc/culvert");
});
