import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { PUBLIC_FLAGS } from "../../../src/cli/edge-flags.ts";
import { readLimits } from "../../../src/cli/edge-public.ts";
import { LIMIT_NAMES, LIMIT_RULES } from "../../../src/edge/policy/limits.ts";

const page = readFileSync(join(import.meta.dirname, "..", "..", "..", "docs", "edge.md"), "utf8");

test("docs/edge.md names every flag of the public side", () => {
  expect(PUBLIC_FLAGS.map(({ name }) => name).filter((name) => !page.includes(`--${name}`))).toEqual([]);
});

test.each(LIMIT_NAMES)("docs/edge.md has the default and the answer of %s", (name) => {
  const [, told = "", , answer = ""] = (page.split("\n").find((line) => line.startsWith(`| \`${name}\` |`)) ?? "")
    .split("|")
    .slice(1)
    .map((cell) => cell.trim());
  const [first = ""] = told.split(/[ ,]/);
  const value = first === "as" ? "0" : first;
  expect(readLimits([`${name}=${value}`], []).values[name]).toBe(LIMIT_RULES[name].default);
  expect(answer).toContain(String(LIMIT_RULES[name].answer));
});
