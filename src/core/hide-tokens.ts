import { HIDDEN } from "./secret-names.ts";

/** Words joined by dots, of which the first may be the head of a JWT or JWE: it looks once at each word, however long. */
const DOTTED = /(?<![\w-])(?=[\w-]*eyJ)[\w-]{9,}(?:\.[\w-]*){2,4}/g;
const BEARER = /\b(Bearer|Basic) +[\w.~+/=-]{8,}/gi;

/** Hides what is a secret by its looks: JWTs, and credentials after the name of their scheme. */
export function hideTokens(text: string): string {
  // Every parameter of every logged address comes by, and next to none has either.
  const nameless = text.includes(" ") ? text.replace(BEARER, `$1 ${HIDDEN}`) : text;
  if (!nameless.includes("eyJ")) return nameless;
  return nameless.replace(DOTTED, (found) => `${found.slice(0, found.indexOf("eyJ"))}${HIDDEN}`);
}
