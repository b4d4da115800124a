// Where an edge of one's own is and what to trust there, beside the credentials of a tunnel: in its token and in its
// credentials file, under keys that cloudflared ignores.

import { decodeBytes } from "./base64.ts";
import { GoJsonObject } from "./go-json.ts";
import type { Issue } from "./parsed.ts";

/** Edge addresses one token may name. */
export const MAX_TOKEN_EDGES = 64;

/** One address of an edge. */
export type TokenEdge = {
  /** `host:port`, IPv6 in brackets. */
  readonly addr: string;
  /** Connections are spread over regions; 0 or more. */
  readonly region: number;
};

export type EdgeHints = {
  /** Where to connect; empty = Cloudflare's edge, found by DNS. */
  readonly edges: readonly TokenEdge[];
  /** PEM text of the authorities that sign the edge's certificate; undefined = the system's. */
  readonly ca: string | undefined;
  /** Public key that the edge signs management tokens with: DER (RFC 5480) in base64. @default not known */
  readonly managementKey?: string | undefined;
};

const EDGES_KEY = "x_edges";
const CA_KEY = "x_ca";
const MANAGEMENT_KEY = "x_mgmt_key";

const HOST_AND_PORT = /^(?:\[[0-9A-Fa-f:.%\w]+\]|[^:[\]\s/]+):([0-9]{1,5})$/;
const PEM_CERTIFICATE = "-----BEGIN CERTIFICATE-----";
const MAX_REGION = 255;
const MAX_KEY_CHARS = 1_024;

/** Reads the hints and adds what is wrong to `issues`; the value counts only if nothing is. */
export function readEdgeHints(object: GoJsonObject, issues: Issue[]): EdgeHints {
  const managementKey = readKey(object.get(MANAGEMENT_KEY), issues);
  return {
    edges: readEdges(object.get(EDGES_KEY), issues),
    ca: readCa(object.get(CA_KEY), issues),
    ...(managementKey === undefined ? {} : { managementKey }),
  };
}

/** The members that hold them; none where there is nothing to say. */
export function formatEdgeHints(hints: EdgeHints): Readonly<Record<string, unknown>> {
  return {
    ...(hints.edges.length === 0 ? {} : { [EDGES_KEY]: hints.edges }),
    ...(hints.ca === undefined ? {} : { [CA_KEY]: hints.ca }),
    ...(hints.managementKey === undefined ? {} : { [MANAGEMENT_KEY]: hints.managementKey }),
  };
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

function readKey(value: unknown, issues: Issue[]): string | undefined {
  if (value === undefined) return undefined;
  if (typeof value === "string" && value.length <= MAX_KEY_CHARS && decodeBytes(value) !== undefined) return value;
  issues.push({ path: MANAGEMENT_KEY, message: "Must be a public key in base64" });
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
