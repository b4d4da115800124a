import { Backoff } from "../../core/backoff.ts";
import { type Clock, delay, type Random } from "../../core/clock.ts";
import type { Logger } from "../../core/log.ts";
import { VERSION } from "../../core/version.ts";
import { encodeExportRequest, encodeSpan, type Span, type SpanSource } from "../../wire/otlp.ts";
import { callProblem } from "./call-problem.ts";
import type { SpanSink } from "./tracer.ts";

/** Spans that wait while others are on their way. */
export const MAX_QUEUED_SPANS = 2_048;
/** Spans of one request. */
export const MAX_BATCH_SPANS = 512;
/** How long a span waits for others to go with it, in ms. */
const BATCH_MS = 2_000;
const CALL_TIMEOUT_MS = 10_000;
/** Times a batch is offered before it is given up. */
const TRIES = 5;
const BACKOFF = { baseMs: 1_000, maxDoublings: 4 } as const;
/** The most of a Retry-After that is obeyed, in ms. */
const MAX_RETRY_AFTER_MS = 60_000;
/** Statuses after which the same request may pass later (OTLP specification: OTLP/HTTP, retryable response codes). */
const RETRYABLE: ReadonlySet<number> = new Set([429, 502, 503, 504]);

export interface ExporterOptions {
  /** Where batches are posted, path included. */
  readonly url: string;
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly source: SpanSource;
}

/** What became of spans; each ends in one of them. */
export interface SpanCounters {
  exported: number;
  dropped: number;
}

type Answer =
  | { readonly kind: "taken" }
  | { readonly kind: "refused"; readonly problem: string }
  | { readonly kind: "failed"; readonly problem: string; readonly waitMs: number | undefined };

/**
 * Posts spans to a collector: OTLP over HTTP in protobuf, one batch at a time. What does not fit into the queue is
 * dropped and counted.
 */
export class OtlpExporter implements SpanSink {
  readonly counters: SpanCounters = { exported: 0, dropped: 0 };
  readonly #options: ExporterOptions;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #log: Logger;
  #queue: Uint8Array[] = [];
  #sending: Promise<void> | undefined;
  #cancelTimer: (() => void) | undefined;
  /** What was said since spans last got there. */
  readonly #told = new Set<string>();
  /** Aborted at the end: waits between tries are over. */
  readonly #hurry = new AbortController();
  /** Aborted when the end is over. */
  readonly #stop = new AbortController();

  constructor(
    options: ExporterOptions,
    deps: { readonly clock: Clock; readonly random: Random; readonly log: Logger },
  ) {
    this.#options = options;
    this.#clock = deps.clock;
    this.#random = deps.random;
    this.#log = deps.log;
  }

  add(span: Span): void {
    if (this.#hurry.signal.aborted || this.#queue.length >= MAX_QUEUED_SPANS) {
      this.counters.dropped += 1;
      return;
    }
    this.#queue.push(encodeSpan(span));
    if (this.#queue.length >= MAX_BATCH_SPANS) this.#flush();
    else if (this.#sending === undefined) this.#flushSoon();
  }

  /** Sends what is left, each batch once; what has not gone after `patienceMs` is dropped. Takes no more spans. */
  async close(patienceMs: number): Promise<void> {
    if (this.#hurry.signal.aborted) return;
    this.#hurry.abort();
    const cancel = this.#clock.after(patienceMs, () => this.#stop.abort());
    this.#flush();
    await this.#sending;
    cancel();
  }

  #flushSoon(): void {
    this.#cancelTimer ??= this.#clock.after(BATCH_MS, () => this.#flush(), { background: true });
  }

  #flush(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    this.#sending ??= this.#drain().finally(() => {
      this.#sending = undefined;
      if (this.#queue.length > 0) this.#flushSoon();
    });
  }

  async #drain(): Promise<void> {
    let least = 1;
    while (this.#queue.length >= least) {
      await this.#deliver(this.#queue.splice(0, MAX_BATCH_SPANS));
      // What came meanwhile may wait for more, unless nothing comes any more.
      least = this.#hurry.signal.aborted ? 1 : MAX_BATCH_SPANS;
    }
  }

  async #deliver(spans: readonly Uint8Array[]): Promise<void> {
    const body = encodeExportRequest(this.#options.source, spans);
    const backoff = new Backoff({ ...BACKOFF, random: this.#random });
    for (;;) {
      const answer = this.#stop.signal.aborted ? ENDED : await this.#post(body);
      if (answer.kind === "taken") {
        this.counters.exported += spans.length;
        if (this.#told.size > 0) this.#log.info("Traces are exported again");
        this.#told.clear();
        return;
      }
      const waitMs = backoff.next();
      const final = answer.kind === "refused" || this.#hurry.signal.aborted;
      this.#tell(final ? DROPPED : KEPT, answer.problem);
      if (final || backoff.failures >= TRIES) {
        this.counters.dropped += spans.length;
        return;
      }
      await delay(this.#clock, Math.max(waitMs, answer.waitMs ?? 0), this.#hurry.signal);
    }
  }

  /** Once each, however long it lasts. */
  #tell(message: string, problem: string): void {
    if (this.#told.has(message)) return;
    this.#told.add(message);
    this.#log.warn(message, { error: problem });
  }

  async #post(body: Uint8Array): Promise<Answer> {
    const { url, headers } = this.#options;
    const patience = new AbortController();
    const cancel = this.#clock.after(CALL_TIMEOUT_MS, () => patience.abort(), { background: true });
    try {
      const response = await fetch(url, {
        method: "POST",
        redirect: "manual",
        headers: [
          ...headers.map(([name, value]): [string, string] => [name, value]),
          ["User-Agent", `culvert/${VERSION}`],
          ["Content-Type", "application/x-protobuf"],
        ],
        body,
        signal: AbortSignal.any([patience.signal, this.#stop.signal]),
      });
      // Nobody reads what is said beside the status.
      await response.body?.cancel();
      const { status } = response;
      if (status >= 200 && status < 300) return { kind: "taken" };
      const problem = `status ${status}`;
      if (!RETRYABLE.has(status)) return { kind: "refused", problem };
      return { kind: "failed", problem, waitMs: this.#retryAfter(response.headers.get("retry-after")) };
    } catch (error) {
      const problem = patience.signal.aborted ? `no answer within ${CALL_TIMEOUT_MS} ms` : callProblem(error);
      return { kind: "failed", problem, waitMs: undefined };
    } finally {
      cancel();
    }
  }

  /** Seconds or a date (RFC 9110 section 10.2.3), in ms from now. */
  #retryAfter(text: string | null): number | undefined {
    if (text === null) return undefined;
    const ms = /^[0-9]{1,9}$/.test(text) ? Number(text) * 1_000 : Date.parse(text) - this.#clock.wallMs();
    return Number.isNaN(ms) ? undefined : Math.min(MAX_RETRY_AFTER_MS, Math.max(0, ms));
  }
}

const KEPT = "Cannot export traces: spans are kept for a while, then dropped";
const DROPPED = "Cannot export traces: spans are dropped";
const ENDED: Answer = { kind: "refused", problem: "this program ends" };
