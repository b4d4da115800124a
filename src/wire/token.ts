// The token of a tunnel: credentials as one word (protocol: section 5). Our edge adds where it is and what to trust,
// under keys that cloudflared ignores, so that one token moves a connector to an edge of its own.

import type { TunnelId } from "../core/ids.ts";
import { decodeBytes, encodeBytes } from "./base64.ts";
import { type CredentialKeys, type Credentials, readCredentials } from "./credentials.ts";
import { GoJsonObject } from "./go-json.ts";
import { type Issue, type Parsed, refused } from "./parsed.ts";

/** Chars a token may have: a chain of certificates fits. */
export const MAX_TOKEN_CHARS = 64 * 1024;

/** Edge addresses one token may name. */
export const MAX_TOKEN_EDGES = 64;

/** One address of an edge. */
export type TokenEdge = {
  /** `host:port`, IPv6 in brackets. */
  readonly addr: string;
  /** Connections are spread over regions; 0 or more. */
  readonly region: number;
};

export type TunnelToken = Credentials & {
  readonly tunnelId: TunnelId;
  /** Where to connect; empty = Cloudflare's edge, found by DNS. */
  readonly edges: readonly TokenEdge[];
  /** PEM text of the authorities that sign the edge's certificate; undefined = the system's. */
  readonly ca: string | undefined;
};

const KEYS: CredentialKeys = { accountTag: "a", tunnelSecret: "s", tunnelId: "t", endpoint: "e" };
const EDGES_KEY = "x_edges";
const CA_KEY = "x_ca";

const HOST_AND_PORT = /^(?:\[[0-9A-Fa-f:.%\w]+\]|[^:[\]\s/]+):([0-9]{1,5})$/;
const PEM_CERTIFICATE = "-----BEGIN CERTIFICATE-----";
const MAX_REGION = 255;

/** Reads a token; white space and missing padding, as copying leaves them, do no harm. Issues never quote it. */
export function parseToken(text: string): Parsed<TunnelToken> {
  if (text.length > MAX_TOKEN_CHARS) return refused("", "Token is too long");
  // URL-safe letters come from tools that re-encode what they carry.
  const base64 = text.replace(/\s+/g, "").replaceAll("-", "+").replaceAll("_", "/");
  if (base64 === "") return refused("", "Token is empty");
  const bytes = decodeBytes(base64);
  if (bytes === undefined) return refused("", "Token is not base64: check that it was copied whole");
  const object = GoJsonObject.parse(new TextDecoder().decode(bytes));
  if (object === undefined) return refused("", "Token does not hold a JSON object: check that it was copied whole");

  const issues: Issue[] = [];
  const credentials = readCredentials(object, KEYS, issues);
  const { tunnelId } = credentials;
  if (tunnelId === undefined && !issues.some((issue) => issue.path === KEYS.tunnelId)) {
    issues.push({ path: KEYS.tunnelId, message: "Tunnel id is missing" });
  }
  const edges = readEdges(object.get(EDGES_KEY), issues);
  const ca = readCa(object.get(CA_KEY), issues);
  if (issues.length > 0 || tunnelId === undefined) return { ok: false, issues };
  return { ok: true, value: { ...credentials, tunnelId, edges, ca } };
}

/** Base64 with padding, as cloudflared demands. */
export function formatToken(token: TunnelToken): string {
  const json = JSON.stringify({
    [KEYS.accountTag]: token.accountTag,
    [KEYS.tunnelSecret]: encodeBytes(token.tunnelSecret),
    [KEYS.tunnelId]: token.tunnelId,
    ...(token.endpoint === "" ? {} : { [KEYS.endpoint]: token.endpoint }),
    ...(token.edges.length === 0 ? {} : { [EDGES_KEY]: token.edges }),
    ...(token.ca === undefined ? {} : { [CA_KEY]: token.ca }),
  });
  return encodeBytes(new TextEncoder().encode(json));
}

function readEdges(value: unknown, issues: Issue[]): readonly TokenEdge[] {
  if (value === undefined) return [];
  if (!Array.isArray(value) || value.length > MAX_TOKEN_EDGES) {
    issues.push({ path: EDGES_KEY, message: `Must be a list of at most ${MAX_TOKEN_EDGES} edge addresses` });
    return [];
  }
  const edges: TokenEdge[] = [];
  value.forEach((entry: unknown, i) => {
    const object = GoJsonObject.from(entry);
    const addr = object?.get("addr");
    const region = object?.get("region") ?? 0;
    if (!isHostAndPort(addr)) {
      issues.push({ path: `${EDGES_KEY}[${i}].addr`, message: "Must be host:port" });
    } else if (!isRegion(region)) {
      issues.push({ path: `${EDGES_KEY}[${i}].region`, message: `Must be a whole number from 0 to ${MAX_REGION}` });
    } else {
      edges.push({ addr, region });
    }
  });
  return edges;
}

function readCa(value: unknown, issues: Issue[]): string | undefined {
  if (value === undefined) return undefined;
  if (typeof value === "string" && value.includes(PEM_CERTIFICATE)) return value;
  issues.push({ path: CA_KEY, message: "Must be certificates in PEM" });
  return undefined;
}

function isHostAndPort(value: unknown): value is string {
  if (typeof value !== "string") return false;
  const port = Number(HOST_AND_PORT.exec(value)?.[1] ?? "0");
  return port >= 1 && port <= 65_535;
}

function isRegion(value: unknown): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= MAX_REGION;
}
