import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const MAIN = join(import.meta.dir, "../../../src/main.ts");

let home = "";
beforeAll(() => {
  home = mkdtempSync(join(tmpdir(), "culvert-cli-"));
  writeFileSync(join(home, "bad.yml"), "ingress:\n  - hostname: a.example\n    service: http://h:1\n");
});
afterAll(() => rmSync(home, { recursive: true, force: true }));

/** The program in a process of its own, with nothing but an empty home. */
function culvert(...argv: string[]): { code: number | null; out: string; err: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, ["--no-env-file", MAIN, ...argv], {
    cwd: home,
    env: { HOME: home },
    encoding: "utf8",
    timeout: 20_000,
  });
  return { code: status, out: stdout, err: stderr };
}

describe("what is wrong is said in a line, with the exit code of its kind", () => {
  const secret = "c2VjcmV0LXNlY3JldA==";
  test.each([
    {
      argv: ["tunel"],
      code: 255,
      err: /^culvert: Unknown command "culvert tunel": did you mean "tunnel"\?\nSee 'culvert --help'\.\n$/,
    },
    {
      argv: ["access", "login", "https://app.example", "https://other.example"],
      code: 255,
      err: /Give one URL at most/,
    },
    {
      argv: ["doctor", "web", "extra"],
      code: 255,
      err: /^culvert: Give one tunnel at most: its name or its id\nSee 'culvert doctor --help'\.\n$/,
    },
    {
      argv: ["edge", "run", "--state-dir", "x", "--grace-period", "-5s"],
      code: 255,
      err: /^culvert: --grace-period must be from 0s to 3m\n/,
    },
    {
      argv: ["edge", "token", "create", "ci", "--scope", "", "--expires-in", ""],
      code: 255,
      err: /--scope must not be empty[\s\S]*--expires-in must not be empty/,
    },
    {
      argv: ["tunnel", "ready", "--metrics", "unix:"],
      code: 255,
      err: /^culvert: The metrics address must be HOST:PORT, such as localhost:2000, or unix:PATH\n$/,
    },
    {
      argv: ["edge", "run", "--log-requests"],
      code: 255,
      err: /^culvert: --log-requests has no effect on "culvert edge run": it is a flag of "culvert tunnel"\nSee /,
    },
    {
      argv: ["tunnel", "run", "--tokn", "x"],
      code: 255,
      err: /^culvert: Unknown flag --tokn: did you mean --token\?\nSee 'culvert tunnel run --help'\.\n$/,
    },
    {
      argv: ["tunnel", "run", "--token", secret],
      code: 255,
      err: /^culvert: Provided tunnel token is not valid: [^\n]+\nSee 'culvert tunnel run --help'\.\n$/,
    },
    {
      argv: ["tunnel", "run", "--token-file", "none"],
      code: 255,
      err: /^culvert: Cannot read token file "none": there is no such file\nSee [^\n]+\n$/,
    },
    {
      argv: ["tunnel", "--config", "bad.yml", "ingress", "validate"],
      code: 1,
      err: /^Validation failed: bad\.yml:2:5: The last rule must match everything[^\n]*\n$/,
    },
  ])("$argv", ({ argv, code, err }) => {
    const ended = culvert(...argv);
    expect(ended.err).toMatch(err);
    expect(ended.err).not.toContain(secret);
    expect(ended.code).toBe(code);
  });
});

test("help and version are no failures, and go to standard output", () => {
  const help = culvert("tunnel", "run", "--help");
  expect({ code: help.code, err: help.err }).toEqual({ code: 0, err: "" });
  expect(help.out).toContain("culvert tunnel run [flags] [TUNNEL]");
  const version = culvert("--version");
  expect(version.out).toMatch(/^culvert version [0-9]+\.[0-9]+\.[0-9]+ \(built [^\n]+\)\n$/);
  expect(version.code).toBe(0);
});
