import { LOG_LEVELS, type LogLevel } from "./log.ts";

/** While there are many lines, how long they wait for each other, in ms. */
const WINDOW_MS = 100;
/** Text that is written at once rather than kept, in chars. */
const MAX_CHARS = 64 * 1024;

export interface BatchedLines {
  write(line: string, level: LogLevel): void;
  flush(): void;
}

/**
 * Hands lines to `write`, joined: those of a turn of the event loop that come after a quiet tenth of a second together, and all
 * of the tenth of a second that follows. So there are few system calls, whatever the number of requests, and nobody waits for
 * what happens now and then. A warning, and worse, does not wait, and takes what was before it along.
 */
export function batchLines(write: (text: string) => void): BatchedLines {
  let waiting = "";
  let inWindow = false;
  const flush = (): void => {
    if (waiting === "") return;
    const text = waiting;
    waiting = "";
    write(text);
  };
  const endWindow = (): void => {
    inWindow = waiting !== "";
    if (inWindow) setTimeout(endWindow, WINDOW_MS);
    flush();
  };
  return {
    flush,
    write: (line, level) => {
      waiting = waiting === "" ? line : `${waiting}\n${line}`;
      if (waiting.length > MAX_CHARS || LOG_LEVELS.indexOf(level) >= LOG_LEVELS.indexOf("warn")) flush();
      else if (!inWindow) {
        inWindow = true;
        setImmediate(flush);
        setTimeout(endWindow, WINDOW_MS);
      }
    },
  };
}
