import { createServer, type IncomingHttpHeaders, type ServerResponse } from "node:http";

/** A span as it was read back. */
export interface CollectedSpan {
  readonly traceId: string;
  readonly spanId: string;
  /** "" = none. */
  readonly parentSpanId: string;
  readonly traceState: string;
  readonly name: string;
  readonly kind: "server" | "client" | "other";
  readonly startNs: bigint;
  readonly endNs: bigint;
  readonly attributes: Readonly<Record<string, unknown>>;
  readonly failed: boolean;
  /** Of the resource that it came from. */
  readonly service: string;
}

export interface CollectedRequest {
  readonly target: string;
  readonly headers: IncomingHttpHeaders;
  readonly spans: readonly CollectedSpan[];
}

export interface Collector extends AsyncDisposable {
  readonly port: number;
  readonly url: string;
  /** All that came, whatever was answered. */
  readonly requests: readonly CollectedRequest[];
  /** Of the requests that were answered with 200. */
  readonly spans: readonly CollectedSpan[];
}

/** What to answer; `never` = the connection stays open without one. */
export type CollectorAnswer =
  | { readonly status: number; readonly headers?: Readonly<Record<string, string>> }
  | { readonly status: "never" };

/** A collector on a real port: reads OTLP in protobuf, and answers as the test wants. @default 200 each time */
export async function startCollector(answer: (request: number) => CollectorAnswer = () => OK): Promise<Collector> {
  const requests: CollectedRequest[] = [];
  const taken: CollectedSpan[] = [];
  const open = new Set<ServerResponse>();
  const server = createServer((incoming, outgoing) => {
    const chunks: Buffer[] = [];
    incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
    incoming.on("end", () => {
      const spans = readExportRequest(Buffer.concat(chunks));
      requests.push({ target: incoming.url ?? "", headers: incoming.headers, spans });
      const told = answer(requests.length);
      if (told.status === "never") {
        open.add(outgoing);
        return;
      }
      if (told.status === 200) taken.push(...spans);
      outgoing.writeHead(told.status, told.headers).end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  return {
    port,
    url: `http://127.0.0.1:${port}`,
    requests,
    spans: taken,
    [Symbol.asyncDispose]: async () => {
      for (const response of open) response.destroy();
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

const OK: CollectorAnswer = { status: 200 };

/** Reads an ExportTraceServiceRequest; throws for what is no protobuf. */
export function readExportRequest(bytes: Uint8Array): CollectedSpan[] {
  return parts(bytes, 1).flatMap((resourceSpans) => {
    const resource = parts(resourceSpans, 1)[0] ?? NOTHING;
    const service = String(readAttributes(resource, 1)["service.name"] ?? "");
    return parts(resourceSpans, 2).flatMap((scope) => parts(scope, 2).map((span) => readSpan(span, service)));
  });
}

function readSpan(bytes: Uint8Array, service: string): CollectedSpan {
  const fields = readMessage(bytes);
  const text = (field: number): string => new TextDecoder().decode(parts(bytes, field)[0]);
  const hex = (field: number): string => Buffer.from(parts(bytes, field)[0] ?? NOTHING).toString("hex");
  const number = (field: number): bigint => {
    const value = fields.find((entry) => entry.field === field)?.value;
    return typeof value === "bigint" ? value : 0n;
  };
  const status = parts(bytes, 15)[0];
  const kinds: Readonly<Record<string, CollectedSpan["kind"]>> = { "2": "server", "3": "client" };
  return {
    ...{ traceId: hex(1), spanId: hex(2), traceState: text(3), parentSpanId: hex(4), name: text(5) },
    kind: kinds[String(number(6))] ?? "other",
    startNs: number(7),
    endNs: number(8),
    attributes: readAttributes(bytes, 9),
    failed: status !== undefined && readMessage(status).some(({ field, value }) => field === 3 && value === 2n),
    service,
  };
}

function readAttributes(bytes: Uint8Array, field: number): Record<string, unknown> {
  return Object.fromEntries(
    parts(bytes, field).map((pair) => {
      const [any] = readMessage(parts(pair, 2)[0] ?? NOTHING);
      const value = any?.value;
      const shown =
        value instanceof Uint8Array ? new TextDecoder("utf-8", { fatal: true }).decode(value) : Number(value);
      return [new TextDecoder().decode(parts(pair, 1)[0]), any?.field === 2 ? shown === 1 : shown];
    }),
  );
}

const NOTHING = new Uint8Array();

function parts(bytes: Uint8Array, field: number): Uint8Array[] {
  return readMessage(bytes).flatMap((entry) =>
    entry.field === field && entry.value instanceof Uint8Array ? [entry.value] : [],
  );
}

interface Field {
  readonly field: number;
  readonly value: bigint | Uint8Array;
}

function readMessage(bytes: Uint8Array): Field[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const fields: Field[] = [];
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = view.getUint8(at);
      at += 1;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  };
  while (at < bytes.length) {
    const key = Number(varint());
    const field = key >> 3;
    switch (key & 7) {
      case 0:
        fields.push({ field, value: varint() });
        break;
      case 1:
        fields.push({ field, value: view.getBigUint64(at, true) });
        at += 8;
        break;
      case 2: {
        const length = Number(varint());
        if (at + length > bytes.length) throw new Error("A field is longer than its message");
        fields.push({ field, value: bytes.subarray(at, at + length) });
        at += length;
        break;
      }
      default:
        throw new Error(`A field of an unknown kind: ${key & 7}`);
    }
  }
  return fields;
}
