/** First comment of everything written here. */
export const HEADER = "# Made by `culvert service install`, which writes it anew.";

/** The longest grace period there is, and some, in seconds. */
export const STOP_SECONDS = 200;

/** The last lines of a log file, and what comes to it. */
export function logTail(
  path: string,
  options: { readonly lines: number; readonly follow: boolean },
): readonly string[] {
  return ["tail", "-n", `${options.lines}`, ...(options.follow ? ["-F"] : []), path];
}
