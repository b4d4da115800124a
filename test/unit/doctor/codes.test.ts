import { expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { CODES } from "../../../src/doctor/codes.ts";
import { CHECKS } from "../../../src/doctor/finding.ts";

const ROOT = join(import.meta.dirname, "..", "..", "..");
const read = (...path: readonly string[]): string => readFileSync(join(ROOT, ...path), "utf8");

test("docs/doctor.md explains every code, in order, once", () => {
  const explained = [...read("docs", "doctor.md").matchAll(/^\| (C-\d{3}) \|/gm)].map((match) => match[1]);
  expect(explained).toEqual(Object.keys(CODES));
  expect(explained).toEqual([...explained].sort());
});

test("every code is found by some check, and no other is", () => {
  const folder = join(ROOT, "src", "doctor");
  const files = readdirSync(folder).filter((name) => name !== "codes.ts");
  const source = [...files.map((name) => read("src", "doctor", name)), read("src", "cli", "doctor.ts")].join("\n");
  const used = new Set([...source.matchAll(/"(C-\d{3})"/g)].map((match) => match[1] ?? ""));
  expect([...used].sort()).toEqual(Object.keys(CODES));
});

test("docs/doctor.md names the checks in their order", () => {
  const text = read("docs", "doctor.md").toLowerCase();
  const section = text.slice(text.indexOf("## the order of the checks"), text.indexOf("## findings"));
  const places = Object.values(CHECKS).map((title) => section.indexOf(title.toLowerCase().replace(" here", "")));
  expect(places).toEqual([...places].sort((a, b) => a - b));
  expect(places).not.toContain(-1);
});
