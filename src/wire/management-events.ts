// Messages of a live log stream, each one text message of a WebSocket with JSON in it (protocol: section 8).

/** What lines are about; their numbers are what log lines carry in the field `event`. */
export const LOG_EVENTS = ["cloudflared", "http", "tcp", "udp"] as const;
export type LogEvent = (typeof LOG_EVENTS)[number];

export const LIVE_LEVELS = ["debug", "info", "warn", "error"] as const;
export type LiveLevel = (typeof LIVE_LEVELS)[number];

/** Which lines a reader wants. */
export interface StreamFilters {
  /** Empty = all. */
  readonly events: readonly LogEvent[];
  /** The lowest one. */
  readonly level: LiveLevel;
  /** Share of the lines that the others let through, above 0 and up to 1. */
  readonly sampling: number;
}

export const NO_FILTERS: StreamFilters = { events: [], level: "debug", sampling: 1 };

export interface LiveLogLine {
  /** RFC 3339. */
  readonly time: string;
  readonly level: LiveLevel;
  readonly event: LogEvent;
  readonly message: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

/** What a client says; `malformed-start` is answered with another close code than what has no meaning. */
export type ClientMessage =
  | { readonly kind: "start"; readonly filters: StreamFilters }
  | { readonly kind: "stop" }
  | { readonly kind: "malformed-start" }
  | { readonly kind: "unknown" };

/** Close codes of the server (protocol: section 8). */
export const LIVE_CLOSE = { invalidCommand: 4001, sessionLimit: 4002, idle: 4003 } as const;

export function parseClientMessage(text: string): ClientMessage {
  const message = parseObject(text);
  if (message?.["type"] === "stop_streaming") return { kind: "stop" };
  if (message?.["type"] !== "start_streaming") return { kind: "unknown" };
  const { filters } = message;
  if (filters === undefined || filters === null) return { kind: "start", filters: NO_FILTERS };
  const given = asObject(filters);
  const events = given?.["events"] ?? [];
  const level = LIVE_LEVELS.find((name) => name === (given?.["level"] ?? NO_FILTERS.level));
  const sampling = given?.["sampling"] ?? 0;
  if (!isEvents(events) || level === undefined || typeof sampling !== "number") return { kind: "malformed-start" };
  // Nothing and what is out of bounds stand for everything, as in cloudflared.
  return { kind: "start", filters: { events, level, sampling: sampling > 0 && sampling < 1 ? sampling : 1 } };
}

export function formatStart(filters: StreamFilters): string {
  const { events, level, sampling } = filters;
  return JSON.stringify({
    type: "start_streaming",
    filters: { ...(events.length === 0 ? {} : { events }), level, sampling },
  });
}

export function formatLogs(lines: readonly LiveLogLine[]): string {
  return JSON.stringify({ type: "logs", logs: lines });
}

/** The lines of a server's message; undefined for what is none. cloudflared leaves the first level and event out. */
export function parseLogs(text: string): readonly LiveLogLine[] | undefined {
  const message = parseObject(text);
  const logs = message?.["type"] === "logs" ? message["logs"] : undefined;
  if (!Array.isArray(logs)) return undefined;
  return logs.flatMap((entry: unknown) => {
    const line = asObject(entry);
    if (line === undefined) return [];
    return {
      time: asText(line["time"]),
      level: LIVE_LEVELS.find((name) => name === line["level"]) ?? "debug",
      event: LOG_EVENTS.find((name) => name === line["event"]) ?? "cloudflared",
      message: asText(line["message"]),
      fields: asObject(line["fields"]) ?? {},
    };
  });
}

function isEvents(value: unknown): value is readonly LogEvent[] {
  return Array.isArray(value) && value.every((each) => LOG_EVENTS.some((name) => name === each));
}

function parseObject(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    return asObject(JSON.parse(text));
  } catch {
    return undefined;
  }
}

function asObject(value: unknown): Readonly<Record<string, unknown>> | undefined {
  const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
  return isObject ? (value as Readonly<Record<string, unknown>>) : undefined;
}

function asText(value: unknown): string {
  return typeof value === "string" ? value : "";
}
