import { hostname } from "node:os";
import type { Clock, Random } from "../../core/clock.ts";
import type { Logger } from "../../core/log.ts";
import { VERSION } from "../../core/version.ts";
import type { Attributes, SpanSource } from "../../wire/otlp.ts";
import type { MetricFamily } from "../exposition.ts";
import { OtlpExporter, type SpanCounters } from "./exporter.ts";
import { Tracer } from "./tracer.ts";

/** The longest that spans may hold up the end of the program, in ms. */
const MAX_FAREWELL_MS = 5_000;
/** What they get even when running requests have used up the time for the end, in ms. */
const MIN_FAREWELL_MS = 500;

/** Where spans go. */
export interface TracingOptions {
  /** Address of the collector's trace endpoint, `/v1/traces` included. */
  readonly url: string;
  /** Added to each request; their values are secrets. */
  readonly headers: readonly (readonly [name: string, value: string])[];
  /** Which part of the traces that begin here is recorded, 0 to 1. */
  readonly sampleRatio: number;
}

/** Traces of one role. */
export interface Tracing {
  readonly tracer: Tracer;
  readonly source: SpanSource;
  readonly counters: Readonly<SpanCounters>;
  /** Sends what is left, in the `leftMs` there are until the program should be gone, or a little more. */
  close(leftMs: number): Promise<void>;
}

/** `service`: name of the role. `attributes`: which one of them this is. */
export function startTracing(
  options: TracingOptions,
  role: { readonly service: string; readonly attributes: Attributes },
  deps: { readonly clock: Clock; readonly random: Random; readonly log: Logger },
): Tracing {
  const source: SpanSource = {
    resource: [
      ["service.name", role.service],
      ["service.version", VERSION],
      ["host.name", hostname()],
      ...role.attributes,
    ],
    scope: { name: "culvert", version: VERSION },
  };
  const exporter = new OtlpExporter({ url: options.url, headers: options.headers, source }, deps);
  return {
    tracer: new Tracer({ sink: exporter, ratio: options.sampleRatio, clock: deps.clock }),
    source,
    counters: exporter.counters,
    close: (leftMs) => exporter.close(Math.min(MAX_FAREWELL_MS, Math.max(MIN_FAREWELL_MS, leftMs))),
  };
}

/** Nothing where there are no traces. */
export function* traceFamilies(tracing: Pick<Tracing, "counters"> | undefined): Iterable<MetricFamily> {
  if (tracing === undefined) return;
  const { exported, dropped } = tracing.counters;
  yield {
    name: "culvert_trace_spans_exported_total",
    help: "Spans that the collector took",
    type: "counter",
    samples: [{ value: exported }],
  };
  yield {
    name: "culvert_trace_spans_dropped_total",
    help: "Spans that were lost: the queue was full, or the collector did not take them",
    type: "counter",
    samples: [{ value: dropped }],
  };
}
