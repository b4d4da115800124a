import { createPublicKey, verify } from "node:crypto";

/** Characters of a token; larger ones fit into no header. */
const MAX_CHARS = 16 * 1024;

/** A JSON Web Token in compact form (RFC 7519) signed with RS256, the only algorithm Access uses; not verified yet. */
export interface Jwt {
  readonly keyId: string | undefined;
  readonly claims: Readonly<Record<string, unknown>>;
  readonly signed: string;
  readonly signature: Uint8Array;
}

/** A public RSA key (RFC 7517). */
export interface RsaKey {
  readonly kty: "RSA";
  readonly kid?: string;
  readonly use?: string;
  readonly alg?: string;
  /** Modulus and exponent, in base64url. */
  readonly n: string;
  readonly e: string;
}

/** The public keys of an organisation, RSA ones alone. */
export interface KeySet {
  readonly keys: readonly RsaKey[];
}

/** Takes a token apart; undefined when it is none, or signed with something else. */
export function parseJwt(text: string): Jwt | undefined {
  const [head = "", payload = "", signature = "", ...more] = text.split(".");
  if (
    text.length > MAX_CHARS ||
    more.length > 0 ||
    ![head, payload, signature].every((part) => /^[\w-]+$/.test(part))
  ) {
    return undefined;
  }
  const header = parseObject(decode(head));
  const claims = parseObject(decode(payload));
  if (header?.["alg"] !== "RS256" || claims === undefined) return undefined;
  const keyId = header["kid"];
  return {
    keyId: typeof keyId === "string" ? keyId : undefined,
    claims,
    signed: `${head}.${payload}`,
    signature: Buffer.from(signature, "base64url"),
  };
}

/** True when one of the keys signed the token; the one it names, where it names one. */
export function isSignedBy(token: Jwt, keys: KeySet): boolean {
  return keys.keys
    .filter((key) => token.keyId === undefined || key.kid === token.keyId)
    .some((key) => {
      try {
        const publicKey = createPublicKey({ key: { ...key }, format: "jwk" });
        return verify("RSA-SHA256", Buffer.from(token.signed), publicKey, token.signature);
      } catch {
        return false;
      }
    });
}

/** Reads a key set; undefined when it is none. */
export function parseKeySet(text: string): KeySet | undefined {
  const keys = parseObject(text)?.["keys"];
  if (!Array.isArray(keys)) return undefined;
  const usable = keys.flatMap((key: unknown): RsaKey[] => {
    if (typeof key !== "object" || key === null || !("kty" in key) || key.kty !== "RSA") return [];
    const { kid, n, e, use, alg } = key as Record<string, unknown>;
    if (typeof n !== "string" || typeof e !== "string") return [];
    const named = Object.entries({ kid, use, alg }).filter(([, value]) => typeof value === "string");
    return [{ kty: "RSA", ...Object.fromEntries(named), n, e }];
  });
  return usable.length === 0 ? undefined : { keys: usable };
}

/** The audiences of a token, which may be one text or a list. */
export function audiences(claims: Jwt["claims"]): readonly string[] {
  const { aud } = claims;
  const list: readonly unknown[] = Array.isArray(aud) ? aud : [aud];
  return list.filter((one) => typeof one === "string");
}

/** True when a token has an end, and it has not come yet. */
export function isCurrent(claims: Jwt["claims"], wallMs: number): boolean {
  const { exp } = claims;
  return typeof exp === "number" && Math.floor(wallMs / 1_000) <= exp;
}

/** A JSON text that holds an object. */
export function parseObject(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}

function decode(part: string): string {
  return Buffer.from(part, "base64url").toString("utf8");
}
