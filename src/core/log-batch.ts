import { LOG_LEVELS, type LogLevel } from "./log.ts";

/** How long a line waits for others, in ms. */
const WAIT_MS = 10;
/** Text that is written at once rather than kept, in chars. */
const MAX_CHARS = 64 * 1024;

export interface BatchedLines {
  write(line: string, level: LogLevel): void;
  flush(): void;
}

/**
 * Hands lines to `write` every ten milliseconds, joined: one system call for many requests. A warning, and worse, does not
 * wait, and takes what was before it along.
 */
export function batchLines(write: (text: string) => void): BatchedLines {
  let waiting = "";
  let scheduled = false;
  const flush = (): void => {
    scheduled = false;
    if (waiting === "") return;
    const text = waiting;
    waiting = "";
    write(text);
  };
  return {
    flush,
    write: (line, level) => {
      waiting = waiting === "" ? line : `${waiting}\n${line}`;
      if (waiting.length > MAX_CHARS || LOG_LEVELS.indexOf(level) >= LOG_LEVELS.indexOf("warn")) flush();
      else if (!scheduled) {
        scheduled = true;
        setTimeout(flush, WAIT_MS);
      }
    },
  };
}
