import { decodeParameter, HIDDEN, isSecretField, isSecretMember, isSecretName } from "../../core/secret-names.ts";
import type { RawHeaders } from "../../wire/headers.ts";
import { hideTokens } from "./hide-tokens.ts";
import { redactParts } from "./redact-parts.ts";
import { redactText } from "./redact-text.ts";

/** JSON as text within JSON, so many times. */
const MAX_TEXT_DEPTH = 3;
/** Targets within parameters of targets, encoded each time. */
const MAX_TARGET_DEPTH = 3;
const JSON_BEGINS = /^\s*[{[]/;
/** The same in a query, encoded or not. */
const ENCODED_JSON_BEGINS = /^(?:[\s+]|%(?:20|09|0[ad]))*(?:[{[]|%[57]b)/i;
/** A form whatever its type is. */
const FORM = /^[\w.%+[\]~-]{1,200}=[^\s"'`<>{}]*$/;
const QUERY_PARTS = /[?;]/g;
const SEMICOLON = /;/g;

/** Fields as they may be shown: names stay, and of what holds a secret its kind. */
export function redactHeaders(headers: RawHeaders): readonly (readonly [name: string, value: string])[] {
  const shown: (readonly [string, string])[] = [];
  for (let i = 0; i + 1 < headers.length; i += 2) {
    const name = headers[i] as string;
    shown.push([name, redactField(name.toLowerCase(), headers[i + 1] as string)]);
  }
  return shown;
}

function redactField(name: string, value: string): string {
  if (name === "cookie") return value.split(";").map(redactCookie).join(";");
  if (name === "set-cookie") {
    const [cookie = "", ...attributes] = value.split(";");
    return [redactCookie(cookie), ...attributes].join(";");
  }
  if (name === "authorization" || name === "proxy-authorization") {
    const scheme = /^[A-Za-z][\w-]* /.exec(value)?.[0] ?? "";
    return `${scheme}${HIDDEN}`;
  }
  if (isSecretName(name)) return HIDDEN;
  return redactPlain(value, 0);
}

/** A cookie without a name is all value (RFC 6265bis section 5.4). */
function redactCookie(pair: string): string {
  if (pair.trim() === "") return pair;
  const named = pair.indexOf("=") + 1;
  return named > 0 ? `${pair.slice(0, named)}${HIDDEN}` : `${pair.startsWith(" ") ? " " : ""}${HIDDEN}`;
}

/** A path or URL with the secrets in its query and fragment hidden, and credentials before a host. */
export function redactTarget(target: string): string {
  return redactTargetWithin(target, 0);
}

/** `depth`: how many times it is the value of a parameter. */
function redactTargetWithin(target: string, depth: number): string {
  const shown = target
    .replace(/([?&;#])([^&#\s]+)/g, (_all, before: string, pairs: string) => `${before}${redactQuery(pairs, depth)}`)
    .replace(/:\/\/[^/?#\s]*@/g, `://${HIDDEN}@`);
  return hideTokens(shown);
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
function redactEncoded(name: string, value: string, depth: number): string {
  const plain = decodeParameter(value);
  const shown = redactNamedValue(name, plain, depth + 1);
  if (shown === plain) return value;
  return shown === HIDDEN ? HIDDEN : encodeURIComponent(shown);
}

/** A value, decoded, by the name that it has in a query or form. */
function redactNamedValue(name: string, value: string, depth: number): string {
  return isSecretField(name) ? HIDDEN : redactPlain(value, depth);
}

/** JSON, or a target with parameters of its own. */
function redactPlain(value: string, depth: number): string {
  if (JSON_BEGINS.test(value)) return redactValue(value);
  return depth > MAX_TARGET_DEPTH ? hideTokens(value) : redactTargetWithin(value, depth);
}

/**
 * The text of a body with the secrets hidden that can be told from the rest by their names. JSON and forms are known by how
 * they look: types are often wrong, or missing. Takes time in proportion to its length.
 */
export function redactBody(text: string, contentType: string): string {
  const json = redactJson(text, 0);
  if (json !== undefined) return hideTokens(json);
  const type = contentType.trim().toLowerCase();
  if (type.startsWith("application/x-www-form-urlencoded") || FORM.test(text)) return hideTokens(redactForm(text));
  if (type.startsWith("multipart/")) {
    return redactParts(text, contentType, { isSecret: isSecretField, redact: redactValue });
  }
  return hideTokens(redactText(text));
}

/** Names and values of a query or form. */
export function redactPairs(text: string): readonly (readonly [name: string, value: string])[] {
  return [...new URLSearchParams(text)].map(([name, value]) => [name, redactNamedValue(name, value, 1)]);
}

function redactForm(text: string): string {
  return redactText(text.split("&").map(redactFormField).join("&"));
}

/** Webhooks send JSON in a field. */
function redactFormField(pair: string): string {
  const named = pair.indexOf("=") + 1;
  return named === 0 ? pair : pair.slice(0, named) + redactEncoded(pair.slice(0, named - 1), pair.slice(named), 0);
}

function redactValue(text: string): string {
  return hideTokens(redactJson(text, 0) ?? redactText(text));
}

/** Undefined = it is no JSON, or not as a whole. */
function redactJson(text: string, depth: number): string | undefined {
  if (!JSON_BEGINS.test(text)) return undefined;
  let hidden = false;
  try {
    const value: unknown = JSON.parse(text, (name, inner: unknown) => {
      if (inner === null || typeof inner === "boolean") return inner;
      if (isSecretMember(name)) {
        hidden = true;
        return HIDDEN;
      }
      if (typeof inner !== "string") return inner;
      // JSON as text within JSON, addresses, queries of GraphQL: webhooks and echoes have all of them.
      const shown = (depth < MAX_TEXT_DEPTH ? redactJson(inner, depth + 1) : undefined) ?? redactText(inner);
      hidden ||= shown !== inner;
      return shown;
    });
    return hidden ? JSON.stringify(value) : text;
  } catch {
    return undefined;
  }
}
