import type { Random } from "../../core/clock.ts";
import { LOG_LEVELS, type LogLevel, type LogRecord, type LogTap } from "../../core/log.ts";
import { type LiveLogLine, LOG_EVENTS, type LogEvent, type StreamFilters } from "../../wire/management-events.ts";

/** Lines that wait for a reader that does not keep up; newer ones are dropped (protocol: section 8). */
export const MAX_WAITING_LINES = 30;

/** Somebody who follows the log. */
export interface LogReader {
  /** Who it is: only one actor follows the log at a time. */
  readonly actor: string;
  /** Sends lines; false = hold back until {@link LogFollower.resume}. Must not log. */
  send(lines: readonly LiveLogLine[]): boolean;
  /** The same actor follows the log elsewhere from now on. */
  onTakenOver(): void;
}

/** A reader's place at the log. */
export interface LogFollower {
  /** The reader has room again. */
  resume(): void;
  stop(): void;
}

/**
 * Log lines as they are written, for one reader at a time. A reader that is too slow misses lines, and is told how many;
 * nothing ever waits for it. While nobody reads it costs nothing.
 */
export class LiveLog implements LogTap {
  readonly #random: Random;
  #current: Follower | undefined;
  #sending = false;

  constructor(deps: { readonly random: Random }) {
    this.#random = deps.random;
  }

  wants(level: LogLevel): boolean {
    return this.#current !== undefined && LOG_LEVELS.indexOf(level) >= this.#current.threshold;
  }

  take(record: LogRecord): void {
    // What sending logs must not be sent in turn.
    if (this.#sending) return;
    this.#guarded(() => this.#current?.take(record));
  }

  /** Undefined when another actor follows already. The same actor's earlier reader is taken over. */
  follow(reader: LogReader, filters: StreamFilters): LogFollower | undefined {
    const before = this.#current;
    if (before !== undefined && before.reader.actor !== reader.actor) return undefined;
    const follower = new Follower(reader, filters, this.#random);
    this.#current = follower;
    if (before !== undefined && before.reader !== reader) before.reader.onTakenOver();
    return {
      resume: () => this.#guarded(() => follower.resume()),
      stop: () => {
        if (this.#current === follower) this.#current = undefined;
      },
    };
  }

  #guarded(work: () => void): void {
    this.#sending = true;
    try {
      work();
    } finally {
      this.#sending = false;
    }
  }
}

class Follower {
  readonly reader: LogReader;
  /** Lowest level that is sent, by its number. */
  readonly threshold: number;
  readonly #events: ReadonlySet<LogEvent>;
  readonly #sampling: number;
  readonly #random: Random;
  readonly #waiting: LiveLogLine[] = [];
  #full = false;
  #dropped = 0;

  constructor(reader: LogReader, filters: StreamFilters, random: Random) {
    this.reader = reader;
    this.threshold = LOG_LEVELS.indexOf(filters.level);
    this.#events = new Set(filters.events);
    this.#sampling = filters.sampling;
    this.#random = random;
  }

  take(record: LogRecord): void {
    const line = toLine(record);
    if (this.#events.size > 0 && !this.#events.has(line.event)) return;
    if (this.#sampling < 1 && this.#random() >= this.#sampling) return;
    if (!this.#full) this.#full = !this.reader.send([line]);
    else if (this.#waiting.length < MAX_WAITING_LINES) this.#waiting.push(line);
    else this.#dropped += 1;
  }

  resume(): void {
    this.#full = false;
    const lines = this.#waiting.splice(0);
    const last = lines.at(-1);
    if (this.#dropped > 0 && last !== undefined) {
      const fields = { dropped: this.#dropped };
      const message = "Log lines were dropped because they were not read in time";
      lines.push({ time: last.time, level: "warn", event: "cloudflared", message, fields });
      this.#dropped = 0;
    }
    if (lines.length > 0) this.#full = !this.reader.send(lines);
  }
}

function toLine({ level, wallMs, message, fields }: LogRecord): LiveLogLine {
  const { event, ...rest } = fields;
  return {
    time: `${new Date(wallMs).toISOString().slice(0, 19)}Z`,
    level: level === "fatal" ? "error" : level,
    event: (typeof event === "number" ? LOG_EVENTS[event] : undefined) ?? "cloudflared",
    message,
    fields: rest,
  };
}
