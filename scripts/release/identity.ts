import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "./npm-packages.ts";

/** The version in package.json. */
export function sourceVersion(): string {
  const { version }: { version: string } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
  return version;
}

/** Time of the commit rather than of the build, in seconds since 1970: the same source gives the same bytes. */
export function commitSeconds(): number {
  const given = process.env["SOURCE_DATE_EPOCH"];
  return Number(given ?? execFileSync("git", ["log", "-1", "--format=%ct"], { cwd: ROOT, encoding: "utf8" }));
}
