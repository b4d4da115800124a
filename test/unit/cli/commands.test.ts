import { describe, expect, test } from "bun:test";
import type { Command } from "../../../src/cli/command.ts";
import { ROOT } from "../../../src/cli/commands.ts";
import { renderHelp } from "../../../src/cli/help.ts";
import { commandName, flagsOf, parseArguments } from "../../../src/cli/parse.ts";
import type { Flag } from "../../../src/config/flags.ts";
import { Values } from "../../../src/config/values.ts";

function pathsUnder(path: readonly Command[]): (readonly Command[])[] {
  const children = path.at(-1)?.children ?? [];
  return [path, ...children.flatMap((child) => pathsUnder([...path, child]))];
}

const commands = pathsUnder([ROOT]).map((path) => ({ name: commandName(path), path, command: path.at(-1) ?? ROOT }));
const runnable = commands.filter(({ command }) => command.load !== undefined);

describe.each(commands)("$name", ({ name, path, command }) => {
  const own = command.flags ?? [];

  test("either runs or has commands", () => {
    // `tunnel` does both: with flags alone it shows a service. So may others that say which words they take.
    const both = name === "culvert tunnel" || command.usage !== undefined;
    expect(command.load !== undefined).toBe(both || command.children === undefined);
    expect(command.summary).not.toMatch(/[.\n]$/);
  });

  test("no name or alias stands for two of its flags", () => {
    const names = own.flatMap((flag) => [flag.name, ...(flag.aliases ?? [])]);
    expect(names).toEqual([...new Set(names)]);
  });

  test("what it reads of the commands above it is theirs", () => {
    const above = new Set(path.slice(0, -1).flatMap(({ flags = [] }) => flags.map((flag) => flag.name)));
    for (const { name: flag } of command.reads ?? []) expect([flag, above.has(flag)]).toEqual([flag, true]);
  });

  test("flags are written as flags are", () => {
    for (const flag of own) {
      // Two names of cloudflared's `login` are written otherwise.
      if (!["loginURL", "callbackURL"].includes(flag.name)) expect(flag.name).toMatch(/^[a-z][a-z0-9]*(-[a-z0-9]+)*$/);
      expect(flag.help).not.toMatch(/^$|[.\n]$/);
      for (const alias of flag.aliases ?? []) expect(alias).toMatch(/^[a-zA-Z][a-z0-9-]*$/);
      for (const name of flag.env ?? []) expect(name).toMatch(/^[A-Z][A-Z0-9_]*$/);
      if (flag.type === "bool") expect(flag).not.toHaveProperty("value");
    }
  });

  test("defaults are values of their types", () => {
    expect(new Values(own, { args: new Map(), env: {} }).issues).toEqual([]);
  });

  test("a flag that stands at several levels takes a value at all of them, or at none", () => {
    const first = new Map<string, Flag>();
    // In front of `service`, --edge is an address, which means nothing to it: `service` refuses that.
    const levels = path[1]?.name === "service" ? path.slice(1) : path;
    for (const flag of levels.flatMap((level) => level.flags ?? [])) {
      const other = first.get(flag.name) ?? flag;
      first.set(flag.name, other);
      expect([flag.name, flag.type === "bool"]).toEqual([flag.name, other.type === "bool"]);
    }
  });

  test("its examples are understood", () => {
    for (const example of command.examples ?? []) {
      const [program, ...argv] = example.replaceAll("'", "").split(" ");
      expect(program).toBe("culvert");
      expect([example, parseArguments(ROOT, argv).kind]).toEqual([example, "run"]);
    }
  });

  test("its help keeps to 80 columns, and shows what it goes by and is not hidden", () => {
    const help = renderHelp(path);
    const lines = help.slice(help.indexOf("\nFlags:")).split("\n");
    expect(help.includes("\nFlags:") ? lines.filter((line) => line.length > 80) : []).toEqual([]);
    for (const flag of path.flatMap((level) => level.flags ?? [])) {
      const shown = flagsOf(command).some((one) => one.name === flag.name && one.hidden !== true);
      expect([flag.name, new RegExp(`^  --${flag.name}( |$)`, "m").test(help)]).toEqual([flag.name, shown]);
    }
  });
});

test.each(runnable)("$name has code to run", async ({ command }) => {
  expect(typeof (await command.load?.())?.run).toBe("function");
});

describe("help", () => {
  test("of the program", () => {
    const lines = renderHelp([ROOT]).split("\n");
    expect(lines.slice(0, 4)).toEqual([
      "Cloudflare Tunnel, whole and self-hostable: the connector and the edge in one program.",
      "",
      "Usage:",
      "  culvert COMMAND",
    ]);
    expect(lines).toContain("  tunnel                        Run a connector, and manage tunnels");
    expect(lines.at(-1)).toBe('Run "culvert COMMAND --help" for more about a command.');
    expect(lines).not.toContain("Flags:");
  });

  test("of a command with flags", () => {
    const command: Command = {
      name: "fill",
      summary: "Fill a bucket",
      usage: "BUCKET",
      flags: [
        { name: "fast", type: "bool", env: ["FILL_FAST"], help: "Do not measure" },
        {
          name: "until",
          type: "duration",
          default: "30s",
          value: "TIME",
          help: "How long it may take at most, counted from the first drop",
        },
        { name: "a-name-that-is-longer-than-its-column", type: "string", help: "Something" },
        { name: "secret-way", type: "bool", hidden: true, help: "Not shown" },
      ],
      load: () => Promise.reject(new Error("not run here")),
    };
    expect(renderHelp([{ name: "well", summary: "A well" }, command])).toBe(
      [
        "Fill a bucket.",
        "",
        "Usage:",
        "  well fill [flags] BUCKET",
        "",
        "Flags:",
        "  --fast                        Do not measure [$FILL_FAST]",
        "  --until TIME                  How long it may take at most, counted from the",
        "                                first drop [default 30s]",
        "  --a-name-that-is-longer-than-its-column VALUE",
        "                                Something",
      ].join("\n"),
    );
  });
});
