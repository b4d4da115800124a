import { printable } from "./printable.ts";

/** Severities in rising order; names as in cloudflared's `--loglevel`. */
export const LOG_LEVELS = ["debug", "info", "warn", "error", "fatal"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** Values a log field can hold; anything else is turned into text before it gets here. */
export type LogFields = { readonly [name: string]: string | number | boolean | undefined };

/**
 * Where log lines go. A message is fixed text; what varies goes into fields with the same names everywhere
 * (connIndex, connection, ip, location, protocol, tunnelID, originService, ingressRule, error).
 */
export interface Logger {
  /** True when a line of this level would be written: guards costly field building. */
  enabled(level: LogLevel): boolean;
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** A logger that adds these fields to each line. */
  with(fields: LogFields): Logger;
}

const CONSOLE_NAMES: Readonly<Record<LogLevel, string>> = {
  debug: "DBG",
  info: "INF",
  warn: "WRN",
  error: "ERR",
  fatal: "FTL",
};

export type LogFormat = "default" | "json";

/** One line before it is rendered. */
export interface LogRecord {
  readonly level: LogLevel;
  readonly wallMs: number;
  readonly message: string;
  readonly fields: LogFields;
}

/** Sees lines beside where they are written, whatever the level of those is. Must not throw. */
export interface LogTap {
  /** Whether it takes lines of this level at present. */
  wants(level: LogLevel): boolean;
  take(record: LogRecord): void;
}

/**
 * A logger that renders lines as cloudflared does and hands them to `write` (without a newline).
 * `default`: `2006-01-02T15:04:05Z INF message key=value`; `json`: one object with level, time, message, fields.
 */
export function createLogger(options: {
  /** A function = asked for each line, so that the level can change. */
  level: LogLevel | (() => LogLevel);
  format: LogFormat;
  wallMs: () => number;
  write: (line: string, level: LogLevel) => void;
  /** Gets what is written as well. */
  also?: ((record: LogRecord) => void) | undefined;
  tap?: LogTap | undefined;
}): Logger {
  const { level, tap } = options;
  const fixed = typeof level === "function" ? undefined : LOG_LEVELS.indexOf(level);
  const threshold = (): number => fixed ?? LOG_LEVELS.indexOf((level as () => LogLevel)());
  const render = options.format === "json" ? renderJson : renderConsole;

  const make = (base: LogFields): Logger => {
    const bare = Object.keys(base).length === 0;
    const emit = (level: LogLevel, message: string, fields: LogFields | undefined): void => {
      const written = LOG_LEVELS.indexOf(level) >= threshold();
      const tapped = tap?.wants(level) === true;
      if (!written && !tapped) return;
      const wallMs = options.wallMs();
      const all = fields === undefined ? base : bare ? fields : { ...base, ...fields };
      const record = { level, wallMs, message, fields: all };
      if (written) {
        options.write(render(record), level);
        options.also?.(record);
      }
      if (tapped) tap.take(record);
    };
    return {
      enabled: (level) => LOG_LEVELS.indexOf(level) >= threshold() || tap?.wants(level) === true,
      debug: (message, fields) => emit("debug", message, fields),
      info: (message, fields) => emit("info", message, fields),
      warn: (message, fields) => emit("warn", message, fields),
      error: (message, fields) => emit("error", message, fields),
      with: (fields) => make({ ...base, ...fields }),
    };
  };
  return make({});
}

/** A logger that drops everything. */
export const silentLogger: Logger = {
  enabled: () => false,
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
  with: () => silentLogger,
};

function renderConsole({ level, wallMs, message, fields }: LogRecord): string {
  const head = consoleHead(level, wallMs, message);
  let line = head;
  let last = "";
  // Sorting costs more than the rest of a line, and whoever writes many of them names their fields in order.
  for (const name in fields) {
    if (name < last || name === "error") return head + fieldsInOrder(fields);
    last = name;
    const value = fields[name];
    if (value !== undefined) line += ` ${name}=${fieldText(value)}`;
  }
  return line;
}

/** A line of the console without its fields. */
export function consoleHead(level: LogLevel, wallMs: number, message: string): string {
  const time = timestamp(wallMs);
  if (time !== lastHead.timestamp || level !== lastHead.level || message !== lastHead.message) {
    lastHead = { timestamp: time, level, message, text: `${time} ${CONSOLE_NAMES[level]} ${oneLine(message)}` };
  }
  return lastHead.text;
}

function fieldsInOrder(fields: LogFields): string {
  let text = "";
  for (const name of Object.keys(fields).sort(byFieldOrder)) {
    const value = fields[name];
    if (value !== undefined) text += ` ${name}=${fieldText(value)}`;
  }
  return text;
}

/** As cloudflared's console has them: the error first, the others by name. Tools match on whole lines. */
function byFieldOrder(a: string, b: string): number {
  if (a === "error" || b === "error") return a === "error" ? -1 : 1;
  return a < b ? -1 : 1;
}

/** One JSON object, without a newline. */
export function renderJson({ level, wallMs, message, fields }: LogRecord): string {
  return printable(JSON.stringify({ level, time: timestamp(wallMs), message, ...fields }));
}

let lastSecond = Number.NaN;
let lastTimestamp = "";
let lastHead = { timestamp: "", level: "" as LogLevel | "", message: "", text: "" };

/** Lines of one second have the same. */
function timestamp(wallMs: number): string {
  const second = Math.floor(wallMs / 1000);
  if (second !== lastSecond) {
    lastTimestamp = `${new Date(second * 1000).toISOString().slice(0, 19)}Z`;
    lastSecond = second;
  }
  return lastTimestamp;
}

/** Quotes a value that a reader could not tell from the next field, or that could forge a line of its own. */
export function fieldText(value: string | number | boolean): string {
  if (typeof value !== "string") return String(value);
  return PLAIN.test(value) ? value : printable(JSON.stringify(value));
}

const PLAIN = /^[\x21\x23-\x3c\x3e-\x7e]+$/;

function oneLine(text: string): string {
  return printable(text.includes("\n") || text.includes("\r") ? text.replace(/[\r\n]+/g, " ") : text);
}
