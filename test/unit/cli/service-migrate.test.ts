import { expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { findCloudflared } from "../../../src/cli/service-migrate.ts";
import type { Place } from "../../../src/cli/service-plan.ts";
import { layoutOf, type ServiceSpec } from "../../../src/service/layout.ts";
import { thisMachine } from "../../../src/service/machine.ts";
import { createSystemd } from "../../../src/service/systemd.ts";
import { sysv } from "../../../src/service/sysv.ts";
import { makeTempDir } from "../../support/temp-dir.ts";
import { memoryHost } from "../config/memory-host.ts";

const token = (tunnel: string): string =>
  btoa(JSON.stringify({ a: "account", t: tunnel, s: btoa("S3cr3t".repeat(4)) }));
const OLD = "00000000-0000-0000-0000-000000000000";
const NEW = "01234567-89ab-cdef-0123-456789abcdef";

function place(init: Place["init"], files: Readonly<Record<string, string>>): Place {
  const program = ["/usr/local/bin/culvert"];
  const spec: ServiceSpec = { role: "connector", name: undefined, scope: { kind: "system" }, program, user: undefined };
  return { host: memoryHost(files), init, spec, layout: layoutOf(spec, init.family) };
}

test("a unit counts with its drop-ins and files of variables", async () => {
  const unit = `[Service]\nExecStart=/usr/bin/cloudflared tunnel run --token ${token(OLD)}\n`;
  const at = place(createSystemd(252), {
    "/run/systemd/system": "",
    "/etc/systemd/system/cloudflared.service": unit,
    "/etc/default/cloudflared": `TUNNEL_TOKEN=${token(NEW)}\n`,
  });
  const dropIn =
    "[Service]\nEnvironmentFile=/etc/default/cloudflared\nExecStart=\nExecStart=/usr/bin/cloudflared tunnel run\n";
  const asked: (readonly string[])[] = [];
  const found = await findCloudflared(at, {
    run: async (argv) => {
      asked.push(argv);
      return await Promise.resolve({ code: 0, stdout: `# unit\n${unit}\n# drop-in\n${dropIn}`, stderr: "" });
    },
  });
  expect(asked).toEqual([["systemctl", "cat", "cloudflared.service"]]);
  expect(found.ok ? `${found.value.identity.parsed.tunnelId}` : found.error).toBe(NEW);
  const failed = await findCloudflared(at, {
    run: async () => await Promise.resolve({ code: 1, stdout: "", stderr: "No files found\n" }),
  });
  expect(failed).toEqual({ ok: false, error: "Cannot read cloudflared.service: No files found" });
});

test.skipIf(process.platform === "win32")("links of runlevels go by where they lead", async () => {
  using dir = makeTempDir();
  const script = `cmd="/usr/bin/cloudflared tunnel run --token ${token(NEW)}"\n`;
  const found = await findCloudflared(place(sysv, { "/etc/init.d/cloudflared": script }), thisMachine);
  if (!found.ok) throw new Error(found.error);
  const unlink = found.value.after.find((step) => step.kind === "run" && step.argv[0] === "sh");
  if (unlink?.kind !== "run") throw new Error("must remove links");
  for (const folder of ["init.d", "rc0.d", "rc2.d", "rcS.d"]) mkdirSync(join(dir.path, folder));
  for (const [name, leadsTo] of [
    ["rc0.d/K02et", "/etc/init.d/cloudflared"],
    ["rc2.d/S50et", "/etc/init.d/cloudflared"],
    ["rc2.d/S01cloudflared", "../init.d/cloudflared"],
    ["rcS.d/S99mine", "../init.d/cloudflared"],
    ["rc2.d/S01et", "../init.d/et"],
    ["rc2.d/S01cloudflared-other", "../init.d/cloudflared-other"],
  ] as const) {
    symlinkSync(leadsTo, join(dir.path, name));
  }
  writeFileSync(join(dir.path, "rc2.d/S02cloudflared"), "a file of somebody's");
  const [, , text = ""] = unlink.argv;
  execFileSync("sh", ["-c", text.replaceAll("/etc/rc", `${dir.path}/rc`)]);
  const left = ["rc0.d", "rc2.d", "rcS.d"].flatMap((folder) => readdirSync(join(dir.path, folder)));
  expect(left.toSorted()).toEqual(["S01cloudflared-other", "S01et", "S02cloudflared"]);
});
