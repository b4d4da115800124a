import { HIDDEN } from "../../core/secret-names.ts";

/** Words joined by dots, of which the first may be the head of a JWT or JWE: it looks once at each word, however long. */
const DOTTED = /(?<![\w-])(?=[\w-]*eyJ)[\w-]{9,}(?:\.[\w-]*){2,4}/g;
const BEARER = /\b(Bearer|Basic) +[\w.~+/=-]{8,}/gi;

/** Hides what is a secret by its looks: JWTs, and credentials after the name of their scheme. */
export function hideTokens(text: string): string {
  return text
    .replace(BEARER, `$1 ${HIDDEN}`)
    .replace(DOTTED, (found) => `${found.slice(0, found.indexOf("eyJ"))}${HIDDEN}`);
}
