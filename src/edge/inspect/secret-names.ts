/** What stands for a secret wherever one is shown. */
export const HIDDEN = "REDACTED";

/** Words that say of a name, in whatever spelling, that its value is a secret. */
const SECRET_WORDS: ReadonlySet<string> = new Set([
  ...["token", "tokens", "secret", "secrets", "password", "passwords", "passwd", "pwd", "passphrase", "signature"],
  ...["sig", "apikey", "jwt", "session", "sessionid", "sid", "credential", "credentials", "assertion", "auth"],
  ...["authorization", "otp", "csrf", "xsrf", "cookie", "cookies", "bearer"],
]);
const SECRET_PAIRS = /(api|access|private|secret|encryption|signing|ssh)[-_. ]?key/i;
const MAX_NAME_CHARS = 200;

/** Words joined by dots, of which the first may be the head of a JWT or JWE: it looks once at each word, however long. */
const DOTTED = /(?<![\w-])(?=[\w-]*eyJ)[\w-]{9,}(?:\.[\w-]*){2,4}/g;
const BEARER = /\b(Bearer|Basic) +[\w.~+/=-]{8,}/gi;

/** Whether the value under this name is a secret: `accessToken`, `X-Api-Key`, `client_secret`. */
export function isSecretName(name: string): boolean {
  if (name.length > MAX_NAME_CHARS) return true;
  if (SECRET_PAIRS.test(name)) return true;
  const words = name.replace(/([a-z0-9])([A-Z])/g, "$1-$2").toLowerCase();
  return words.split(/[^a-z0-9]+/).some((word) => SECRET_WORDS.has(word));
}

/** Hides what is a secret by its looks: JWTs, and credentials after the name of their scheme. */
export function hideTokens(text: string): string {
  return text
    .replace(BEARER, `$1 ${HIDDEN}`)
    .replace(DOTTED, (found) => `${found.slice(0, found.indexOf("eyJ"))}${HIDDEN}`);
}
