import type { Clock } from "./clock.ts";
import type { LogFields, Logger, LogLevel } from "./log.ts";

/** How long repetitions of a line are gathered, in ms. */
export const FOLD_MS = 10_000;
/** Lines whose repetitions are gathered at once; what comes on top is written as it is. */
const MAX_FOLDED = 128;
/** Fields that differ in lines that say the same. */
const PARTICULARS: ReadonlySet<string> = new Set(["cfRay", "connection", "flowID"]);

interface Folded {
  readonly write: (fields: LogFields) => void;
  last: LogFields;
  count: number;
}

export interface FoldingLogger {
  readonly log: Logger;
  /** Writes what is still gathered. */
  flush(): void;
}

/**
 * A logger that writes warnings and errors which say the same once, and ten seconds later how often they came: with
 * `repeated`, and the particulars of the last one. A service that is down does not fill the disk.
 */
export function foldingLogger(inner: Logger, clock: Clock): FoldingLogger {
  const folded = new Map<string, Folded>();

  const close = (key: string): void => {
    const entry = folded.get(key);
    folded.delete(key);
    if (entry === undefined || entry.count === 0) return;
    entry.write({ ...entry.last, repeated: entry.count });
    // It goes on: the next one belongs to another ten seconds.
    open(key, entry);
  };
  const open = (key: string, { write, last }: Pick<Folded, "write" | "last">): void => {
    folded.set(key, { write, last, count: 0 });
    clock.after(FOLD_MS, () => close(key), { background: true });
  };

  const make = (log: Logger, base: LogFields): Logger => {
    const emit = (level: "warn" | "error", message: string, fields: LogFields = {}): void => {
      if (!log.enabled(level)) return;
      const key = keyOf(level, message, { ...base, ...fields });
      const entry = folded.get(key);
      if (entry !== undefined) {
        entry.count += 1;
        entry.last = fields;
        return;
      }
      const write = (shown: LogFields): void => log[level](message, shown);
      write(fields);
      if (folded.size < MAX_FOLDED) open(key, { write, last: fields });
    };
    return {
      enabled: (level: LogLevel) => log.enabled(level),
      debug: (message, fields) => log.debug(message, fields),
      info: (message, fields) => log.info(message, fields),
      warn: (message, fields) => emit("warn", message, fields),
      error: (message, fields) => emit("error", message, fields),
      with: (fields) => make(log.with(fields), { ...base, ...fields }),
    };
  };
  return {
    log: make(inner, {}),
    flush: () => {
      for (const entry of folded.values()) if (entry.count > 0) entry.write({ ...entry.last, repeated: entry.count });
      folded.clear();
    },
  };
}

function keyOf(level: LogLevel, message: string, fields: LogFields): string {
  let key = `${level}\n${message}`;
  for (const name of Object.keys(fields)) if (!PARTICULARS.has(name)) key += `\n${name}=${String(fields[name])}`;
  return key;
}
