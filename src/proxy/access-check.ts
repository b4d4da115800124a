import { errors, jwtVerify } from "jose";
import type { Clock } from "../core/clock.ts";
import { accessTokens } from "../wire/access-tokens.ts";
import type { RawHeaders } from "../wire/headers.ts";
import type { AccessKeys } from "./access-keys.ts";

/** How far the clocks of who signs and who checks may be apart, in s. */
export const CLOCK_SKEW_S = 60;

/** Algorithms with a public key; anything else would let the published key sign tokens. */
const ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"];

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
 * The check of the Access tokens that a request shows (surface: section 11): one of them must be signed by one of the
 * team's keys, by the right issuer, for one of the audiences, and in its time.
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
    for (const token of accessTokens(headers)) {
      const reason = await verify(token);
      if (reason === undefined) return undefined;
      first ??= reason;
    }
    return first ?? "no token";
  };
}

function refusal(error: unknown): AccessRefusal {
  if (error instanceof errors.JWTExpired) return "expired";
  if (error instanceof errors.JWTClaimValidationFailed) return "wrong claims";
  if (error instanceof errors.JWSSignatureVerificationFailed || error instanceof errors.JWKSNoMatchingKey) {
    return "not signed by the team";
  }
  return "malformed";
}
