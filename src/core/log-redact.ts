import type { LogFields, Logger, LogLevel } from "./log.ts";
import { percentEncoded } from "./printable.ts";
import { redactPath } from "./redact-target.ts";
import { HIDDEN, isSecretName } from "./secret-names.ts";

/** Shortest text that is taken for a secret of ours: anything shorter would be found in innocent words. */
const MIN_SECRET_CHARS = 6;
/** Longest text of header fields in one line. */
const MAX_HEADER_CHARS = 4_096;
/** Parts of any text that let somebody in. */
const USERINFO = /([a-z][a-z0-9+.-]{0,15}:\/\/)[^\s/@"']{1,512}@/gi;
const JWT = /eyJ[\w-]{5,}\.[\w-]{2,}\.[\w-]*/g;
const SCHEME = /\b(bearer|basic|digest|negotiate)\s+[\w.~+/=:-]{6,}/gi;

/** The text without what lets somebody in. */
export type Scrub = (text: string) => string;

/**
 * Takes secrets out of a text: these, in any of the shapes they travel in, and what looks like a credential wherever it
 * came from: user and password in a URL, JSON web tokens, values of `Authorization`.
 */
export function createScrubber(secrets: readonly (string | undefined)[]): Scrub {
  const known = [...new Set(secrets.flatMap(shapesOf))].sort((a, b) => b.length - a.length);
  return (text) => {
    let clean = text;
    for (const secret of known) if (clean.includes(secret)) clean = clean.replaceAll(secret, HIDDEN);
    if (clean.includes("://") && clean.includes("@")) clean = clean.replace(USERINFO, `$1${HIDDEN}@`);
    if (clean.includes("eyJ")) clean = clean.replace(JWT, HIDDEN);
    return clean.includes(" ") ? clean.replace(SCHEME, `$1 ${HIDDEN}`) : clean;
  };
}

/** A secret as it is, in base64 of both kinds, in hex and as part of a URL. */
function shapesOf(secret: string | undefined): readonly string[] {
  if (secret === undefined || secret.length < MIN_SECRET_CHARS) return [];
  const bytes = new TextEncoder().encode(secret);
  const base64 = btoa(String.fromCharCode(...bytes)).replace(/=+$/, "");
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  const url = base64.replaceAll("+", "-").replaceAll("/", "_");
  return [secret, encodeURIComponent(secret), base64, url, hex];
}

/** A logger that takes secrets out of messages and of texts in fields, before anybody sees them. */
export function redactingLogger(log: Logger, scrub: Scrub): Logger {
  const emit = (level: LogLevel, message: string, fields: LogFields | undefined): void => {
    if (!log.enabled(level)) return;
    const clean = fields === undefined ? undefined : scrubFields(fields, scrub);
    log[level === "fatal" ? "error" : level](scrub(message), clean);
  };
  return {
    enabled: (level) => log.enabled(level),
    debug: (message, fields) => emit("debug", message, fields),
    info: (message, fields) => emit("info", message, fields),
    warn: (message, fields) => emit("warn", message, fields),
    error: (message, fields) => emit("error", message, fields),
    with: (fields) => redactingLogger(log.with(scrubFields(fields, scrub)), scrub),
  };
}

function scrubFields(fields: LogFields, scrub: Scrub): LogFields {
  const clean: { [name: string]: LogFields[string] } = {};
  for (const name in fields) {
    const value = fields[name];
    clean[name] = typeof value === "string" ? scrub(value) : value;
  }
  return clean;
}

/** Header fields as one text, `name: value` in their order: values of those that let somebody in are left out. */
export function shownHeaders(headers: readonly string[]): string {
  let text = "";
  for (let i = 0; i + 1 < headers.length; i += 2) {
    const name = headers[i] ?? "";
    if (text !== "") text += "; ";
    text += `${name.toLowerCase()}: ${isSecretName(name) ? HIDDEN : shownValue(headers[i + 1] ?? "")}`;
    if (text.length > MAX_HEADER_CHARS) return `${text.slice(0, MAX_HEADER_CHARS)}…`;
  }
  return text;
}

/** A request target, one char per byte, without its query, which is where tokens are, and those in parameters of its path. */
export function shownTarget(target: string): string {
  return percentEncoded(shownValue(target));
}

/** A value that is an address, as of Referer, may have a query; that of Location has tokens behind `#` as well. */
function shownValue(value: string): string {
  const query = value.indexOf("?");
  const fragment = value.indexOf("#");
  if (query < 0 && fragment < 0) return redactPath(value);
  return fragment < 0 || (query >= 0 && query < fragment)
    ? `${redactPath(value.slice(0, query))}?…`
    : `${redactPath(value.slice(0, fragment))}#…`;
}
