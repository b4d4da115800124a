import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Command } from "../../../src/cli/command.ts";
import { ROOT } from "../../../src/cli/commands.ts";
import { commandName } from "../../../src/cli/parse.ts";
import { wrongValues } from "../../../src/cli/wrong-values.ts";

const MAIN = join(import.meta.dir, "../../../src/main.ts");

let home = "";
beforeAll(() => {
  home = mkdtempSync(join(tmpdir(), "culvert-wrong-"));
});
afterAll(() => rmSync(home, { recursive: true, force: true }));

/** The program in a process of its own, with nothing but an empty home. */
async function culvert(argv: readonly string[]): Promise<{ code: number; out: string; err: string }> {
  const child = Bun.spawn([process.execPath, "--no-env-file", MAIN, ...argv], {
    cwd: home,
    env: { HOME: home },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    timeout: 20_000,
  });
  const [out, err, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  return { code, out, err };
}

function pathsUnder(path: readonly Command[]): (readonly Command[])[] {
  const children = path.at(-1)?.children ?? [];
  return [path, ...children.flatMap((child) => pathsUnder([...path, child]))];
}

const OWN_BOOLS = pathsUnder([ROOT]).flatMap((path) => {
  const command = path.at(-1) ?? ROOT;
  const flag = command.load === undefined ? undefined : command.flags?.find(({ type }) => type === "bool");
  return flag === undefined ? [] : [{ name: commandName(path), words: path.slice(1), flag: flag.name }];
});

describe("a command does nothing with a bool that is neither true nor false", () => {
  test("there are such commands", () => {
    expect(OWN_BOOLS.map(({ name }) => name)).toEqual(
      expect.arrayContaining(["culvert doctor", "culvert tunnel diag", "culvert version", "culvert up"]),
    );
  });

  test.each(OWN_BOOLS)("$name --$flag", async ({ name, words, flag }) => {
    const ended = await culvert([...words.map((word) => word.name), `--${flag}=maybe`]);
    expect(ended).toEqual({
      code: 255,
      out: "",
      err: `culvert: --${flag} must be true or false, not "maybe"\nSee '${name} --help'.\n`,
    });
  });
});

test("what a command forbids is not done because the word for it is wrong", async () => {
  const { code, err } = await culvert(["tunnel", "diag", "--no-diag-logs", "--no-diag-metrics=yes"]);
  expect({ code, err: err.split("\n")[0] }).toEqual({
    code: 255,
    err: 'culvert: --no-diag-metrics must be true or false, not "yes"',
  });
});

test("all wrong values are told at once, and none of a credential", () => {
  const command: Command = {
    name: "fill",
    summary: "Fill",
    flags: [{ name: "size", type: "int", help: "Size" }],
    reads: [
      { name: "wait", type: "duration", help: "Wait" },
      { name: "key", type: "int", secret: true, help: "Key" },
    ],
  };
  const args = new Map([
    ["size", ["big"]],
    ["wait", ["30"]],
    ["key", ["s3cret"]],
  ]);
  expect(wrongValues(command, args)).toEqual([
    '--size must be a whole number, not "big"',
    '--wait must be a duration such as 30s or 1m30s, not "30"',
    "--key must be a whole number, not *****",
  ]);
});

test.each([
  { argv: ["version", "--short=false"], out: /^culvert version / },
  { argv: ["version", "--short=1"], out: /^\d+\.\d+\.\d+\S*\n$/ },
])("$argv is read as any bool is", async ({ argv, out }) => {
  const ended = await culvert(argv);
  expect(ended).toMatchObject({ code: 0, err: "" });
  expect(ended.out).toMatch(out);
});
