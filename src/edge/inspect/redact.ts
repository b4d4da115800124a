import { hideTokens } from "../../core/hide-tokens.ts";
import { redactJson, redactValue } from "../../core/redact-json.ts";
import { redactEncoded, redactNamedValue, redactPlain } from "../../core/redact-target.ts";
import { redactText } from "../../core/redact-text.ts";
import { HIDDEN, isSecretField, isSecretName } from "../../core/secret-names.ts";
import type { RawHeaders } from "../../wire/headers.ts";
import { redactParts } from "./redact-parts.ts";

/** A form whatever its type is. */
const FORM = /^[\w.%+[\]~-]{1,200}=[^\s"'`<>{}]*$/;

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
  return redactPlain(value);
}

/** A cookie without a name is all value (RFC 6265bis section 5.4). */
function redactCookie(pair: string): string {
  if (pair.trim() === "") return pair;
  const named = pair.indexOf("=") + 1;
  return named > 0 ? `${pair.slice(0, named)}${HIDDEN}` : `${pair.startsWith(" ") ? " " : ""}${HIDDEN}`;
}

/**
 * The text of a body with the secrets hidden that can be told from the rest by their names. JSON and forms are known by how
 * they look: types are often wrong, or missing. Takes time in proportion to its length.
 */
export function redactBody(text: string, contentType: string): string {
  const json = redactJson(text);
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
  return [...new URLSearchParams(text)].map(([name, value]) => [name, redactNamedValue(name, value)]);
}

function redactForm(text: string): string {
  return redactText(text.split("&").map(redactFormField).join("&"));
}

/** Webhooks send JSON in a field. */
function redactFormField(pair: string): string {
  const named = pair.indexOf("=") + 1;
  return named === 0 ? pair : pair.slice(0, named) + redactEncoded(pair.slice(0, named - 1), pair.slice(named));
}
