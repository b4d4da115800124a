import type { Flag } from "../config/flags.ts";
import type { Command } from "./command.ts";
import { commandName, flagsOf } from "./parse.ts";

const WIDTH = 80;
const COLUMN = 30;

/** Help of a command: what it does, how it is called, examples, and the flags that matter. */
export function renderHelp(path: readonly Command[]): string {
  const command = path.at(-1) as Command;
  const name = commandName(path);
  const children = (command.children ?? []).filter((child) => child.hidden !== true);
  const flags = flagsOf(command).filter((flag) => flag.hidden !== true);
  const parts: string[] = [command.description ?? `${command.summary}.`];
  const lines = [
    ...(command.load === undefined ? [] : [`${name} [flags]${command.usage === undefined ? "" : ` ${command.usage}`}`]),
    ...(children.length === 0 ? [] : [`${name} COMMAND`]),
  ];
  parts.push(section("Usage", lines));
  if (command.examples !== undefined) parts.push(section("Examples", command.examples));
  if (children.length > 0) {
    parts.push(
      section(
        "Commands",
        children.map((child) => columns(child.name, child.summary)),
      ),
    );
  }
  if (flags.length > 0) parts.push(section("Flags", flags.map(flagLine)));
  if (children.length > 0) parts.push(`Run "${name} COMMAND --help" for more about a command.`);
  return parts.join("\n\n");
}

function section(title: string, lines: readonly string[]): string {
  return `${title}:\n${lines.map((line) => `  ${line}`).join("\n")}`;
}

function flagLine(flag: Flag): string {
  const value = flag.type === "bool" ? "" : ` ${flag.value ?? "VALUE"}`;
  const facts = [
    flag.default === undefined ? undefined : `default ${flag.default}`,
    flag.env === undefined ? undefined : `$${flag.env[0]}`,
  ].filter((fact) => fact !== undefined);
  return columns(`--${flag.name}${value}`, `${flag.help}${facts.length === 0 ? "" : ` [${facts.join(", ")}]`}`);
}

/** Two columns, the second one wrapped. */
function columns(left: string, right: string): string {
  const indent = " ".repeat(COLUMN);
  const lines: string[] = [];
  let line = "";
  for (const word of right.split(" ")) {
    if (line !== "" && line.length + 1 + word.length > WIDTH - COLUMN - 2) {
      lines.push(line);
      line = word;
    } else line = line === "" ? word : `${line} ${word}`;
  }
  lines.push(line);
  const first = left.length >= COLUMN ? `${left}\n  ${indent}` : left.padEnd(COLUMN);
  return first + lines.join(`\n  ${indent}`);
}
