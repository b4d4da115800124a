import { fieldText, type LogFields, type Logger } from "../core/log.ts";
import { createScrubber, shownHeaders, shownTarget } from "../core/log-redact.ts";
import type { StreamRequest } from "../transport/port.ts";
import { headerValue, type RawHeaders } from "../wire/headers.ts";
import type { EndedRequest } from "./observer.ts";

/** Number that cloudflared gives lines about HTTP (surface: section 17). */
const HTTP_EVENT = 1;

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

/** Message of the one line that a request has at info, where somebody switched them on (`--log-requests`). */
export const ACCESS_MESSAGE = "request";

/**
 * Fields of that line, in order. There are many of them: the log may be one that takes no secrets out, since only the path
 * could hold one.
 */
export function accessFields(ended: EndedRequest): LogFields {
  const { request } = ended;
  return {
    bytesIn: ended.bytesToOrigin,
    bytesOut: ended.bytesToVisitor,
    cfRay: fieldOf(request, "cf-ray"),
    client: fieldOf(request, "cf-connecting-ip"),
    event: HTTP_EVENT,
    firstByteMs: ended.answeredAfterMs === undefined ? undefined : Math.round(ended.answeredAfterMs),
    host: bounded(request.authority),
    ingressRule: ended.rule,
    method: request.method,
    ms: Math.round(ended.durationMs),
    originService: ended.service === undefined ? undefined : shownService(ended.service).shown,
    outcome: ended.outcome,
    path: bounded(shownPath(request.path)),
    status: ended.status,
  };
}

/** The same as the console shows them, in one piece: what every request pays for is worth saying twice. */
export function accessText(ended: EndedRequest): string {
  const { request, answeredAfterMs, rule, service, status, outcome } = ended;
  const ray = fieldOf(request, "cf-ray");
  const client = fieldOf(request, "cf-connecting-ip");
  const who = `${ray === undefined ? "" : ` cfRay=${fieldText(ray)}`}${client === undefined ? "" : ` client=${fieldText(client)}`}`;
  const first = answeredAfterMs === undefined ? "" : ` firstByteMs=${Math.round(answeredAfterMs)}`;
  const toRule = rule === undefined ? "" : ` ingressRule=${rule}`;
  const toService = service === undefined ? "" : ` originService=${shownService(service).text}`;
  const answer = status === undefined ? "" : ` status=${status}`;
  return `bytesIn=${ended.bytesToOrigin} bytesOut=${ended.bytesToVisitor}${who} event=${HTTP_EVENT}${first} host=${fieldText(
    bounded(request.authority),
  )}${toRule} method=${fieldText(request.method)} ms=${Math.round(ended.durationMs)}${toService} outcome=${outcome} path=${fieldText(
    bounded(shownPath(request.path)),
  )}${answer}`;
}

/** Edges write these names in lower case, as the first field of that name; any other spelling is looked for as well. */
function fieldOf({ headers }: StreamRequest, name: "cf-ray" | "cf-connecting-ip"): string | undefined {
  for (let i = 0; i < headers.length; i += 2) if (headers[i] === name) return headers[i + 1];
  return headerValue(headers, name);
}

const scrub = createScrubber([]);
/** Most lines are about the service of the line before. */
let last = { service: "", shown: "", text: "" };

function shownService(service: string): { readonly shown: string; readonly text: string } {
  if (service !== last.service) {
    const shown = scrub(service);
    last = { service, shown, text: fieldText(shown) };
  }
  return last;
}

function shownPath(path: string): string {
  const shown = shownTarget(path);
  return shown.includes("eyJ") || shown.includes("@") ? scrub(shown) : shown;
}

function bounded(text: string): string {
  return text.length > MAX_CHARS ? `${text.slice(0, MAX_CHARS)}…` : text;
}
