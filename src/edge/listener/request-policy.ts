import { type Cidr, cidrContains } from "../../wire/cidr.ts";
import { stripHopByHop } from "../../wire/h1/hop-by-hop.ts";
import { headerValues, type RawHeaders } from "../../wire/headers.ts";

/** What a visitor's request is known to have come by. */
export interface VisitorContext {
  readonly ip: string;
  readonly scheme: "http" | "https";
  readonly ray: string;
}

export interface RequestPolicy {
  /** Peers whose forwarding headers are believed: load balancers of one's own. */
  readonly trustedProxies: readonly Cidr[];
}

/** This edge's name in `Cdn-Loop` (RFC 8586). */
const LOOP_NAME = "culvert";
/** Times a request may pass edges of this kind before it is taken for a loop. */
export const MAX_LOOPS = 8;

/** Fields that only an edge may set: what services behind it decide by. Lower case. */
const EDGE_FIELDS: ReadonlySet<string> = new Set([
  "cf-connecting-ip",
  "cf-connecting-ipv6",
  "cf-ipcountry",
  "cf-ray",
  "cf-visitor",
  "cf-worker",
  "cf-access-jwt-assertion",
  "cf-access-authenticated-user-email",
  "cf-pseudo-ipv4",
  "cf-trace-id",
  "forwarded",
  "true-client-ip",
  "x-forwarded-for",
  "x-forwarded-host",
  "x-forwarded-port",
  "x-forwarded-proto",
  "x-real-ip",
]);
const EDGE_PREFIXES = ["cf-cloudflared-", "cf-culvert-", "cf-int-", "cf-proxy-", "cf-warp-"] as const;

/**
 * The fields that go down the tunnel: the visitor's own without those of this connection and those that only an edge
 * may set, then the edge's. A trusted proxy's X-Forwarded-For is extended instead of replaced.
 */
export function tunnelHeaders(headers: RawHeaders, context: VisitorContext, policy: RequestPolicy): string[] {
  const trusted = policy.trustedProxies.some((block) => cidrContains(block, context.ip));
  const stripped = stripHopByHop(headers);
  const result: string[] = [];
  for (let i = 0; i + 1 < stripped.length; i += 2) {
    const name = stripped[i] as string;
    const lower = name.toLowerCase();
    if (lower === "host" || lower === "expect" || lower === "cdn-loop" || isEdgeField(lower)) continue;
    result.push(name, stripped[i + 1] as string);
  }
  const before = trusted ? headerValues(headers, "x-forwarded-for").join(", ") : "";
  const forwarded = before === "" ? context.ip : `${before}, ${context.ip}`;
  const scheme = (trusted ? headerValues(headers, "x-forwarded-proto")[0] : undefined) ?? context.scheme;
  const client = before === "" ? context.ip : (before.split(",", 1)[0] as string).trim();
  const loops = headerValues(headers, "cdn-loop");
  result.push("X-Forwarded-For", forwarded, "X-Forwarded-Proto", scheme, "Cf-Connecting-Ip", client);
  result.push("Cf-Ray", context.ray, "Cf-Visitor", `{"scheme":"${scheme === "https" ? "https" : "http"}"}`);
  result.push("Cdn-Loop", [...loops, LOOP_NAME].join(", "));
  return result;
}

/** True when the request has been through edges of this kind too often (RFC 8586). */
export function isLooping(headers: RawHeaders): boolean {
  const passes = headerValues(headers, "cdn-loop")
    .join(",")
    .split(",")
    .filter((member) => member.split(";", 1)[0]?.trim().toLowerCase() === LOOP_NAME);
  return passes.length >= MAX_LOOPS;
}

function isEdgeField(lower: string): boolean {
  return EDGE_FIELDS.has(lower) || EDGE_PREFIXES.some((prefix) => lower.startsWith(prefix));
}
