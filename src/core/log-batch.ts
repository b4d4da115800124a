import { LOG_LEVELS, type LogLevel } from "./log.ts";

/** Text that is written at once rather than kept for the end of the turn, in chars. */
const MAX_CHARS = 64 * 1024;

export interface BatchedLines {
  write(line: string, level: LogLevel): void;
  flush(): void;
}

/**
 * Hands lines to `write` once per turn of the event loop, joined: one system call for many requests. A warning, and worse,
 * does not wait, and takes what was before it along.
 */
export function batchLines(write: (text: string) => void): BatchedLines {
  let lines: string[] = [];
  let chars = 0;
  let scheduled = false;
  const flush = (): void => {
    scheduled = false;
    if (lines.length === 0) return;
    const text = lines.join("\n");
    lines = [];
    chars = 0;
    write(text);
  };
  return {
    flush,
    write: (line, level) => {
      lines.push(line);
      chars += line.length;
      if (chars > MAX_CHARS || LOG_LEVELS.indexOf(level) >= LOG_LEVELS.indexOf("warn")) flush();
      else if (!scheduled) {
        scheduled = true;
        setImmediate(flush);
      }
    },
  };
}
