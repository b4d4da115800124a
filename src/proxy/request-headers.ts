import type { RawHeaders } from "../wire/headers.ts";
import { CF_TRACE_ID } from "../wire/trace-context.ts";

/** What a rule and the connector add to, or change on, each request. */
export interface RequestHeaderPolicy {
  /** Replaces Host; the visitor's then goes to X-Forwarded-Host (`httpHostHeader`). */
  readonly hostHeader: string | undefined;
  /** Sent as `Cf-Warp-Tag-NAME: value`; the connector's id is one of them. */
  readonly tags: ReadonlyArray<readonly [name: string, value: string]>;
}

/** Fields that the framing of the next hop replaces. */
const FRAMING: ReadonlySet<string> = new Set(["content-length", "transfer-encoding", "connection", "upgrade", "host"]);

/**
 * Builds the fields for the service, Host first, order and repetition of the others kept (surface: section 12.1).
 * `strippedPrefix`, unless empty, is what was taken away in front of the path: the service needs it to name its own URLs.
 */
export function originRequestHeaders(
  authority: string,
  headers: RawHeaders,
  websocket: boolean,
  policy: RequestHeaderPolicy,
  strippedPrefix = "",
): string[] {
  const result: string[] = ["Host", policy.hostHeader ?? authority];
  for (let i = 0; i + 1 < headers.length; i += 2) {
    const name = headers[i] as string;
    const length = name.length;
    // Only names of these lengths can be framing fields: spares most headers the lower-casing.
    if ((length === 14 || length === 17 || length === 10 || length === 7 || length === 4) && isFraming(name)) continue;
    // Between an edge and its connector (protocol: section 2.4).
    if (length === 11 && name.toLowerCase() === CF_TRACE_ID) continue;
    if (websocket && length === 21 && name.toLowerCase() === "sec-websocket-version") continue;
    if (strippedPrefix !== "" && length === 18 && name.toLowerCase() === "x-forwarded-prefix") continue;
    result.push(name, headers[i + 1] as string);
  }
  if (strippedPrefix !== "") result.push("X-Forwarded-Prefix", strippedPrefix);
  if (policy.hostHeader !== undefined) result.push("X-Forwarded-Host", authority);
  for (const [name, value] of policy.tags) result.push(`Cf-Warp-Tag-${name}`, value);
  if (websocket) result.push("Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13");
  else result.push("Connection", "keep-alive");
  return result;
}

function isFraming(name: string): boolean {
  return FRAMING.has(name.toLowerCase());
}
