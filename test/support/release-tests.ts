import { describe } from "bun:test";
import { spawnSync } from "node:child_process";

/**
 * Why tests of releases are not run now; undefined when they are. These boot machines, build many binaries or packages, or
 * repeat others in every shell: minutes in all, wanted where a release is made, and in CI.
 */
export const RELEASE_TESTS_OFF = process.env["CULVERT_TEST_RELEASE"] === "1" ? undefined : "set CULVERT_TEST_RELEASE=1";

/** A suite for where releases are tested, skipped with the reason elsewhere, or where `missing` is one. */
export function describeRelease(name: string, missing: string | undefined, suite: () => void): void {
  const why = RELEASE_TESTS_OFF ?? missing;
  if (why === undefined) describe(name, suite);
  else describe.skip(`${name} (${why})`, suite);
}

/** Why commands that a test calls cannot be; undefined when all are there. */
export function missingCommand(...commands: readonly string[]): string | undefined {
  const missing = commands.filter((command) => spawnSync("sh", ["-c", `command -v "${command}"`]).status !== 0);
  return missing.length === 0 ? undefined : `needs ${missing.join(", ")}`;
}
