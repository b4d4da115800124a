import type { Clock } from "../core/clock.ts";
import type { LineBlock } from "../core/line-block.ts";
import { consoleHead, fieldText, type LogFields, type Logger } from "../core/log.ts";
import { createScrubber, shownHeaders, shownTarget } from "../core/log-redact.ts";
import type { StreamRequest } from "../transport/port.ts";
import { headerValue, type RawHeaders } from "../wire/headers.ts";
import type { EndedRequest } from "./observer.ts";

/** Number that cloudflared gives lines about HTTP (surface: section 17). */
const HTTP_EVENT = 1;

const RAY = "cf-ray";
const CLIENT = "cf-connecting-ip";

/** Longest value in a line: visitors choose most of them. */
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
    cfRay: boundedValue(request.headers, RAY),
    client: boundedValue(request.headers, CLIENT),
    event: HTTP_EVENT,
    firstByteMs: ended.answeredAfterMs === undefined ? undefined : Math.round(ended.answeredAfterMs),
    host: bounded(request.authority),
    ingressRule: ended.rule,
    method: bounded(request.method),
    ms: Math.round(ended.endedAtMs - ended.startedAtMs),
    originService: ended.service === undefined ? undefined : bounded(scrub(ended.service)),
    outcome: ended.outcome,
    path: bounded(shownPath(request.path)),
    status: ended.status,
  };
}

/**
 * The same line as the console shows it, written as bytes: what every request pays for is worth saying twice. Parts that most
 * lines share are kept from one to the next. False where it does not fit; 64 KiB are enough for any.
 */
export function putAccess(block: LineBlock, ended: EndedRequest, clock: Calendar): boolean {
  const { request, answeredAfterMs, outcome, status } = ended;
  const ray = boundedValue(request.headers, RAY);
  const client = boundedValue(request.headers, CLIENT);
  const { beforeMethod, afterMs } = partsOf(ended.rule, ended.service);
  return (
    block.put(headOf(ended.endedAtMs, clock)) &&
    block.integer(ended.bytesToOrigin) &&
    block.put(BYTES_OUT) &&
    block.integer(ended.bytesToVisitor) &&
    (ray === undefined || (block.put(CF_RAY) && block.value(ray))) &&
    (client === undefined || (block.put(CLIENT_IP) && block.value(client))) &&
    block.put(EVENT) &&
    (answeredAfterMs === undefined || (block.put(FIRST_BYTE) && block.integer(Math.round(answeredAfterMs)))) &&
    block.put(HOST) &&
    block.value(bounded(request.authority)) &&
    block.put(beforeMethod) &&
    block.value(bounded(request.method)) &&
    block.put(MS) &&
    block.integer(Math.round(ended.endedAtMs - ended.startedAtMs)) &&
    block.put(afterMs) &&
    block.value(outcome) &&
    block.put(PATH) &&
    putPath(block, request.path) &&
    (status === undefined || (block.put(STATUS) && block.integer(status)))
  );
}

const BYTES_OUT = Buffer.from(" bytesOut=");
const CF_RAY = Buffer.from(" cfRay=");
const CLIENT_IP = Buffer.from(" client=");
const EVENT = Buffer.from(` event=${HTTP_EVENT}`);
const FIRST_BYTE = Buffer.from(" firstByteMs=");
const HOST = Buffer.from(" host=");
const MS = Buffer.from(" ms=");
const PATH = Buffer.from(" path=");
const STATUS = Buffer.from(" status=");

/** As `shownPath` shows it. */
function putPath(block: LineBlock, path: string): boolean {
  const end = ordinaryLength(path);
  const begin = block.length;
  if (end > 0 && end <= MAX_CHARS - CUT.length && path.charCodeAt(end) === QUESTION_MARK) {
    if (block.beginning(path, end, CUT_BYTES)) return true;
    block.cut(begin);
  }
  return block.value(end === path.length ? bounded(path) : bounded(shownPath(path)));
}

/** Chars up to the first that `shownPath` could change: one of no ASCII, the end of the path, a parameter, or of a secret. */
function ordinaryLength(path: string): number {
  for (let i = 0; i < path.length; i += 1) {
    const code = path.charCodeAt(i);
    if (code > 0x7e || MAY_HIDE[code] === 1) return i;
    if (code === 0x4a && path.startsWith("ey", i - 2)) return i;
  }
  return path.length;
}

const QUESTION_MARK = 0x3f;
/** By char: a space may be that after `Bearer`. */
const MAY_HIDE = new Uint8Array(0x7f);
for (const char of "?#;&@ ") MAY_HIDE[char.charCodeAt(0)] = 1;
/** What is shown in place of a query. */
const CUT = "?…";
const CUT_BYTES = Buffer.from(CUT);

/** What tells the date of a moment. */
type Calendar = Pick<Clock, "nowMs" | "wallMs">;

/** Of lines of one second, which this one is by the monotonic clock: another look at the calendar would cost as much as the head. */
let lastHead = { fromMs: 0, untilMs: 0, bytes: Buffer.alloc(0) };

function headOf(endedAtMs: number, clock: Calendar): Buffer {
  if (endedAtMs < lastHead.fromMs || endedAtMs >= lastHead.untilMs) {
    const wallMs = clock.wallMs() - (clock.nowMs() - endedAtMs);
    const bytes = Buffer.from(`${consoleHead("info", wallMs, ACCESS_MESSAGE)} bytesIn=`);
    lastHead = { fromMs: endedAtMs, untilMs: endedAtMs + 1_000 - (wallMs % 1_000), bytes };
  }
  return lastHead.bytes;
}

const scrub = createScrubber([]);

/** Parts of a line that a rule decides. */
interface Parts {
  readonly rule: number | undefined;
  readonly service: string | undefined;
  readonly beforeMethod: Buffer;
  readonly afterMs: Buffer;
}

let lastParts: Parts | undefined;

/** Most requests are for the rule of the one before. */
function partsOf(rule: number | undefined, service: string | undefined): Parts {
  if (lastParts !== undefined && rule === lastParts.rule && service === lastParts.service) return lastParts;
  const toRule = rule === undefined ? "" : ` ingressRule=${rule}`;
  const toService = service === undefined ? "" : ` originService=${fieldText(bounded(scrub(service)))}`;
  lastParts = {
    ...{ rule, service },
    beforeMethod: Buffer.from(`${toRule} method=`),
    afterMs: Buffer.from(`${toService} outcome=`),
  };
  return lastParts;
}

function shownPath(path: string): string {
  const shown = shownTarget(path);
  return shown.includes("eyJ") || shown.includes("@") ? scrub(shown) : shown;
}

function bounded(text: string): string {
  return text.length > MAX_CHARS ? `${text.slice(0, MAX_CHARS)}…` : text;
}

function boundedValue(headers: RawHeaders, name: string): string | undefined {
  const value = headerValue(headers, name);
  return value === undefined ? undefined : bounded(value);
}
