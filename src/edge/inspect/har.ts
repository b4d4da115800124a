import { STATUS_CODES } from "node:http";
import { setImmediate } from "node:timers";
import { printable } from "../../core/printable.ts";
import { redactTarget } from "../../core/redact-target.ts";
import { HIDDEN } from "../../core/secret-names.ts";
import { VERSION } from "../../core/version.ts";
import { headerValue, type RawHeaders } from "../../wire/headers.ts";
import { type ShownBody, showBody } from "./body-text.ts";
import type { Recording } from "./recording.ts";
import { redactHeaders, redactPairs } from "./redact.ts";

/**
 * HTTP Archive 1.2 (https://w3c.github.io/web-performance/specs/HAR/Overview.html): what browsers' network panels and
 * other tools open, as JSON in pieces. Secrets are hidden as on the page; `_` marks fields of our own, as the format
 * asks. What could steer the terminal that the file is looked at in is escaped. Between two entries others have their
 * turn: what visitors send goes through the same process.
 */
export async function* harText(recordings: readonly Recording[]): AsyncGenerator<string, void, undefined> {
  const creator = JSON.stringify({ name: "culvert", version: VERSION });
  yield `{"log":{"version":"1.2","creator":${creator},"entries":[`;
  let separator = "\n";
  for (const recording of recordings.toSorted((a, b) => a.startedAtMs - b.startedAtMs || a.id - b.id)) {
    yield separator + printable(JSON.stringify(await entry(recording)));
    separator = ",\n";
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
  yield "\n]}}\n";
}

async function entry(recording: Recording): Promise<object> {
  const { durationMs = 0, firstByteMs = durationMs } = recording;
  const wait = rounded(Math.min(firstByteMs, durationMs));
  const receive = rounded(Math.max(0, durationMs - firstByteMs));
  return {
    startedDateTime: new Date(recording.startedAtMs).toISOString(),
    time: rounded(wait + receive),
    request: await harRequest(recording),
    response: await harResponse(recording),
    cache: {},
    timings: { send: 0, wait, receive },
    ...(recording.connectorId === undefined ? {} : { _connector: recording.connectorId }),
    ...(recording.replayOf === undefined ? {} : { _replayOf: recording.replayOf }),
    ...(recording.error === undefined ? {} : { _error: recording.error }),
    _tunnel: recording.tunnelId,
  };
}

async function harRequest(recording: Recording): Promise<object> {
  const { request, requestBody } = recording;
  const body = await showBody(requestBody, request.headers);
  return {
    method: request.method,
    url: redactTarget(urlOf(recording)),
    httpVersion: "HTTP/1.1",
    cookies: cookiesOf(headerValue(request.headers, "cookie")),
    headers: [{ name: "Host", value: request.authority }, ...fieldsOf(request.headers)],
    queryString: redactPairs(queryOf(request.path)).map(named),
    ...(body.kind === "none" ? {} : { postData: postData(body) }),
    headersSize: -1,
    bodySize: requestBody.total,
  };
}

async function harResponse({ status = 0, headers, body }: Recording): Promise<object> {
  const shown = await showBody(body, headers);
  return {
    status,
    statusText: STATUS_CODES[status] ?? "",
    httpVersion: "HTTP/1.1",
    cookies: setCookiesOf(headers),
    headers: fieldsOf(headers),
    content: content(shown, body.total),
    redirectURL: redactTarget(headerValue(headers, "location") ?? ""),
    headersSize: -1,
    bodySize: body.total,
  };
}

function postData(body: Exclude<ShownBody, { kind: "none" }>): object {
  if (body.kind === "binary") return { mimeType: body.type, params: [], text: "", comment: `${body.bytes} bytes` };
  if (!body.type.startsWith("application/x-www-form-urlencoded")) {
    return { mimeType: body.type, params: [], text: body.text };
  }
  return { mimeType: body.type, params: redactPairs(body.text).map(named), text: body.text };
}

function content(body: ShownBody, total: number): object {
  switch (body.kind) {
    case "none":
      return { size: 0, mimeType: "" };
    case "binary":
      return { size: total, mimeType: body.type, comment: "Not text: left out" };
    case "text":
      return {
        size: total,
        mimeType: body.type,
        text: body.text,
        ...(body.cut ? { comment: "Only its beginning" } : {}),
      };
  }
}

/** The address that the visitor asked. */
export function urlOf({ request }: Recording): string {
  const told = headerValue(request.headers, "x-forwarded-proto");
  const secure = told === "https";
  const scheme = request.kind === "websocket" ? (secure ? "wss" : "ws") : secure ? "https" : "http";
  return `${scheme}://${request.authority}${request.path}`;
}

function queryOf(path: string): string {
  const at = path.indexOf("?");
  return at < 0 ? "" : path.slice(at + 1);
}

function fieldsOf(headers: RawHeaders): readonly object[] {
  return redactHeaders(headers).map(named);
}

function cookiesOf(text: string | undefined): readonly object[] {
  return (text ?? "")
    .split(";")
    .map((pair) => pair.trim())
    .filter((pair) => pair.includes("="))
    .map((pair) => ({ name: pair.slice(0, pair.indexOf("=")), value: HIDDEN }));
}

function setCookiesOf(headers: RawHeaders): readonly object[] {
  const set = redactHeaders(headers).filter(([name]) => name.toLowerCase() === "set-cookie");
  return set.flatMap(([, line]) => cookiesOf(line.split(";", 1)[0]));
}

function named([name, value]: readonly [string, string]): object {
  return { name, value };
}

function rounded(ms: number): number {
  return Math.round(ms * 1_000) / 1_000;
}
