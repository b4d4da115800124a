import type { ConnectorId, TunnelId } from "../../core/ids.ts";
import type { StreamRequest } from "../../transport/port.ts";
import type { RawHeaders } from "../../wire/headers.ts";

/** Bytes of one body that are kept; the rest passes unseen. */
export const MAX_BODY_BYTES = 64 * 1024;
/** Bytes of the head of one request or answer that are kept. */
const MAX_HEAD_BYTES = 64 * 1024;

/** The beginning of a body as it went by. */
export class BodyCopy {
  #memory: Uint8Array = new Uint8Array(0);
  /** Bytes that are kept. */
  kept = 0;
  /** Bytes that went by. */
  total = 0;

  add(chunk: Uint8Array): void {
    this.total += chunk.length;
    // The memory of a chunk may be used again, or be much larger than what is kept: `slice` of a Buffer would share it.
    const part = chunk.subarray(0, MAX_BODY_BYTES - this.kept);
    if (part.length === 0) return;
    const needed = this.kept + part.length;
    if (needed > this.#memory.length) {
      const grown = new Uint8Array(Math.min(MAX_BODY_BYTES, Math.max(needed, 2 * this.kept)));
      grown.set(this.bytes);
      this.#memory = grown;
    }
    this.#memory.set(part, this.kept);
    this.kept = needed;
  }

  /** What is kept; it does not change when more comes. */
  get bytes(): Uint8Array {
    return this.#memory.subarray(0, this.kept);
  }

  /** Some of it was not kept. */
  get cut(): boolean {
    return this.total > this.kept;
  }
}

/** One request of a visitor and its answer, as they went through the tunnel. Secrets are still in it. */
export interface Recording {
  /** From 1, in the order in which they came. */
  readonly id: number;
  readonly tunnelId: TunnelId;
  /** The request that this one repeats. */
  readonly replayOf: number | undefined;
  readonly request: StreamRequest;
  readonly requestBody: BodyCopy;
  /** All of the request has been sent. */
  requestEnded: boolean;
  /** Wall clock. */
  readonly startedAtMs: number;
  status: number | undefined;
  answeredBy: "origin" | "connector" | undefined;
  headers: RawHeaders;
  readonly body: BodyCopy;
  trailers: RawHeaders;
  /** From the head of the request to that of the answer. */
  firstByteMs: number | undefined;
  /** Undefined while it runs. */
  durationMs: number | undefined;
  error: string | undefined;
  connectorId: ConnectorId | undefined;
  retries: number;
}

/** Whether it can be sent again as it was. */
export function isReplayable({ request, requestBody, requestEnded }: Recording): boolean {
  return request.kind === "http" && requestEnded && !requestBody.cut;
}

/** Keeps the newest recordings, and counts what changes in them. */
export class Recordings {
  readonly #max: number;
  readonly #kept: Recording[] = [];
  #lastId = 0;
  /** Requests that came, those forgotten included. */
  seen = 0;

  constructor(max: number) {
    this.#max = max;
  }

  /** Newest first. */
  get newestFirst(): readonly Recording[] {
    return this.#kept.toReversed();
  }

  get(id: number): Recording | undefined {
    return this.#kept.find((one) => one.id === id);
  }

  /** Forgets all. */
  clear(): void {
    this.#kept.length = 0;
  }

  begin(tunnelId: TunnelId, request: StreamRequest, startedAtMs: number, replayOf: number | undefined): Recording {
    this.seen += 1;
    this.#lastId += 1;
    const recording: Recording = {
      ...{ id: this.#lastId, tunnelId, replayOf, startedAtMs },
      request: { ...request, headers: boundedHead(request.headers) },
      ...{ requestBody: new BodyCopy(), requestEnded: request.bodyless, status: undefined, answeredBy: undefined },
      ...{ headers: [], body: new BodyCopy(), trailers: [], firstByteMs: undefined, durationMs: undefined },
      ...{ error: undefined, connectorId: undefined, retries: 0 },
    };
    this.#kept.push(recording);
    if (this.#kept.length > this.#max) this.#kept.shift();
    return recording;
  }
}

/** Fields as far as they fit. */
export function boundedHead(headers: RawHeaders): RawHeaders {
  let bytes = 0;
  for (let i = 0; i + 1 < headers.length; i += 2) {
    bytes += (headers[i] as string).length + (headers[i + 1] as string).length;
    if (bytes > MAX_HEAD_BYTES) return headers.slice(0, i);
  }
  return headers;
}
