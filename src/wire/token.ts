// The token of a tunnel: credentials as one word (protocol: section 5). Our edge adds where it is and what to trust,
// under keys that cloudflared ignores, so that one token moves a connector to an edge of its own.

import type { TunnelId } from "../core/ids.ts";
import { decodeBytes, encodeBytes } from "./base64.ts";
import { type CredentialKeys, type Credentials, readCredentials } from "./credentials.ts";
import { formatEdgeHints } from "./edge-hints.ts";
import { GoJsonObject } from "./go-json.ts";
import { type Issue, type Parsed, refused } from "./parsed.ts";

/** Chars a token may have: a chain of certificates fits. */
export const MAX_TOKEN_CHARS = 64 * 1024;

export type TunnelToken = Credentials & { readonly tunnelId: TunnelId };

const KEYS: CredentialKeys = { accountTag: "a", tunnelSecret: "s", tunnelId: "t", endpoint: "e" };

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
  if (issues.length > 0 || tunnelId === undefined) return { ok: false, issues };
  return { ok: true, value: { ...credentials, tunnelId } };
}

/** Base64 with padding, as cloudflared demands. */
export function formatToken(token: TunnelToken): string {
  const json = JSON.stringify({
    [KEYS.accountTag]: token.accountTag,
    [KEYS.tunnelSecret]: encodeBytes(token.tunnelSecret),
    [KEYS.tunnelId]: token.tunnelId,
    ...(token.endpoint === "" ? {} : { [KEYS.endpoint]: token.endpoint }),
    ...formatEdgeHints(token),
  });
  return encodeBytes(new TextEncoder().encode(json));
}
