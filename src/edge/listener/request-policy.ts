import { accessTokens, CLIENT_TOKEN_FIELD } from "../../wire/access-tokens.ts";
import { type Cidr, cidrContains } from "../../wire/cidr.ts";
import { stripHopByHop } from "../../wire/h1/hop-by-hop.ts";
import { headerValues, type RawHeaders } from "../../wire/headers.ts";
import { formatIp, ipToBytes } from "../../wire/ip-bytes.ts";

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
const ASSERTION_NAME = "Cf-Access-Jwt-Assertion";
/** Times a request may pass edges of this kind before it is taken for a loop. */
export const MAX_LOOPS = 8;

/**
 * Fields that only an edge may set: what services behind it decide by. Lower case; with every other `cf-` field that is
 * not in {@link VISITOR_FIELDS}.
 */
const EDGE_FIELDS: ReadonlySet<string> = new Set([
  "forwarded",
  "true-client-ip",
  "x-client-ip",
  "x-forwarded-for",
  "x-forwarded-host",
  "x-forwarded-port",
  "x-forwarded-proto",
  "x-forwarded-ssl",
  "x-real-ip",
]);
const EDGE_PREFIX = "cf-";
/** What a visitor shows to an application behind Access, and where it asks a bastion to go (protocol: section 9). */
const VISITOR_FIELDS: ReadonlySet<string> = new Set([
  "cf-access-client-id",
  "cf-access-client-secret",
  "cf-access-jump-destination",
  CLIENT_TOKEN_FIELD,
]);

/**
 * The fields that go down the tunnel: the visitor's own without those of this connection and those that only an edge
 * may set, then the edge's. A trusted proxy's X-Forwarded-For is extended instead of replaced.
 *
 * An Access token that the visitor shows in any way becomes `Cf-Access-Jwt-Assertion`, where cloudflared looks for it
 * (protocol: section 9). It is the visitor's word, not this edge's: whoever goes by it verifies who signed it.
 */
export function tunnelHeaders(headers: RawHeaders, context: VisitorContext, policy: RequestPolicy): string[] {
  const stripped = stripHopByHop(headers);
  const peer = plainIp(context.ip);
  const hops = vouchedHops(headers, peer, policy);
  const scheme = visitorScheme(headers, context, policy);
  // In front: a connector that logs requests looks for these two in each.
  const result: string[] = ["Cf-Ray", context.ray, "Cf-Connecting-Ip", visitorIp(hops, peer, policy)];
  for (let i = 0; i + 1 < stripped.length; i += 2) {
    const name = stripped[i] as string;
    const lower = name.toLowerCase();
    if (lower === "host" || lower === "expect" || lower === "cdn-loop" || isEdgeField(lower)) continue;
    result.push(name, stripped[i + 1] as string);
  }
  result.push("X-Forwarded-For", [...hops, peer].join(", "), "X-Forwarded-Proto", scheme);
  result.push("Cf-Visitor", `{"scheme":"${scheme}"}`);
  const token = accessTokens(headers)[0];
  if (token !== undefined) result.push(ASSERTION_NAME, token);
  result.push("Cdn-Loop", [...headerValues(headers, "cdn-loop"), LOOP_NAME].join(", "));
  return result;
}

/** Address of the visitor: the peer's, or the one that trusted proxies vouch for. */
export function visitorAddress(headers: RawHeaders, ip: string, policy: RequestPolicy): string {
  const peer = plainIp(ip);
  return visitorIp(vouchedHops(headers, peer, policy), peer, policy);
}

/** What the visitor itself spoke: what the listener does, or what a trusted proxy says. */
export function visitorScheme(
  headers: RawHeaders,
  context: Pick<VisitorContext, "ip" | "scheme">,
  policy: RequestPolicy,
): "http" | "https" {
  if (!isTrusted(plainIp(context.ip), policy)) return context.scheme;
  const told = headerValues(headers, "x-forwarded-proto")[0]?.toLowerCase();
  return told === "https" || told === "http" ? told : context.scheme;
}

function vouchedHops(headers: RawHeaders, peer: string, policy: RequestPolicy): string[] {
  return isTrusted(peer, policy) ? listMembers(headers, "x-forwarded-for") : [];
}

/**
 * Who the visitor is: the last address that a trusted proxy vouches for. Read from the right, because a proxy appends
 * what it saw to whatever the visitor made up.
 */
function visitorIp(hops: readonly string[], peer: string, policy: RequestPolicy): string {
  let vouched = peer;
  for (let i = hops.length - 1; i >= 0 && isTrusted(vouched, policy); i -= 1) {
    const hop = formatIp(ipToBytes(hops[i] as string));
    if (hop === undefined) break;
    vouched = hop;
  }
  return vouched;
}

function isTrusted(ip: string, policy: RequestPolicy): boolean {
  return policy.trustedProxies.some((block) => cidrContains(block, ip));
}

/** IPv4 as such, also where a listener for both families shows it in its IPv6 form. */
function plainIp(ip: string): string {
  return ip.startsWith("::ffff:") ? (formatIp(ipToBytes(ip)) ?? ip) : ip;
}

function listMembers(headers: RawHeaders, name: string): string[] {
  return headerValues(headers, name)
    .flatMap((value) => value.split(","))
    .map((member) => member.trim())
    .filter((member) => member !== "");
}

/** True when the request has been through edges of this kind too often (RFC 8586). */
export function isLooping(headers: RawHeaders): boolean {
  const passes = listMembers(headers, "cdn-loop").filter(
    (member) => member.split(";", 1)[0]?.trim().toLowerCase() === LOOP_NAME,
  );
  return passes.length >= MAX_LOOPS;
}

function isEdgeField(lower: string): boolean {
  // CGI and its heirs cannot tell `X_Forwarded_For` from the real one.
  const name = lower.includes("_") ? lower.replaceAll("_", "-") : lower;
  return EDGE_FIELDS.has(name) || (name.startsWith(EDGE_PREFIX) && !VISITOR_FIELDS.has(lower));
}
