/**
 * A reader of HTTP/1.1 requests and answers that shares nothing with `src/wire/h1`: whole byte strings in, by the
 * letter of RFC 9112, and no mercy. What it and the edge read differently is a finding. Text has a char for each byte.
 */

export interface StrictRequest {
  readonly method: string;
  /** Origin form; an absolute target is cut down to it. */
  readonly target: string;
  readonly fields: readonly (readonly [name: string, value: string])[];
  readonly body: string;
  /** Where it stands in the text. */
  readonly start: number;
  readonly end: number;
}

export interface StrictAnswer {
  readonly status: number;
  /** Lower-case names. */
  readonly fields: ReadonlyMap<string, string>;
  readonly body: string;
}

export interface StrictStream<T> {
  readonly messages: readonly T[];
  /** What stands behind the last message: nothing, a message that is cut off, or none at all. */
  readonly rest: "none" | "cut" | "malformed";
}

const TOKEN = "[!#$%&'*+.^_`|~0-9A-Za-z-]+";
const REQUEST_LINE = new RegExp(`^(${TOKEN}) ([\\x21\\x22\\x24-\\x7e\\x80-\\xff]+) HTTP/1\\.([01])$`);
const FIELD_LINE = new RegExp(`^(${TOKEN}):[ \\t]*((?:[\\t\\x20-\\x7e\\x80-\\xff]*[\\x21-\\x7e\\x80-\\xff])?)[ \\t]*$`);
const STATUS_LINE = /^HTTP\/1\.1 ([1-9][0-9][0-9]) ([\t\x20-\x7e\x80-\xff]*)$/;
const ABSOLUTE = /^https?:\/\/[^/?]+(.*)$/i;
/** Digits a length can have and still be exact; the edge refuses the others. */
const LENGTH = /^[0-9]{1,15}$/;
const CHUNK_LINE = /^([0-9A-Fa-f]{1,16})(?:;[\t\x20-\x7e\x80-\xff]*)?$/;

type Fields = readonly (readonly [string, string])[];
type Step<T> = T | "cut" | "malformed";

/** All requests of one connection. `leadingLine`: an empty line may stand in front of each (RFC 9112 section 2.2). */
export function readRequests(text: string, options: { readonly leadingLine: boolean }): StrictStream<StrictRequest> {
  const messages: StrictRequest[] = [];
  let at = 0;
  for (;;) {
    if (at === text.length) return { messages, rest: "none" };
    const start = options.leadingLine && text.startsWith("\r\n", at) ? at + 2 : at;
    if (start === text.length) return { messages, rest: "cut" };
    const request = readRequest(text, start);
    if (typeof request === "string") return { messages, rest: request };
    messages.push(request);
    at = request.end;
  }
}

/** All answers of one connection; 1xx are left out. `methods`: of the requests they are to. */
export function readAnswers(text: string, methods: readonly string[]): StrictStream<StrictAnswer> {
  const messages: StrictAnswer[] = [];
  let at = 0;
  while (at < text.length) {
    const head = readHead(text, at);
    if (typeof head === "string") return { messages, rest: head };
    const [, status = ""] = STATUS_LINE.exec(head.startLine) ?? [];
    if (status === "") return { messages, rest: "malformed" };
    at = head.end;
    if (status.startsWith("1")) continue;
    const fields = new Map(head.fields.map(([name, value]) => [name.toLowerCase(), value]));
    const bodyless = methods[messages.length] === "HEAD" || status === "204" || status === "304";
    const closes = fields.get("connection") === "close";
    // Nobody reads on behind an answer that closes; and one to half a request may be to a HEAD that is not in the list.
    if (closes && (bodyless || at === text.length)) {
      return { messages: [...messages, { status: Number(status), fields, body: "" }], rest: "none" };
    }
    const body = bodyless ? { body: "", end: at } : readBody(text, at, head.fields, true);
    if (typeof body === "string") return { messages, rest: body };
    messages.push({ status: Number(status), fields, body: body.body });
    at = body.end;
  }
  return { messages, rest: "none" };
}

function readRequest(text: string, start: number): Step<StrictRequest> {
  const head = readHead(text, start);
  if (typeof head === "string") return head;
  const [, method = "", target = "", minor = ""] = REQUEST_LINE.exec(head.startLine) ?? [];
  if (method === "") return "malformed";
  const { fields } = head;
  const hosts = valuesOf(fields, "host");
  if (hosts.length > 1 || (minor === "1" && hosts.length === 0)) return "malformed";
  if (minor === "0" && valuesOf(fields, "transfer-encoding").length > 0) return "malformed";
  const body = readBody(text, head.end, fields, false);
  if (typeof body === "string") return body;
  return { method, target: originForm(method, target), fields, body: body.body, start, end: body.end };
}

function originForm(method: string, target: string): string {
  const rest = ABSOLUTE.exec(target)?.[1];
  if (rest === undefined) return target;
  if (rest === "") return method === "OPTIONS" ? "*" : "/";
  return rest.startsWith("/") ? rest : `/${rest}`;
}

function readHead(text: string, start: number): Step<{ startLine: string; fields: Fields; end: number }> {
  const end = text.indexOf("\r\n\r\n", start);
  if (end < 0) return "cut";
  const [startLine = "", ...lines] = text.slice(start, end).split("\r\n");
  const fields = readFields(lines);
  return fields === undefined ? "malformed" : { startLine, fields, end: end + 4 };
}

function readFields(lines: readonly string[]): Fields | undefined {
  const fields: [string, string][] = [];
  for (const line of lines) {
    const [, name, value = ""] = FIELD_LINE.exec(line) ?? [];
    if (name === undefined) return undefined;
    fields.push([name, value]);
  }
  return fields;
}

function valuesOf(fields: Fields, name: string): string[] {
  return fields.filter(([key]) => key.toLowerCase() === name).map(([, value]) => value);
}

function readBody(text: string, at: number, fields: Fields, answer: boolean): Step<{ body: string; end: number }> {
  const codings = valuesOf(fields, "transfer-encoding");
  const lengths = valuesOf(fields, "content-length");
  if (codings.length + lengths.length > 1) return "malformed";
  const [length] = lengths;
  if (length !== undefined) {
    if (!LENGTH.test(length)) return "malformed";
    const end = at + Number(length);
    return end > text.length ? "cut" : { body: text.slice(at, end), end };
  }
  const [coding] = codings;
  if (coding === undefined) return answer ? { body: text.slice(at), end: text.length } : { body: "", end: at };
  return coding.toLowerCase() === "chunked" ? readChunks(text, at) : "malformed";
}

function readChunks(text: string, from: number): Step<{ body: string; end: number }> {
  let body = "";
  let at = from;
  for (;;) {
    const lineEnd = text.indexOf("\r\n", at);
    if (lineEnd < 0) return "cut";
    const [, digits] = CHUNK_LINE.exec(text.slice(at, lineEnd)) ?? [];
    if (digits === undefined) return "malformed";
    const size = Number.parseInt(digits, 16);
    at = lineEnd + 2;
    if (size === 0) break;
    if (at + size + 2 > text.length) return "cut";
    body += text.slice(at, at + size);
    if (!text.startsWith("\r\n", at + size)) return "malformed";
    at += size + 2;
  }
  if (text.startsWith("\r\n", at)) return { body, end: at + 2 };
  const end = text.indexOf("\r\n\r\n", at);
  if (end < 0) return "cut";
  return readFields(text.slice(at, end).split("\r\n")) === undefined ? "malformed" : { body, end: end + 4 };
}
