import { expect, test } from "bun:test";
import { copyFileSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { cleanEnvironment } from "../../support/lab.ts";
import { runProcess } from "../../support/processes.ts";
import { makeTempDir } from "../../support/temp-dir.ts";

const ROOT = resolve(import.meta.dir, "../../..");

/** Fails the first time that it runs, prints what looks like a summary, and passes from then on. */
const FLAKY = `import { expect, test } from "bun:test";
import { existsSync, writeFileSync } from "node:fs";
const ran = \`\${import.meta.dir}/ran\`;
test("the second time", () => {
  const again = existsSync(ran);
  writeFileSync(ran, "");
  console.log("5 errors");
  expect(again).toBe(true);
});
test("always", () => {});
`;
/** The same for what is thrown when no test runs any more, as by one that ran out of time. */
const LATE = `import { test } from "bun:test";
import { existsSync, writeFileSync } from "node:fs";
const ran = \`\${import.meta.dir}/late-ran\`;
const again = existsSync(ran);
writeFileSync(ran, "");
test("leaves something behind", async () => {
  if (!again) setTimeout(() => Promise.reject(new Error("too late")), 1);
});
test("waits", () => new Promise((resolve) => setTimeout(resolve, 50)));
`;
const BROKEN = `import { test } from "bun:test";
import "./nothing.ts";
test("never runs", () => {});
`;
const THROWING = `import { describe, test } from "bun:test";
describe("half", () => {
  throw new Error("no more of it");
});
test("always", () => {});
`;

/** Runs `scripts/test` for these files alone: its own folder, with nothing to install or to build. */
async function runTests(
  files: Readonly<Record<string, string>>,
  env: Readonly<Record<string, string>> = {},
): Promise<{ readonly code: number | null; readonly last: string | undefined; readonly output: string }> {
  using dir = makeTempDir();
  for (const folder of ["scripts", "test"]) mkdirSync(join(dir.path, folder));
  symlinkSync(join(ROOT, "node_modules"), join(dir.path, "node_modules"));
  copyFileSync(join(ROOT, "scripts/test"), join(dir.path, "scripts/test"));
  const nothing = "ensure_packages() { :; }\nensure_test_commands() { :; }\nbuild_binary() { :; }\n";
  writeFileSync(join(dir.path, "scripts/lib.sh"), `. "${ROOT}/scripts/lib.sh"\n${nothing}`);
  for (const [name, text] of Object.entries(files)) writeFileSync(join(dir.path, "test", `${name}.test.ts`), text);
  const { code, stdout, stderr } = await runProcess(["sh", join(dir.path, "scripts/test"), "test"], {
    ...{ env: { ...cleanEnvironment(), ...env }, cwd: dir.path, deadlineMs: 25_000 },
  });
  return { code, last: stdout.trimEnd().split("\n").at(-1), output: `${stdout}${stderr}` };
}

const AGAIN = { CULVERT_TEST_AGAIN: "1" };

test("what fails once and not again is only flaky, and only where that was asked for", async () => {
  const once = await runTests({ flaky: FLAKY });
  expect([once.code, once.last]).toEqual([1, "1 passed, 1 failed"]);
  const again = await runTests({ flaky: FLAKY }, AGAIN);
  expect([again.code, again.last]).toEqual([0, "2 passed, 0 failed"]);
  expect(again.output).toContain("flaky, since 1 failed at first and none by itself: test/flaky.test.ts");
});

test("a file that does not load counts, whatever a second run of others says", async () => {
  const { code, last, output } = await runTests({ flaky: FLAKY, broken: BROKEN }, AGAIN);
  expect(output).toContain("flaky, since 1 failed at first");
  expect([code, last]).toEqual([1, "2 passed, 1 failed"]);
  expect(output).toContain("Cannot find module './nothing.ts'");

  const more = await runTests({ flaky: FLAKY, broken: BROKEN, throwing: THROWING }, AGAIN);
  expect([more.code, more.last]).toEqual([1, "3 passed, 2 failed"]);
});

test("what is thrown outside of tests once and not again is flaky as well", async () => {
  const once = await runTests({ late: LATE });
  expect(once.code).toBe(1);
  const again = await runTests({ late: LATE }, AGAIN);
  expect([again.code, again.last]).toEqual([0, "2 passed, 0 failed"]);
});

test("files that do not load are all there is", async () => {
  const { code, last } = await runTests({ broken: BROKEN, other: BROKEN }, AGAIN);
  expect([code, last]).toEqual([1, "0 passed, 2 failed"]);
});

test("stages that failed before count too", async () => {
  const before = { CULVERT_FAILED_BEFORE: "check fuzz" };
  const { code, last } = await runTests({ throwing: THROWING.replace(/^ {2}throw.*$/m, "") }, before);
  expect([code, last]).toEqual([1, "1 passed, 2 failed"]);
});
