import type { Clock } from "../../core/clock.ts";
import type { DialSettings } from "../dialler.ts";
import { exchange, type HttpAnswer, type HttpRequest } from "../http-exchange.ts";
import { USER_AGENT } from "../stream.ts";

/** With what, and how long, a login asks servers. */
export interface Asking {
  readonly dialling: DialSettings;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/** One request of a login; rejects as `exchange`. */
export function ask(asking: Asking, request: Omit<HttpRequest, "upgrade">): Promise<HttpAnswer> {
  const headers = ["User-Agent", USER_AGENT, "Connection", "close", ...request.headers];
  return exchange({ ...request, headers, upgrade: false }, asking, asking.signal);
}
