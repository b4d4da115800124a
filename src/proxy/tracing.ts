import type { ErrorCode } from "../core/errors.ts";
import type { StreamRequest } from "../transport/port.ts";
import type { EndedRequest } from "./observer.ts";

/** Follows requests for traces; `ops/tracing` makes spans of it. Absent = nobody wants any, and nothing is done. */
export interface RequestTracing {
  /** A request came; nothing of it has been looked at. */
  begin(request: StreamRequest): RequestTrace;
}

/** One request, whether its trace is recorded or only passed on. Calls come in the order of the methods here. */
export interface RequestTrace {
  /** It goes to a service now: puts what that one goes on from into its fields. */
  toOrigin(service: string, headers: string[]): void;
  /** The head of an answer came. What the edge is told with it, in base64; undefined = it did not ask. */
  answered(status: number): string | undefined;
  /** The service is done; `failure`: because of that. */
  originEnded(failure: ErrorCode | undefined): void;
  /** It is over. `status`: of the answer that began to go out, of ours too; undefined = none did. */
  ended(outcome: EndedRequest["outcome"], rule: number | undefined, status: number | undefined): void;
}
