// The credentials file of a tunnel, `<tunnel id>.json` (protocol: section 5).

import { parseTunnelId, type TunnelId } from "../core/ids.ts";
import { decodeBytes, encodeBytes } from "./base64.ts";
import { type EdgeHints, formatEdgeHints, readEdgeHints } from "./edge-hints.ts";
import { GoJsonObject } from "./go-json.ts";
import { type Issue, type Parsed, refused } from "./parsed.ts";

/** Chars a credentials file may have. */
export const MAX_CREDENTIALS_CHARS = 64 * 1024;

export type Credentials = EdgeHints & {
  readonly accountTag: string;
  /** Raw bytes; never shown. */
  readonly tunnelSecret: Uint8Array;
  /** Undefined in very old files: then the command line names the tunnel. */
  readonly tunnelId: TunnelId | undefined;
  /** Region of the edge, such as `us` or `fed`; "" = global. */
  readonly endpoint: string;
};

/** Names of the same fields in a file and in a token. */
export type CredentialKeys = {
  readonly accountTag: string;
  readonly tunnelSecret: string;
  readonly tunnelId: string;
  readonly endpoint: string;
};

const FILE_KEYS: CredentialKeys = {
  accountTag: "AccountTag",
  tunnelSecret: "TunnelSecret",
  tunnelId: "TunnelID",
  endpoint: "Endpoint",
};

export function parseCredentials(text: string): Parsed<Credentials> {
  if (text.length > MAX_CREDENTIALS_CHARS) return refused("", "Credentials are too long");
  const object = GoJsonObject.parse(text);
  if (object === undefined) return refused("", "Credentials are not a JSON object");
  const issues: Issue[] = [];
  const value = readCredentials(object, FILE_KEYS, issues);
  return issues.length === 0 ? { ok: true, value } : { ok: false, issues };
}

export function formatCredentials(credentials: Credentials): string {
  return JSON.stringify({
    [FILE_KEYS.accountTag]: credentials.accountTag,
    [FILE_KEYS.tunnelSecret]: encodeBytes(credentials.tunnelSecret),
    ...(credentials.tunnelId === undefined ? {} : { [FILE_KEYS.tunnelId]: credentials.tunnelId }),
    [FILE_KEYS.endpoint]: credentials.endpoint,
    ...formatEdgeHints(credentials),
  });
}

/** Reads the fields under the given names and adds what is wrong to `issues`; the value counts only if nothing is. */
export function readCredentials(object: GoJsonObject, keys: CredentialKeys, issues: Issue[]): Credentials {
  const text = (key: string): string => {
    const value = object.get(key) ?? "";
    if (typeof value === "string") return value;
    issues.push({ path: key, message: "Must be a text" });
    return "";
  };

  const accountTag = text(keys.accountTag);
  if (accountTag === "" && !hasIssue(issues, keys.accountTag)) {
    issues.push({ path: keys.accountTag, message: "Account tag is missing" });
  }
  const secret = text(keys.tunnelSecret);
  const tunnelSecret = decodeBytes(secret);
  if (secret === "" && !hasIssue(issues, keys.tunnelSecret)) {
    issues.push({ path: keys.tunnelSecret, message: "Tunnel secret is missing" });
  } else if (tunnelSecret === undefined) {
    issues.push({ path: keys.tunnelSecret, message: "Tunnel secret is not standard base64" });
  }
  const id = text(keys.tunnelId);
  const tunnelId = parseTunnelId(id);
  if (id !== "" && tunnelId === undefined) issues.push({ path: keys.tunnelId, message: "Tunnel id is not a UUID" });

  const endpoint = text(keys.endpoint);
  const hints = readEdgeHints(object, issues);
  return { accountTag, tunnelSecret: tunnelSecret ?? new Uint8Array(0), tunnelId, endpoint, ...hints };
}

function hasIssue(issues: readonly Issue[], path: string): boolean {
  return issues.some((issue) => issue.path === path);
}
