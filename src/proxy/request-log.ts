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
    originService: ended.service === undefined ? undefined : scrub(ended.service),
    outcome: ended.outcome,
    path: bounded(shownPath(request.path)),
    status: ended.status,
  };
}

/**
 * The same as the console shows them, in one piece: what every request pays for is worth saying twice. Parts that most lines
 * share are kept from one to the next.
 */
export function accessText(ended: EndedRequest): string {
  const { request, answeredAfterMs, outcome, status } = ended;
  const { headers } = request;
  let ray: string | undefined;
  let client: string | undefined;
  for (let i = headers.length - 2; i >= 0; i -= 2) {
    const name = headers[i];
    if (name === RAY) ray = headers[i + 1];
    else if (name === CLIENT) client = headers[i + 1];
  }
  ray ??= headerValue(headers, RAY);
  client ??= headerValue(headers, CLIENT);
  const shownRay = ray === undefined ? "" : ` cfRay=${fieldText(ray)}`;
  const first = answeredAfterMs === undefined ? "" : ` firstByteMs=${Math.round(answeredAfterMs)}`;
  const { before, after } = shared(ended);
  const answer = status === undefined ? "" : ` status=${status}`;
  return `bytesIn=${ended.bytesToOrigin} bytesOut=${ended.bytesToVisitor}${shownRay}${clientPart(client)}${first}${before}${Math.round(ended.durationMs)}${after}${outcome} path=${fieldText(bounded(shownPath(request.path)))}${answer}`;
}

const RAY = "cf-ray";
const CLIENT = "cf-connecting-ip";

/** Edges write these names in lower case, as the first field of that name; any other spelling is looked for as well. */
function fieldOf({ headers }: StreamRequest, name: typeof RAY | typeof CLIENT): string | undefined {
  for (let i = 0; i < headers.length; i += 2) if (headers[i] === name) return headers[i + 1];
  return headerValue(headers, name);
}

const scrub = createScrubber([]);

/** What stands around the time that a request took. */
interface Shared {
  readonly authority: string;
  readonly method: string;
  readonly rule: number | undefined;
  readonly service: string | undefined;
  readonly before: string;
  readonly after: string;
}

let lastShared: Shared | undefined;

/** Most requests are for the host and the service of the one before. */
function shared({ request: { authority, method }, rule, service }: EndedRequest): Shared {
  const last = lastShared;
  if (
    last !== undefined &&
    authority === last.authority &&
    method === last.method &&
    rule === last.rule &&
    service === last.service
  ) {
    return last;
  }
  const toRule = rule === undefined ? "" : ` ingressRule=${rule}`;
  const toService = service === undefined ? "" : ` originService=${fieldText(scrub(service))}`;
  const before = ` host=${fieldText(bounded(authority))}${toRule} method=${fieldText(method)} ms=`;
  lastShared = { authority, method, rule, service, before, after: `${toService} outcome=` };
  return lastShared;
}

const NO_CLIENT = ` event=${HTTP_EVENT}`;
let lastClient = { client: "", text: ` client=""${NO_CLIENT}` };

function clientPart(client: string | undefined): string {
  if (client === undefined) return NO_CLIENT;
  if (client !== lastClient.client) lastClient = { client, text: ` client=${fieldText(client)}${NO_CLIENT}` };
  return lastClient.text;
}

function shownPath(path: string): string {
  const shown = shownTarget(path);
  return shown.includes("eyJ") || shown.includes("@") ? scrub(shown) : shown;
}

function bounded(text: string): string {
  return text.length > MAX_CHARS ? `${text.slice(0, MAX_CHARS)}…` : text;
}
