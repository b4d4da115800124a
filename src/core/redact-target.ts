import { hideTokens } from "./hide-tokens.ts";
import { beginsAsJson, redactValue } from "./redact-json.ts";
import { decodeParameter, HIDDEN, isSecretField } from "./secret-names.ts";

/** Targets within parameters of targets, encoded each time. */
const MAX_TARGET_DEPTH = 3;
/** What begins JSON in a query, encoded or not. */
const ENCODED_JSON_BEGINS = /^(?:[\s+]|%(?:20|09|0[ad]))*(?:[{[]|%[57]b)/i;
const QUERY_PARTS = /[?;]/g;
const SEMICOLON = /;/g;
const PAIRS = /([?&;#])([^&#]+)/g;
/** In a text white space ends an address; in an address it is one of its characters that should have been encoded. */
const PAIRS_IN_TEXT = /([?&;#])([^&#\s]+)/g;

/** Parameters of a segment of a path (RFC 3986 section 3.3), and what some write as if it were a query. */
const PATH_PAIRS = /([;&])([^;&=/]+)=([^;&/]+)/g;

/** To the last `@` before the host ends. */
const USERINFO = /:\/\/[^/?#\s]*@/g;
const NEXT_PARAMETER = /[&;][^=&;@]*=/;

/** A path or URL with the secrets in its parameters, query and fragment hidden, and credentials before a host. */
export function redactTarget(target: string): string {
  const end = target.search(/[?#]/);
  return end < 0 ? redactPath(target) : redactPath(target.slice(0, end)) + redactWithin(target.slice(end), 0);
}

/**
 * The same for one without query and fragment. A parameter ends with its segment: whoever asks for `/;token=/admin` does not
 * keep the rest out of a log.
 */
export function redactPath(path: string): string {
  // Every logged address comes by, and next to none has any of what is looked for.
  if (!/[;&@ J]/.test(path)) return path;
  const shown = path.replace(PATH_PAIRS, (_all, before: string, name: string, value: string) => {
    return `${before}${name}=${redactEncoded(name, value)}`;
  });
  return hideTokens(hideUserinfo(shown));
}

/** A text that may be JSON, or have addresses in it. */
export function redactPlain(text: string): string {
  return beginsAsJson(text) ? redactValue(text) : hideTokens(hideUserinfo(redactPairs(text, 0, PAIRS_IN_TEXT)));
}

/** `depth`: how many times it is the value of a parameter. */
function redactWithin(target: string, depth: number): string {
  const shown = redactPairs(target, depth, PAIRS);
  const query = shown.search(/[?#]/);
  const hidden =
    query < 0 ? hideUserinfo(shown) : hideUserinfo(shown.slice(0, query)) + hideUserinfoInQuery(shown.slice(query));
  return hideTokens(hidden);
}

function redactPairs(text: string, depth: number, pairsOf: RegExp): string {
  return text.replace(pairsOf, (_all, before: string, pairs: string) => `${before}${redactQuery(pairs, depth)}`);
}

function hideUserinfo(text: string): string {
  return text.replace(USERINFO, `://${HIDDEN}@`);
}

/**
 * Credentials end with their parameter: the `@` of a later one would hide all between. A password may have a `&` or `;` that
 * should have been encoded: only where a name and `=` follow is it the next parameter.
 */
function hideUserinfoInQuery(query: string): string {
  return query.replace(USERINFO, (found) => {
    const next = found.search(NEXT_PARAMETER);
    const at = found.lastIndexOf("@", next < 0 ? found.length : next);
    return at < 0 ? found : `://${HIDDEN}${found.slice(at)}`;
  });
}

/**
 * `name=value`, where the value may be a target with a query of its own: from the secret on all is hidden, up to a `;`.
 * JSON has both `?` and `;` within its strings: what begins as JSON is it to the end.
 */
function redactQuery(pairs: string, depth: number): string {
  let shown = "";
  let from = 0;
  while (from < pairs.length) {
    let end = nextOf(QUERY_PARTS, pairs, from);
    const part = pairs.slice(from, end);
    const named = part.indexOf("=") + 1;
    if (named === 0) shown += part;
    else {
      const name = part.slice(0, named - 1);
      if (isSecretField(name)) end = nextOf(SEMICOLON, pairs, end);
      else if (ENCODED_JSON_BEGINS.test(part.slice(named))) end = pairs.length;
      shown += part.slice(0, named) + redactEncoded(name, pairs.slice(from + named, end), depth);
    }
    shown += pairs.slice(end, end + 1);
    from = end + 1;
  }
  return shown;
}

function nextOf(pattern: RegExp, text: string, from: number): number {
  pattern.lastIndex = from;
  return pattern.exec(text)?.index ?? text.length;
}

/** The value of a parameter as it stands in a query or form: it stays as it is, byte for byte, when it has no secret. */
export function redactEncoded(name: string, value: string, depth = 0): string {
  const plain = decodeParameter(value);
  const shown = redactNamedValue(name, plain, depth + 1);
  if (shown === plain) return value;
  return shown === HIDDEN ? HIDDEN : encodeURIComponent(shown);
}

/** A value, decoded, by the name that it has in a query or form: JSON, or a target with parameters of its own. */
export function redactNamedValue(name: string, value: string, depth = 1): string {
  if (isSecretField(name)) return HIDDEN;
  if (beginsAsJson(value)) return redactValue(value);
  return depth > MAX_TARGET_DEPTH ? hideTokens(value) : redactWithin(value, depth);
}
