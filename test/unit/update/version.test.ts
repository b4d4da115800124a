import { describe, expect, test } from "bun:test";
import { compareVersions, parseVersion, type Version } from "../../../src/update/version.ts";

function version(text: string): Version {
  const parsed = parseVersion(text);
  if (parsed === undefined) throw new Error(`"${text}" is not a version`);
  return parsed;
}

describe("versions", () => {
  // The order of semver.org's section 11, and numbers that compare wrongly as texts.
  const RISING = [
    ...["0.9.10", "0.10.0", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2"],
    ...["1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.0.1-0", "1.0.1", "1.2.0", "1.10.0", "2.0.0"],
  ];

  test("are in order", () => {
    for (const [i, low] of RISING.entries()) {
      for (const [j, high] of RISING.entries()) {
        expect(Math.sign(compareVersions(version(low), version(high)))).toBe(Math.sign(i - j));
      }
    }
  });

  test.each([
    "",
    "1",
    "1.2",
    "v1.2.3",
    "1.2.3.4",
    "1.2.3-",
    "1.2.3+build",
    "1.2.3 ",
    "1.2.x",
    `1.2.3-${"x".repeat(80)}`,
  ])("%j is none", (text) => expect(parseVersion(text)).toBeUndefined());
});
