import type { LogFields, Logger } from "../core/log.ts";
import { shownHeaders, shownTarget } from "../core/log-redact.ts";
import type { StreamRequest } from "../transport/port.ts";
import { headerValue, type RawHeaders } from "../wire/headers.ts";
import type { EndedRequest } from "./observer.ts";

/** Longest host or target in a line: visitors choose them. */
const MAX_CHARS = 1_024;

/** The line of a request at debug, with its header: values that let somebody in are not in it. */
export function logRequest(log: Logger, request: StreamRequest, names: LogFields): void {
  const path = bounded(shownTarget(request.path));
  const host = bounded(request.authority);
  log.debug(`${request.method} ${host}${path}`, {
    ...names,
    host,
    path,
    headers: shownHeaders(request.headers),
    "content-length": headerValue(request.headers, "content-length"),
  });
}

/** The line of its answer at debug. */
export function logAnswer(log: Logger, status: number, headers: RawHeaders, names: LogFields): void {
  log.debug(`Answered ${status}`, {
    ...names,
    status,
    headers: shownHeaders(headers),
    "content-length": headerValue(headers, "content-length"),
  });
}

/** The one line a request has at info, where somebody switched them on (`--log-requests`). */
export function logAccess(log: Logger, ended: EndedRequest): void {
  const { request } = ended;
  log.info("request", {
    cfRay: headerValue(request.headers, "cf-ray"),
    client: headerValue(request.headers, "cf-connecting-ip"),
    method: request.method,
    host: bounded(request.authority),
    path: bounded(shownTarget(request.path)),
    status: ended.status,
    outcome: ended.outcome,
    ms: rounded(ended.durationMs),
    firstByteMs: ended.answeredAfterMs === undefined ? undefined : rounded(ended.answeredAfterMs),
    bytesIn: ended.bytesToOrigin,
    bytesOut: ended.bytesToVisitor,
    ingressRule: ended.rule,
    originService: ended.service,
  });
}

function bounded(text: string): string {
  return text.length > MAX_CHARS ? `${text.slice(0, MAX_CHARS)}…` : text;
}

function rounded(ms: number): number {
  return Math.round(ms * 1000) / 1000;
}
