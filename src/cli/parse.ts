import type { Flag } from "../config/flags.ts";
import { nearest } from "../core/nearest.ts";
import type { Command } from "./command.ts";

export type ParsedArguments =
  | {
      readonly kind: "run";
      readonly path: readonly Command[];
      readonly args: ReadonlyMap<string, readonly string[]>;
      readonly positionals: readonly string[];
    }
  | { readonly kind: "help"; readonly path: readonly Command[] }
  | { readonly kind: "version" }
  | { readonly kind: "usage"; readonly path: readonly Command[]; readonly message: string };

/**
 * Reads arguments as cloudflared's library does (surface: section 1): `-x` is `--x`, `--flag value` or `--flag=value`,
 * a bool takes its value only behind `=`, flags of a command are known to its children. Friendlier in that flags may
 * also stand behind positional arguments. `--` ends flags; `help` may stand before or behind the command it is about.
 */
export function parseArguments(root: Command, argv: readonly string[]): ParsedArguments {
  const path: Command[] = [root];
  const args = new Map<string, string[]>();
  const positionals: string[] = [];
  let helpAsked = false;
  const usage = (message: string): ParsedArguments => ({ kind: "usage", path, message });

  for (let i = 0; i < argv.length; i++) {
    const word = argv[i] as string;
    const command = path.at(-1) as Command;
    if (word === "--") {
      positionals.push(...argv.slice(i + 1));
      break;
    }
    if (!word.startsWith("-") || word === "-") {
      const child = positionals.length === 0 ? command.children?.find((other) => other.name === word) : undefined;
      if (child !== undefined) path.push(child);
      else if (word === "help" && positionals.length === 0) helpAsked = true;
      else if (!takesWords(command) || helpAsked) return usage(unknownCommand(path, word));
      else positionals.push(word);
      if (positionals.length > 0 && command.passThrough === true) {
        positionals.push(...argv.slice(i + 1));
        break;
      }
      continue;
    }
    const equals = word.indexOf("=");
    const name = word.slice(word.startsWith("--") ? 2 : 1, equals < 0 ? undefined : equals);
    if (name === "help" || name === "h") return { kind: "help", path };
    if (path.length === 1 && ["version", "v", "V"].includes(name)) return { kind: "version" };
    const flag = findFlag(path, name);
    if (flag === undefined) return usage(unknownFlag(path, name));
    let value = equals < 0 ? undefined : word.slice(equals + 1);
    if (value === undefined && flag.type === "bool") value = "true";
    if (value === undefined) {
      i += 1;
      value = argv[i];
      if (value === undefined) return usage(`Flag --${flag.name} needs a value`);
    }
    args.set(flag.name, [...(args.get(flag.name) ?? []), value]);
  }
  if (path.length === 1 && args.size > 0 && !helpAsked) path.push(...flagsAlone(root));
  const command = path.at(-1) as Command;
  if (command.load === undefined && !helpAsked && args.size > 0) return usage(missingCommand(path));
  if (command.load === undefined || helpAsked) return { kind: "help", path };
  if (positionals.length > 0 && command.usage === undefined && path.some(({ strict }) => strict === true)) {
    return usage(`"${commandName(path)}" takes no arguments, but got "${positionals.join(" ")}"`);
  }
  return { kind: "run", path, args, positionals };
}

/** Whether a word behind the command may be anything but a command: with commands of its own only where it says which. */
function takesWords({ load, children, usage }: Command): boolean {
  return load !== undefined && (children === undefined || usage !== undefined);
}

/** `culvert tunnel run`. */
export function commandName(path: readonly Command[]): string {
  return path.map((command) => command.name).join(" ");
}

function flagsOf(path: readonly Command[]): readonly Flag[] {
  return path.flatMap((command) => command.flags ?? []);
}

function findFlag(path: readonly Command[], name: string): Flag | undefined {
  return flagsOf(path).findLast((flag) => flag.name === name || flag.aliases?.includes(name) === true);
}

function unknownFlag(path: readonly Command[], name: string): string {
  const like = nearest(name, new Set(flagsOf(path).map((flag) => flag.name)));
  return `Unknown flag --${name}${like === undefined ? "" : `: did you mean --${like}?`}`;
}

/** Flags without any command are meant for `tunnel`, as with cloudflared. */
function flagsAlone(root: Command): readonly Command[] {
  return (root.children ?? []).filter(({ name }) => name === "tunnel");
}

function missingCommand(path: readonly Command[]): string {
  const children = (path.at(-1)?.children ?? []).map((child) => child.name).join(", ");
  return `Name a command of "${commandName(path)}": ${children}`;
}

function unknownCommand(path: readonly Command[], word: string): string {
  const like = nearest(
    word,
    (path.at(-1)?.children ?? []).map((child) => child.name),
  );
  return `Unknown command "${commandName(path)} ${word}"${like === undefined ? "" : `: did you mean "${like}"?`}`;
}
