import { Values } from "../config/values.ts";
import type { Command } from "./command.ts";
import { flagsOf } from "./parse.ts";

/**
 * What is wrong with the values of the flags that a command was given, a line each. Said before any command runs, since
 * one that reads a value which cannot be read goes by the default: it would do what `--no-diag-logs=yes` forbids.
 */
export function wrongValues(command: Command, args: ReadonlyMap<string, readonly string[]>): readonly string[] {
  return new Values(flagsOf(command), { args, env: {} }).issues.map(({ message }) => message);
}
