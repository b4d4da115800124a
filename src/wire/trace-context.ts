import { headerValues, type RawHeaders } from "./headers.ts";

/**
 * Which trace a request belongs to, as it travels in header fields: `traceparent` and `tracestate` (W3C Trace Context)
 * towards services and visitors, `cf-trace-id` inside a tunnel (protocol: section 2.4).
 */
export interface TraceContext {
  /** 32 lower-case hex digits, not all 0. */
  readonly traceId: string;
  /** 16 lower-case hex digits, not all 0: the span that the next one hangs below. */
  readonly spanId: string;
  /** Somebody records this trace. */
  readonly sampled: boolean;
}

export const TRACEPARENT = "traceparent";
export const TRACESTATE = "tracestate";
export const CF_TRACE_ID = "cf-trace-id";
/** Spans that a connector answers with: base64 of an OTLP request (protocol: section 2.5). */
export const CF_TRACING = "cf-int-cloudflared-tracing";

/** Chars of `tracestate` that everybody has to pass on (W3C Trace Context section 3.3.1.5); more is not recorded. */
export const MAX_TRACESTATE_CHARS = 512;

const TRACE_ID_CHARS = 32;
const SPAN_ID_CHARS = 16;
/** Later versions may say more behind another hyphen; version ff is forbidden (section 3.2.2). */
const VERSIONED = /^(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;
/** Jaeger's text: ids may lack leading zeros, the third part is of no use to anybody, flags are one byte. */
const JAEGER = /^([0-9a-f]{1,32}):([0-9a-f]{1,16}):[0-9a-f]{0,16}:([0-9a-f]{1,2})$/i;
const ZEROS = /^0+$/;
const SAMPLED = 1;
/** Longest value that is looked at. */
const MAX_CHARS = 256;

/** Undefined for anything that is not exactly one valid field. */
export function readTraceparent(headers: RawHeaders): TraceContext | undefined {
  const values = headerValues(headers, TRACEPARENT);
  return values.length === 1 ? parseTraceparent(values[0] as string) : undefined;
}

/** Of several fields the last one counts, as in cloudflared; undefined when that is not valid. */
export function readCfTraceId(headers: RawHeaders): TraceContext | undefined {
  const value = headerValues(headers, CF_TRACE_ID).at(-1);
  return value === undefined ? undefined : parseCfTraceId(value);
}

/** What belongs to the trace of `traceparent`, several fields joined; "" when there is none or too much of it. */
export function readTracestate(headers: RawHeaders): string {
  const joined = headerValues(headers, TRACESTATE).join(",");
  return joined.length <= MAX_TRACESTATE_CHARS && /^[\x20-\x7e\t]*$/.test(joined) ? joined : "";
}

export function parseTraceparent(text: string): TraceContext | undefined {
  const parts = text.length > MAX_CHARS ? null : VERSIONED.exec(text);
  if (parts === null) return undefined;
  const [, version = "", traceId = "", spanId = "", flags = "", more] = parts;
  if (version === "00" && more !== undefined) return undefined;
  return contextOf(traceId, spanId, flags);
}

export function formatTraceparent({ traceId, spanId, sampled }: TraceContext): string {
  return `00-${traceId}-${spanId}-${sampled ? "01" : "00"}`;
}

export function parseCfTraceId(text: string): TraceContext | undefined {
  const parts = text.length > MAX_CHARS ? null : JAEGER.exec(text);
  if (parts === null) return undefined;
  const [, traceId = "", spanId = "", flags = ""] = parts;
  return contextOf(
    traceId.toLowerCase().padStart(TRACE_ID_CHARS, "0"),
    spanId.toLowerCase().padStart(SPAN_ID_CHARS, "0"),
    flags,
  );
}

/** The parent's place holds 0, which is what Jaeger writes since it is of no use. */
export function formatCfTraceId({ traceId, spanId, sampled }: TraceContext): string {
  return `${traceId}:${spanId}:0:${sampled ? 1 : 0}`;
}

/** Changes fields so that whoever gets them goes on from `context`. `keepState`: it is still the same trace. */
export function setTraceparent(headers: string[], context: TraceContext, keepState: boolean): void {
  for (let i = headers.length - 2; i >= 0; i -= 2) {
    const name = headers[i] as string;
    // The only two lengths that these names have.
    if (name.length !== 11 && name.length !== 10) continue;
    const lower = name.toLowerCase();
    if (lower === TRACEPARENT || (lower === TRACESTATE && !keepState)) headers.splice(i, 2);
  }
  headers.push(TRACEPARENT, formatTraceparent(context));
}

function contextOf(traceId: string, spanId: string, flags: string): TraceContext | undefined {
  if (ZEROS.test(traceId) || ZEROS.test(spanId)) return undefined;
  return { traceId, spanId, sampled: (Number.parseInt(flags, 16) & SAMPLED) !== 0 };
}
