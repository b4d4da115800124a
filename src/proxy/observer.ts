import type { ErrorCode } from "../core/errors.ts";
import type { StreamRequest } from "../transport/port.ts";

/** What the streams are that rules are about. */
export type RequestKind = "http" | "websocket";

/** A request that is over, however it ended. */
export interface EndedRequest {
  readonly kind: RequestKind;
  readonly request: StreamRequest;
  /** Number of the rule that took it, from 0; undefined = none. */
  readonly rule: number | undefined;
  /** The rule's service, as the rule wrote it. */
  readonly service: string | undefined;
  /** Of an answer that went out whole, else undefined. */
  readonly status: number | undefined;
  /** Until the head of the answer came, in ms; undefined = none came. */
  readonly answeredAfterMs: number | undefined;
  /** When it began and was over, by the monotonic clock, in ms. */
  readonly startedAtMs: number;
  readonly endedAtMs: number;
  /** Of the bodies, in bytes. */
  readonly bytesToOrigin: number;
  readonly bytesToVisitor: number;
  /** `refused`: by us. `failed`: the service gave no whole answer. `aborted`: the visitor, or the tunnel, left first. */
  readonly outcome: "served" | "refused" | "failed" | "aborted";
}

/** Bytes that went through, counted as they pass. */
export interface ByteTally {
  toOrigin: number;
  toVisitor: number;
}

/** What the proxy counts; `ops` turns it into metrics. */
export interface ProxyObserver {
  requestStarted(kind: RequestKind): void;
  requestEnded(request: EndedRequest): void;
  /** The service of this rule failed it. */
  requestFailed(code: ErrorCode, rule: number): void;
  /** A stream was failed because nobody read what came on it. */
  streamOverBudget(): void;
  /** Where bytes of a request that this rule took are counted; asked for once a request. */
  tallyOf(kind: RequestKind, rule: number): ByteTally;
}
