import { expect, test } from "bun:test";
import { SERVICE_INSTALL_FLAGS, SERVICE_UNINSTALL_FLAGS } from "../../../src/cli/service-flags.ts";
import { findTarget } from "../../../src/cli/service-target.ts";
import type { Flag } from "../../../src/config/flags.ts";
import { renderOpenrc } from "../../../src/service/openrc.ts";
import { memoryHost } from "../config/memory-host.ts";

const SCRIPT = renderOpenrc({
  ...{ role: "connector", name: "web", scope: { kind: "system" }, program: ["/usr/local/bin/culvert"], user: "ann" },
});

async function userOf(flags: readonly Flag[], given: Readonly<Record<string, string>>): Promise<string | undefined> {
  const all = { init: "openrc", ...given };
  const context = {
    args: new Map(Object.entries(all).map(([name, value]) => [name, [value]])),
    positionals: [],
    host: memoryHost({ "/etc/init.d/culvert-web": SCRIPT }),
    print: () => {},
    note: () => {},
    stop: new AbortController().signal,
  };
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
