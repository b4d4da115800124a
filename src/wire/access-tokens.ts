import { headerValues, type RawHeaders } from "./headers.ts";

/** The field in which services and connectors expect an Access token, in lower case. */
export const ASSERTION_FIELD = "cf-access-jwt-assertion";
/** The field in which access clients show theirs, in lower case (protocol: section 9). */
export const CLIENT_TOKEN_FIELD = "cf-access-token";

/** Longest token that is looked at, in chars, and how many of one request. */
const MAX_TOKEN_CHARS = 16 * 1024;
const MAX_TOKENS = 4;

const COOKIE = /(?:^|;)[ \t]*CF_Authorization=("?)([\w.-]+)\1[ \t]*(?=;|$)/g;
/** Compact serialization (RFC 7515 section 7.1). */
const COMPACT = /^[\w-]+\.[\w-]+\.[\w-]+$/;

/**
 * What a request shows to Access, at most 4 and only what has the form of a signed token; nothing of it is verified. The
 * fields `Cf-Access-Jwt-Assertion` and `Cf-Access-Token` go before the cookie `CF_Authorization`, which may be left over
 * from a session that is over.
 */
export function accessTokens(headers: RawHeaders): string[] {
  const cookies = headerValues(headers, "cookie").flatMap((value) =>
    value.includes("CF_Authorization") ? [...value.matchAll(COOKIE)].map((found) => found[2] ?? "") : [],
  );
  const given = [...headerValues(headers, ASSERTION_FIELD), ...headerValues(headers, CLIENT_TOKEN_FIELD), ...cookies];
  const formed = given.filter((token) => token.length <= MAX_TOKEN_CHARS && COMPACT.test(token));
  return [...new Set(formed)].slice(0, MAX_TOKENS);
}
