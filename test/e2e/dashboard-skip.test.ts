import { expect, test } from "bun:test";
import { runProcess } from "../support/processes.ts";
import { makeTempDir } from "../support/temp-dir.ts";

const ROOT = new URL("../../", import.meta.url).pathname;

test("where there is no browser, the tests of the pages say why they are skipped", async () => {
  using dir = makeTempDir();
  // As .ci/run asks for it, which shows no names of tests that are skipped.
  const { code, stdout, stderr } = await runProcess(
    [process.execPath, "test", "--only-failures", "./test/e2e/dashboard.test.ts"],
    { cwd: ROOT, env: { ...process.env, PATH: dir.path }, deadlineMs: 20_000 },
  );
  expect([code, `${stdout}${stderr}`]).toEqual([
    0,
    expect.stringContaining("Dashboard and inspector in a browser (skipped: not installed: chromium)"),
  ]);
});
