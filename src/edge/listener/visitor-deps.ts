import type { Clock } from "../../core/clock.ts";
import type { Dispatcher } from "../dispatcher/dispatcher.ts";
import type { RequestPolicy } from "./request-policy.ts";

/** What is counted; one object for the whole listener. */
export interface ListenerCounters {
  connections: number;
  requests: number;
  malformed: number;
  timeouts: number;
  retries: number;
}

export interface VisitorDeps {
  readonly dispatcher: Dispatcher;
  readonly clock: Clock;
  readonly scheme: "http" | "https";
  readonly policy: RequestPolicy;
  readonly counters: ListenerCounters;
  /** A new id for a request. */
  readonly nextRay: () => string;
  /** True once the listener takes no further requests: answers say `Connection: close`. */
  readonly closing: () => boolean;
  /** One line for each request, when it is over. */
  readonly onAccess: (entry: AccessEntry) => void;
}

export interface AccessEntry {
  readonly ray: string;
  readonly ip: string;
  readonly method: string;
  readonly host: string;
  readonly status: number | undefined;
  readonly durationMs: number;
  readonly error: string | undefined;
  /** Connections that did not take the request before the one that answered. */
  readonly retries: number;
}
