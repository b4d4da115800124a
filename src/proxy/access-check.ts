import { errors, jwtVerify } from "jose";
import type { Clock } from "../core/clock.ts";
import { headerValues, type RawHeaders } from "../wire/headers.ts";
import type { AccessKeys } from "./access-keys.ts";

/** How far the clocks of who signs and who checks may be apart, in s. */
export const CLOCK_SKEW_S = 60;

/** Longest token that is looked at, in chars, and how many of one request. */
const MAX_TOKEN_CHARS = 16 * 1024;
const MAX_TOKENS = 4;

/** Algorithms with a public key; anything else would let the published key sign tokens. */
const ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"];

const COOKIE = /(?:^|;)[ \t]*CF_Authorization=("?)([\w.-]+)\1[ \t]*(?=;|$)/g;

/** Why a request may not pass; for logs, the visitor is not told. */
export type AccessRefusal =
  | "no token"
  | "no audience is allowed"
  | "no keys"
  | "expired"
  | "wrong claims"
  | "not signed by the team"
  | "malformed";

/** Decides whether a request may pass: undefined = it may. Never rejects. */
export type AccessCheck = (headers: RawHeaders) => Promise<AccessRefusal | undefined>;

/**
 * The check of an Access token (surface: section 11), from the header `Cf-Access-Jwt-Assertion` or the cookie
 * `CF_Authorization`: signed by one of the team's keys, by the right issuer, for one of the audiences, and in its time.
 */
export function createAccessCheck(
  expected: { readonly issuer: string; readonly audiences: readonly string[] },
  keys: AccessKeys,
  clock: Clock,
): AccessCheck {
  const { issuer, audiences } = expected;

  const verify = async (token: string): Promise<AccessRefusal | undefined> => {
    const known = await keys.get();
    if (known === undefined) return "no keys";
    const options = {
      issuer,
      audience: [...audiences],
      algorithms: ALGORITHMS,
      clockTolerance: CLOCK_SKEW_S,
      currentDate: new Date(clock.wallMs()),
      requiredClaims: ["exp"],
    };
    try {
      await jwtVerify(token, known, options);
      return undefined;
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey)) return refusal(error);
    }
    const newer = await keys.getOtherThan(known);
    if (newer === undefined) return "not signed by the team";
    try {
      await jwtVerify(token, newer, options);
      return undefined;
    } catch (error) {
      return refusal(error);
    }
  };

  return async (headers) => {
    if (audiences.length === 0) return "no audience is allowed";
    let first: AccessRefusal | undefined;
    for (const token of tokensOf(headers)) {
      const reason = await verify(token);
      if (reason === undefined) return undefined;
      first ??= reason;
    }
    return first ?? "no token";
  };
}

/** Tokens of a request, the header's first: a cookie may be left over from a session that is over. */
function tokensOf(headers: RawHeaders): string[] {
  const cookies = headerValues(headers, "cookie").flatMap((value) =>
    [...value.matchAll(COOKIE)].map((found) => found[2] ?? ""),
  );
  const given = [...headerValues(headers, "cf-access-jwt-assertion"), ...cookies];
  return given.filter((token) => token !== "" && token.length <= MAX_TOKEN_CHARS).slice(0, MAX_TOKENS);
}

function refusal(error: unknown): AccessRefusal {
  if (error instanceof errors.JWTExpired) return "expired";
  if (error instanceof errors.JWTClaimValidationFailed) return "wrong claims";
  if (error instanceof errors.JWSSignatureVerificationFailed || error instanceof errors.JWKSNoMatchingKey) {
    return "not signed by the team";
  }
  return "malformed";
}
