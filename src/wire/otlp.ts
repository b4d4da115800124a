// Spans as OpenTelemetry's collectors take them: opentelemetry/proto/trace/v1/trace.proto, version 1.x of OTLP, in
// protobuf. The same bytes are what a connector answers its edge with (protocol: section 2.5).

export type AttributeValue = string | number | boolean;
export type Attributes = readonly (readonly [key: string, value: AttributeValue])[];

/** One piece of work, finished. */
export interface Span {
  /** 32 hex digits, lower case. */
  readonly traceId: string;
  /** 16 hex digits, lower case. */
  readonly spanId: string;
  /** Undefined = the trace begins here. */
  readonly parentSpanId: string | undefined;
  /** Value of `tracestate`; "" = none. */
  readonly traceState: string;
  readonly name: string;
  readonly kind: "server" | "client";
  /** Microseconds since 1970. */
  readonly startUs: number;
  readonly endUs: number;
  /** Whole numbers are sent as such. */
  readonly attributes: Attributes;
  readonly failed: boolean;
}

/** Who made the spans. */
export interface SpanSource {
  readonly resource: Attributes;
  readonly scope: { readonly name: string; readonly version: string };
}

const KIND = { server: 2, client: 3 } as const;
const STATUS_ERROR = 2;
const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;

const utf8 = new TextEncoder();

/** One span, to be put into a request later. */
export function encodeSpan(span: Span): Uint8Array {
  const out = new Writer();
  out.hex(1, span.traceId);
  out.hex(2, span.spanId);
  if (span.traceState !== "") out.text(3, span.traceState);
  if (span.parentSpanId !== undefined) out.hex(4, span.parentSpanId);
  out.text(5, span.name);
  out.number(6, KIND[span.kind]);
  out.time(7, span.startUs);
  out.time(8, span.endUs);
  writeAttributes(out, 9, span.attributes);
  if (span.failed) out.message(15, (status) => status.number(3, STATUS_ERROR));
  return out.finish();
}

/** An ExportTraceServiceRequest with these spans of one source. */
export function encodeExportRequest(source: SpanSource, spans: readonly Uint8Array[]): Uint8Array {
  const out = new Writer();
  out.message(1, (resourceSpans) => {
    resourceSpans.message(1, (resource) => writeAttributes(resource, 1, source.resource));
    resourceSpans.message(2, (scopeSpans) => {
      scopeSpans.message(1, (scope) => {
        scope.text(1, source.scope.name);
        scope.text(2, source.scope.version);
      });
      for (const span of spans) scopeSpans.bytes(2, span);
    });
  });
  return out.finish();
}

function writeAttributes(out: Writer, field: number, attributes: Attributes): void {
  for (const [key, value] of attributes) {
    out.message(field, (pair) => {
      pair.text(1, key);
      pair.message(2, (any) => {
        if (typeof value === "string") any.text(1, value);
        else if (typeof value === "boolean") any.number(2, value ? 1 : 0);
        else if (Number.isSafeInteger(value) && value >= 0) any.number(3, value);
        else any.double(4, value);
      });
    });
  }
}

/** Protobuf's encoding, as much of it as OTLP needs. */
class Writer {
  #buffer = new Uint8Array(1024);
  #view = new DataView(this.#buffer.buffer);
  #length = 0;

  finish(): Uint8Array {
    return this.#buffer.slice(0, this.#length);
  }

  number(field: number, value: number): void {
    this.#varint(field * 8 + VARINT);
    this.#varint(value);
  }

  double(field: number, value: number): void {
    this.#varint(field * 8 + FIXED64);
    this.#room(8);
    this.#view.setFloat64(this.#length, value, true);
    this.#length += 8;
  }

  /** Nanoseconds of a time in microseconds. */
  time(field: number, us: number): void {
    this.#varint(field * 8 + FIXED64);
    this.#room(8);
    this.#view.setBigUint64(this.#length, BigInt(Math.round(us)) * 1000n, true);
    this.#length += 8;
  }

  bytes(field: number, bytes: Uint8Array): void {
    this.#varint(field * 8 + BYTES);
    this.#varint(bytes.length);
    this.#room(bytes.length);
    this.#buffer.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  hex(field: number, hex: string): void {
    this.#varint(field * 8 + BYTES);
    this.#varint(hex.length / 2);
    this.#room(hex.length / 2);
    for (let i = 0; i < hex.length; i += 2) {
      this.#buffer[this.#length++] = (digit(hex.charCodeAt(i)) << 4) | digit(hex.charCodeAt(i + 1));
    }
  }

  text(field: number, text: string): void {
    this.#varint(field * 8 + BYTES);
    const from = this.#length;
    // A char of UTF-16 has three bytes at most.
    this.#room(1 + text.length * 3);
    this.#length += 1 + utf8.encodeInto(text, this.#buffer.subarray(from + 1)).written;
    this.#putLength(from);
  }

  /** A message within this one. */
  message(field: number, write: (out: Writer) => void): void {
    this.#varint(field * 8 + BYTES);
    const from = this.#length;
    this.#room(1);
    this.#length += 1;
    write(this);
    this.#putLength(from);
  }

  /** The length stands before what it is the length of: most fit into the one byte that was left for it at `from`. */
  #putLength(from: number): void {
    const length = this.#length - from - 1;
    if (length >= 0x80) {
      const more = length < 0x4000 ? 1 : length < 0x20_0000 ? 2 : length < 0x1000_0000 ? 3 : 4;
      this.#room(more);
      this.#buffer.copyWithin(from + 1 + more, from + 1, this.#length);
      this.#length += more;
    }
    const end = this.#length;
    this.#length = from;
    this.#varint(length);
    this.#length = end;
  }

  #varint(value: number): void {
    this.#room(10);
    let left = value;
    while (left >= 0x80) {
      this.#buffer[this.#length++] = (left % 0x80) | 0x80;
      left = Math.floor(left / 0x80);
    }
    this.#buffer[this.#length++] = left;
  }

  #room(bytes: number): void {
    if (this.#length + bytes <= this.#buffer.length) return;
    const grown = new Uint8Array(Math.max(this.#buffer.length * 2, this.#length + bytes));
    // All of it: a length is put before what was written already.
    grown.set(this.#buffer);
    this.#buffer = grown;
    this.#view = new DataView(grown.buffer);
  }
}

/** Of a lower-case hex digit. */
function digit(code: number): number {
  return code <= 0x39 ? code - 0x30 : code - 0x57;
}
