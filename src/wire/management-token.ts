// Tokens with which somebody may look into a tunnel (protocol: section 8).

import { parseTunnelId, type TunnelId } from "../core/ids.ts";
import { decodeBytes } from "./base64.ts";

/** Chars of a token; a longer one would not fit into a request's target. */
const MAX_TOKEN_CHARS = 8 * 1024;
const MAX_ACTOR_CHARS = 256;
/** How far the clocks of who signs and who checks may be apart, in s. */
const CLOCK_SKEW_S = 60;

/** What a token may let its holder see; `admin` is everything. */
export type ManagementResource = "logs" | "admin" | "host_details";

/** A token that has the right form; nobody has looked at its signature. */
export interface ManagementToken {
  readonly tunnelId: TunnelId;
  readonly accountTag: string;
  /** Who asked for it: one actor follows a log at a time. */
  readonly actor: string;
  /** Undefined = the token says nothing about it, as Cloudflare's may. */
  readonly resources: readonly string[] | undefined;
  /** When it ends, in s since the epoch; undefined = never. */
  readonly expiresAtS: number | undefined;
  /** Where its edge answers requests to look into a tunnel, as a URL; an addition of our edge. */
  readonly managementUrl: string | undefined;
  /** What the signature is about. */
  readonly signed: string;
  readonly signature: Uint8Array;
}

/** Why a token is not good for a request. */
export type ManagementRefusal = "forged" | "expired" | "other-resource";

/** Takes a token apart (RFC 7519, ES256); undefined for what is none. */
export function parseManagementToken(text: string): ManagementToken | undefined {
  const [head = "", payload = "", signature = "", ...more] = text.split(".");
  if (text.length > MAX_TOKEN_CHARS || more.length > 0) return undefined;
  const header = decodeObject(head);
  const claims = decodeObject(payload);
  const signatureBytes = decodeUrlSafe(signature);
  if (header?.["alg"] !== "ES256" || claims === undefined || signatureBytes === undefined) return undefined;
  const tunnel = asObject(claims["tun"]);
  const tunnelId = parseTunnelId(asText(tunnel?.["id"]));
  const accountTag = asText(tunnel?.["account_tag"]);
  const actor = asText(asObject(claims["actor"])?.["id"]);
  if (tunnelId === undefined || accountTag === "" || actor === "" || actor.length > MAX_ACTOR_CHARS) return undefined;
  const { res, exp } = claims;
  const url = asText(claims["mgmt"]);
  return {
    ...{ tunnelId, accountTag, actor },
    resources: Array.isArray(res) ? res.filter((each) => typeof each === "string") : undefined,
    expiresAtS: typeof exp === "number" ? exp : undefined,
    managementUrl: url === "" ? undefined : url,
    signed: `${head}.${payload}`,
    signature: signatureBytes,
  };
}

/** Why a token of a known signer is not good for what `path` shows; undefined = it is. */
export function managementRefusal(
  token: ManagementToken,
  path: string,
  by: { readonly verify: (signed: string, signature: Uint8Array) => boolean; readonly wallMs: number },
): ManagementRefusal | undefined {
  if (!by.verify(token.signed, token.signature)) return "forged";
  if (token.expiresAtS === undefined || token.expiresAtS + CLOCK_SKEW_S < by.wallMs / 1_000) return "expired";
  const needed = neededResource(path);
  if (needed === undefined || token.resources?.includes("admin") === true) return undefined;
  return token.resources?.includes(needed) === true ? undefined : "other-resource";
}

/** What a token must name for this path; undefined = any will do. */
function neededResource(path: string): ManagementResource | undefined {
  switch (path) {
    case "/ping":
      return undefined;
    case "/logs":
      return "logs";
    case "/host_details":
      return "host_details";
    default:
      return "admin";
  }
}

function decodeObject(part: string): Readonly<Record<string, unknown>> | undefined {
  const bytes = decodeUrlSafe(part);
  if (bytes === undefined) return undefined;
  try {
    return asObject(JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes)));
  } catch {
    return undefined;
  }
}

function decodeUrlSafe(part: string): Uint8Array | undefined {
  if (!/^[\w-]+$/.test(part)) return undefined;
  return decodeBytes(part.replaceAll("-", "+").replaceAll("_", "/"));
}

function asObject(value: unknown): Readonly<Record<string, unknown>> | undefined {
  const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
  return isObject ? (value as Readonly<Record<string, unknown>>) : undefined;
}

function asText(value: unknown): string {
  return typeof value === "string" ? value : "";
}
