import { expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { makeTempDir } from "../../support/temp-dir.ts";

const MAIN = join(import.meta.dirname, "../../../src/main.ts");

test.skipIf(process.platform === "win32")("a service of the machine does not run what others can replace", () => {
  using dir = makeTempDir();
  const script = join(dir.path, "main.ts");
  writeFileSync(script, `import ${JSON.stringify(MAIN)};\n`);
  chmodSync(script, 0o777);
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [script, "service", "install", "--edge", "--dry-run", "--init", "openrc"],
    { encoding: "utf8" },
  );
  expect({ status, stdout }).toEqual({ status: 1, stdout: "" });
  expect(stderr).toContain("which others than root can replace: /");
  expect(stderr).toContain("/usr/local/bin/culvert");
});
