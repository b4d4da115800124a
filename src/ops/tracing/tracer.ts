import { randomBytes } from "node:crypto";
import type { Clock } from "../../core/clock.ts";
import type { Span } from "../../wire/otlp.ts";
import type { TraceContext } from "../../wire/trace-context.ts";

/** Hex digits of a trace's id that decide whether it is recorded: as many as a number holds exactly. */
const CHANCE_DIGITS = 13;
const CHANCES = 16 ** CHANCE_DIGITS;
const MAX_PATH_CHARS = 256;
const MAX_HOST_CHARS = 255;
/** What semantic conventions know; whatever else a visitor makes up is one name. */
const METHODS: ReadonlySet<string> = new Set([
  ...["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"],
]);

/** Takes finished spans, and never makes anybody wait. */
export interface SpanSink {
  add(span: Span): void;
}

/** Gives ids, decides what is recorded, and knows the time as spans have it. */
export class Tracer {
  readonly sink: SpanSink;
  readonly #ratio: number;
  readonly #clock: Clock;
  /** Wall time at the zero point of the monotonic clock, in ms. */
  #zeroMs: number;

  /** `ratio`: which part of the traces that begin here is recorded, 0 to 1. */
  constructor(options: { readonly sink: SpanSink; readonly ratio: number; readonly clock: Clock }) {
    this.sink = options.sink;
    this.#ratio = options.ratio;
    this.#clock = options.clock;
    this.#zeroMs = options.clock.wallMs() - options.clock.nowMs();
  }

  /**
   * A new span below `parent`, which has decided whether it is recorded; without one the ratio does. What is not
   * recorded goes on from the parent itself.
   */
  begin(parent: TraceContext | undefined): TraceContext {
    if (parent !== undefined) return parent.sampled ? { ...parent, spanId: this.newSpanId() } : parent;
    const ids = randomBytes(24).toString("hex");
    const traceId = ids.slice(0, 32);
    const chance = Number.parseInt(traceId.slice(-CHANCE_DIGITS), 16) / CHANCES;
    return { traceId, spanId: ids.slice(32), sampled: chance < this.#ratio };
  }

  newSpanId(): string {
    return randomBytes(8).toString("hex");
  }

  /** Microseconds since 1970. The wall clock tells whole ms only, and jumps; between its ticks the other one counts. */
  nowUs(): number {
    const nowMs = this.#clock.nowMs();
    const wallMs = this.#clock.wallMs();
    const guess = this.#zeroMs + nowMs;
    if (guess < wallMs) this.#zeroMs = wallMs - nowMs;
    else if (guess >= wallMs + 1) this.#zeroMs = wallMs + 0.999 - nowMs;
    return Math.round((this.#zeroMs + nowMs) * 1_000);
  }
}

/** A method in words of the semantic conventions. */
export function methodName(method: string): string {
  return METHODS.has(method) ? method : "_OTHER";
}

/** Name of a span: paths are too many to be one. */
export function spanName(method: string): string {
  return METHODS.has(method) ? method : "HTTP";
}

/** Path of a request without its query, which is where tokens are, and without bytes that are no text. */
export function pathOf(target: string): string {
  const query = target.indexOf("?");
  return escaped(query < 0 ? target : target.slice(0, query), MAX_PATH_CHARS);
}

/** Host without port and brackets, in lower case. */
export function serverAddress(authority: string): string {
  const name = authority.startsWith("[") ? authority.slice(1, authority.indexOf("]")) : authority.split(":", 1)[0];
  return escaped((name ?? "").toLowerCase(), MAX_HOST_CHARS);
}

function escaped(text: string, maxChars: number): string {
  return text
    .slice(0, maxChars)
    .replace(/[^\x20-\x7e]/g, (byte) => `%${byte.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0")}`);
}
