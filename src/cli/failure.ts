import type { Values } from "../config/values.ts";
import { systemClock } from "../core/clock.ts";
import { LOST_CONSOLE_LINES } from "../core/console-output.ts";
import { describe } from "../core/errors.ts";
import { createLogger, LOG_LEVELS, type Logger } from "../core/log.ts";
import { type Context, EXIT } from "./command.ts";

/** Prints problems, a line each, and gives the exit code that fits. */
export function reportFailure(
  context: Context,
  errors: readonly string[],
  options: { usage: boolean; command: string },
): number {
  for (const error of errors) context.note(`culvert: ${error}`);
  if (options.usage) context.note(`See '${options.command} --help'.`);
  return options.usage ? EXIT.usage : EXIT.failed;
}

/** One line for anything thrown. */
export function reportError(context: Context, error: unknown): number {
  context.note(`culvert: ${describe(error)}`);
  return EXIT.failed;
}

/**
 * Logs why a run failed, behind the lines that led to it and wherever they go, and gives the exit code. Whoever wants
 * not even errors in the log is told beside it.
 */
export function logFailure(context: Context, log: Logger, problems: readonly string[]): number {
  for (const problem of problems) {
    if (log.enabled("error")) log.error(problem);
    else context.note(`culvert: ${problem}`);
  }
  return EXIT.failed;
}

/** The logger that `--loglevel` and `--output` ask for, on standard error; or what is wrong with them. */
export function loggerFor(values: Values, context: Context): Logger | { readonly error: string } {
  const level = LOG_LEVELS.find((name) => name === values.string("loglevel"));
  const output = values.string("output");
  if (level === undefined) return { error: `loglevel must be one of ${LOG_LEVELS.join(", ")}` };
  if (output !== "default" && output !== "json") return { error: "output must be default or json" };
  const log = createLogger({ level, format: output, wallMs: systemClock.wallMs, write: context.note });
  context.console.onRegained((lines) => log.warn(LOST_CONSOLE_LINES, { lines }));
  return log;
}
