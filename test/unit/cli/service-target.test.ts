import { expect, test } from "bun:test";
import { SERVICE_INSTALL_FLAGS, SERVICE_UNINSTALL_FLAGS } from "../../../src/cli/service-flags.ts";
import { findTarget } from "../../../src/cli/service-target.ts";
import type { Flag } from "../../../src/config/flags.ts";
import type { ServiceSpec } from "../../../src/service/layout.ts";
import { renderOpenrc } from "../../../src/service/openrc.ts";
import { commandContext } from "../../support/command-context.ts";
import { memoryHost } from "../config/memory-host.ts";

const SCRIPT = renderOpenrc({
  ...{ role: "connector", name: "web", scope: { kind: "system" }, program: ["/usr/local/bin/culvert"], user: "ann" },
});

async function userOf(flags: readonly Flag[], given: Readonly<Record<string, string>>): Promise<string | undefined> {
  const all = { init: "openrc", ...given };
  const context = commandContext({
    args: new Map(Object.entries(all).map(([name, value]) => [name, [value]])),
    host: memoryHost({ "/etc/init.d/culvert-web": SCRIPT }),
  });
  const target = await findTarget(context, flags, "culvert service install");
  return "code" in target ? "refused" : target.spec.user;
}

test("an installation that names no account keeps the installed one, and an empty name gives it up", async () => {
  expect(await userOf(SERVICE_INSTALL_FLAGS, { name: "web" })).toBe("ann");
  expect(await userOf(SERVICE_INSTALL_FLAGS, { name: "web", user: "bob" })).toBe("bob");
  expect(await userOf(SERVICE_INSTALL_FLAGS, { name: "web", user: "" })).toBeUndefined();
  expect(await userOf(SERVICE_INSTALL_FLAGS, { name: "other" })).toBeUndefined();
});

test("the other commands know the installed account too", async () => {
  expect(await userOf(SERVICE_UNINSTALL_FLAGS, { name: "web" })).toBe("ann");
});

test("where an edge has its state: an installation goes by what it is told, the other commands by what is there", async () => {
  const edge: ServiceSpec = {
    ...{
      role: "edge",
      name: undefined,
      scope: { kind: "system" },
      program: ["/usr/local/bin/culvert"],
      user: undefined,
    },
  };
  const kept = { "/etc/culvert/edge.env": "CULVERT_DOMAIN='x.test'\nCULVERT_STATE_DIR='/var/lib/kept'\n" };
  const script = { "/etc/init.d/culvert-edge": renderOpenrc({ ...edge, stateDir: "/var/lib/there" }) };
  const stateDir = async (
    flags: readonly Flag[],
    files: Readonly<Record<string, string>>,
    given: readonly (readonly [string, readonly string[]])[] = [],
  ): Promise<string> => {
    const target = await findTarget(
      commandContext({
        args: new Map([["init", ["openrc"]], ["edge", ["true"]], ...given]),
        host: memoryHost(files),
      }),
      flags,
      "culvert service",
    );
    return "code" in target ? "refused" : target.layout.stateDir;
  };
  const asked = [["state-dir", ["/var/lib/asked"]]] as const;
  expect(await stateDir(SERVICE_INSTALL_FLAGS, { ...kept, ...script }, asked)).toBe("/var/lib/asked");
  expect(await stateDir(SERVICE_INSTALL_FLAGS, { ...kept, ...script })).toBe("/var/lib/kept");
  expect(await stateDir(SERVICE_INSTALL_FLAGS, script)).toBe("/var/lib/culvert");
  expect(await stateDir(SERVICE_UNINSTALL_FLAGS, { ...kept, ...script })).toBe("/var/lib/there");
  expect(await stateDir(SERVICE_UNINSTALL_FLAGS, kept)).toBe("/var/lib/kept");
  expect(await stateDir(SERVICE_UNINSTALL_FLAGS, {})).toBe("/var/lib/culvert");
});
