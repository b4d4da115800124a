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

/** A flag as it was given. */
interface Given {
  readonly flag: Flag;
  readonly value: string;
  /** The command that declares it. */
  readonly of: Command;
  /** It stands right behind the name of that command. */
  readonly inPlace: boolean;
}

/**
 * Reads arguments as cloudflared's library does (surface: section 1): `-x` is `--x`, `--flag value` or `--flag=value`,
 * a bool takes its value only behind `=`, flags of a command may stand in front of the names of its children.
 * Friendlier in that they may also stand behind, and behind positional arguments. Stricter in that a flag or an argument
 * that does nothing is refused, unless cloudflared's own commands take the flag there. `--` ends flags; `help` may stand
 * before or behind the command it is about.
 */
export function parseArguments(root: Command, argv: readonly string[]): ParsedArguments {
  const path: Command[] = [root];
  const given: Given[] = [];
  const positionals: string[] = [];
  let helpAsked = false;
  let behindBool = false;
  const usage = (message: string): ParsedArguments => ({ kind: "usage", path, message });

  for (let i = 0; i < argv.length; i++) {
    const word = argv[i] as string;
    const command = path.at(-1) as Command;
    const saysAgain = behindBool && word === "true" && command.usage === undefined;
    behindBool = false;
    if (word === "--") {
      positionals.push(...argv.slice(i + 1));
      break;
    }
    if (!word.startsWith("-") || word === "-") {
      const child = positionals.length === 0 ? command.children?.find((other) => other.name === word) : undefined;
      if (child !== undefined) path.push(child);
      else if (word === "help" && positionals.length === 0) helpAsked = true;
      else if (!takesWords(command) || helpAsked) return usage(unknownCommand(path, word));
      // `--is-default true`, as scripts for cloudflared have it, which passes over the word.
      else if (saysAgain) continue;
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
    const of = path.findLast(({ flags }) => flagNamed(flags, name) !== undefined);
    const flag = flagNamed(of?.flags, name);
    if (of === undefined || flag === undefined) return usage(unknownFlag(command, name));
    let value = equals < 0 ? undefined : word.slice(equals + 1);
    behindBool = value === undefined && flag.type === "bool";
    if (behindBool) value = "true";
    if (value === undefined) {
      i += 1;
      value = argv[i];
      if (value === undefined) return usage(`Flag --${flag.name} needs a value`);
    }
    given.push({ flag, value, of, inPlace: of === command });
  }
  if (path.length === 1 && given.length > 0 && !helpAsked) path.push(...flagsAlone(root));
  const command = path.at(-1) as Command;
  if (command.load === undefined && !helpAsked && given.length > 0) return usage(missingCommand(path));
  if (command.load === undefined || helpAsked) return { kind: "help", path };
  const args = new Map<string, string[]>();
  for (const one of given) {
    const name = nameFor(path, one);
    if (name === undefined) return usage(noEffect(root, path, one));
    args.set(name, [...(args.get(name) ?? []), one.value]);
  }
  if (positionals.length > 0 && command.usage === undefined) {
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

/** The flags that do something behind the name of a command. */
export function flagsOf({ flags = [], reads = [] }: Command): readonly Flag[] {
  const own = new Set(flags.map((flag) => flag.name));
  return [...flags, ...reads.filter(({ name }) => !own.has(name))];
}

function flagNamed(flags: readonly Flag[] | undefined, name: string): Flag | undefined {
  return flags?.findLast((flag) => flag.name === name || flag.aliases?.includes(name) === true);
}

/** What the command at the end of the path knows a flag by; undefined = as nothing, and it may not stand there. */
function nameFor(path: readonly Command[], { flag, of, inPlace }: Given): string | undefined {
  const command = path.at(-1) as Command;
  if (of === command) return flag.name;
  // A flag of its own with the name of one further up is meant wherever that one stands; of another type, it is another
  // flag, and arguments are known by the name alone.
  const own = flagNamed(command.flags, flag.name);
  if (own !== undefined) return own.type === flag.type ? own.name : undefined;
  if (command.reads?.some(({ name }) => name === flag.name) === true) return flag.name;
  const borne = flag.everywhere === true || path.some(({ cloudflared }) => cloudflared === true);
  return inPlace && borne ? flag.name : undefined;
}

function noEffect(root: Command, path: readonly Command[], { flag, of }: Given): string {
  const command = path.at(-1) as Command;
  const like = nearest(flag.name, new Set(flagsOf(command).map(({ name }) => name)));
  // What stands at the root is there for `tunnel`.
  const owner =
    of === root ? commandName([root, ...flagsAlone(root)]) : commandName(path.slice(0, path.indexOf(of) + 1));
  const instead =
    like === flag.name
      ? `in front of "${command.name}" it is a flag of "${owner}"`
      : like === undefined
        ? `it is a flag of "${owner}"`
        : `did you mean --${like}?`;
  return `--${flag.name} has no effect on "${commandName(path)}": ${instead}`;
}

function unknownFlag(command: Command, name: string): string {
  const like = nearest(name, new Set(flagsOf(command).map((flag) => flag.name)));
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
