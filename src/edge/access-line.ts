import { percentEncoded, printable } from "../core/printable.ts";
import { redactPath, redactTarget } from "../core/redact-target.ts";
import { headerValue } from "../wire/headers.ts";
import type { AccessEntry } from "./listener/visitor-deps.ts";

export type AccessLogFormat = "json" | "combined";

/** What a line says beside the entry itself. */
export interface AccessLineContext {
  /** Write queries, of the request and of its Referer. */
  readonly query: boolean;
  /** Time of the end of the request. */
  readonly wallMs: number;
  /** Who writes the rules of the tunnel that served it. */
  readonly rules: "local" | "remote" | undefined;
}

/** Longest text of one field: whoever sends a longer one has no claim on our disk. */
const MAX_FIELD_CHARS = 2_048;

/** One line of the access log, with its end. */
export function accessLine(format: AccessLogFormat, entry: AccessEntry, context: AccessLineContext): string {
  return format === "json" ? jsonLine(entry, context) : combinedLine(entry, context);
}

function jsonLine(entry: AccessEntry, context: AccessLineContext): string {
  const text = JSON.stringify({
    time: new Date(context.wallMs).toISOString(),
    ray: entry.ray,
    client: entry.ip,
    scheme: entry.scheme,
    protocol: entry.protocol,
    method: bounded(entry.method),
    host: bounded(entry.host),
    path: percentEncoded(shownTarget(entry.target, context.query)),
    status: entry.status ?? null,
    bytes_in: entry.bytesIn,
    bytes_out: entry.bytesOut,
    ttfb_ms: entry.firstByteMs === undefined ? null : rounded(entry.firstByteMs),
    duration_ms: rounded(entry.durationMs),
    tunnel: entry.tunnelId ?? null,
    connector: entry.connectorId ?? null,
    rules: context.rules ?? null,
    answered_by: entry.answeredBy ?? null,
    retries: entry.retries,
    error: entry.error ?? null,
    referer: percentEncoded(shownTarget(headerValue(entry.headers, "referer") ?? "", context.query)),
    user_agent: bounded(headerValue(entry.headers, "user-agent") ?? ""),
  });
  return `${printable(text)}\n`;
}

/** The common log format with Referer and User-Agent, then what Apache has no place for, as `name=value`. */
function combinedLine(entry: AccessEntry, context: AccessLineContext): string {
  const { method, headers } = entry;
  const request =
    method === "" ? "-" : `${quotable(method)} ${quotable(shownTarget(entry.target, context.query))} ${entry.protocol}`;
  const referer = shownTarget(headerValue(headers, "referer") ?? "-", context.query);
  const agent = headerValue(headers, "user-agent") ?? "-";
  return [
    `${entry.ip} - - [${apacheTime(context.wallMs)}]`,
    ` "${request}" ${entry.status ?? 0} ${entry.bytesOut} "${quotable(referer)}" "${quotable(agent)}"`,
    ` host="${quotable(entry.host)}" ray=${entry.ray} tunnel=${entry.tunnelId ?? "-"}`,
    ` connector=${entry.connectorId ?? "-"} rules=${context.rules ?? "-"} by=${entry.answeredBy ?? "-"}`,
    ` in=${entry.bytesIn} ttfb=${entry.firstByteMs === undefined ? "-" : rounded(entry.firstByteMs)}`,
    ` total=${rounded(entry.durationMs)}\n`,
  ].join("");
}

/** A target or URL, its query cut off or not, with the secrets in it hidden; credentials before a host go always. */
function shownTarget(target: string, query: boolean): string {
  const bare = target.startsWith("/") ? target : target.replace(/^([a-z][a-z0-9+.-]*:\/\/)[^/?#@]*@/i, "$1");
  return bounded(query ? redactTarget(bare) : redactPath(withoutQuery(bare)));
}

function withoutQuery(target: string): string {
  const end = target.search(/[?#]/);
  return end < 0 ? target : target.slice(0, end);
}

function bounded(text: string): string {
  return text.length > MAX_FIELD_CHARS ? `${text.slice(0, MAX_FIELD_CHARS)}…` : text;
}

/** Text that can neither end its quotes nor its line. */
function quotable(text: string): string {
  return bounded(text).replace(/["\\]|[^\x20-\x7e]/g, (char) =>
    char === '"' || char === "\\" ? `\\${char}` : `\\x${(char.charCodeAt(0) & 0xff).toString(16).padStart(2, "0")}`,
  );
}

function rounded(ms: number): number {
  return Math.round(ms * 10) / 10;
}

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"] as const;

/** `10/Oct/2000:13:55:36 +0000`, in UTC. */
function apacheTime(wallMs: number): string {
  const [date = "", time = ""] = new Date(wallMs).toISOString().split("T");
  const [year, month, day] = date.split("-");
  return `${day}/${MONTHS[Number(month) - 1]}/${year}:${time.slice(0, 8)} +0000`;
}
