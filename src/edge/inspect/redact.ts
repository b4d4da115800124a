import { decodeParameter, HIDDEN, isSecretName, isSecretParameter } from "../../core/secret-names.ts";
import type { RawHeaders } from "../../wire/headers.ts";
import { hideTokens } from "./hide-tokens.ts";
import { redactParts } from "./redact-parts.ts";
import { redactText } from "./redact-text.ts";

/** JSON as text within JSON, so many times. */
const MAX_TEXT_DEPTH = 3;
const JSON_BEGINS = /^\s*[{[]/;

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
  return redactTarget(value);
}

/** A cookie without a name is all value (RFC 6265bis section 5.4). */
function redactCookie(pair: string): string {
  if (pair.trim() === "") return pair;
  const named = pair.indexOf("=") + 1;
  return named > 0 ? `${pair.slice(0, named)}${HIDDEN}` : `${pair.startsWith(" ") ? " " : ""}${HIDDEN}`;
}

/** A path or URL with the secrets in its query and fragment hidden, and credentials before a host. */
export function redactTarget(target: string): string {
  const shown = target
    .replace(/([?&;#])([^&;#\s]+)/g, (_all, before: string, pair: string) => `${before}${redactPair(pair)}`)
    .replace(/:\/\/[^/?#\s]*@/g, `://${HIDDEN}@`);
  return hideTokens(shown);
}

/** `name=value`, where the value may be a target with a query of its own: from the secret on all is hidden. */
function redactPair(pair: string): string {
  let from = 0;
  while (from < pair.length) {
    const end = pair.indexOf("?", from);
    const part = pair.slice(from, end < 0 ? undefined : end);
    const named = part.indexOf("=") + 1;
    if (named > 0 && isSecretParameter(part.slice(0, named - 1))) return `${pair.slice(0, from + named)}${HIDDEN}`;
    if (end < 0) break;
    from = end + 1;
  }
  return pair;
}

/**
 * The text of a body with the secrets hidden that can be told from the rest by their names. JSON is known by how it
 * begins: types are often wrong, or missing. Takes time in proportion to its length.
 */
export function redactBody(text: string, contentType: string): string {
  const json = redactJson(text, 0);
  if (json !== undefined) return hideTokens(json);
  const type = contentType.trim().toLowerCase();
  if (type.startsWith("application/x-www-form-urlencoded")) return hideTokens(redactForm(text));
  if (type.startsWith("multipart/")) {
    return redactParts(text, contentType, { isSecret: isSecretParameter, redact: redactValue });
  }
  return hideTokens(redactText(text));
}

/** Names and values of a query or form. */
export function redactPairs(text: string): readonly (readonly [name: string, value: string])[] {
  return [...new URLSearchParams(text)].map(([name, value]) => [
    name,
    isSecretParameter(name) ? HIDDEN : redactTarget(value),
  ]);
}

function redactForm(text: string): string {
  return redactText(text.split("&").map(redactFormField).join("&"));
}

function redactFormField(pair: string): string {
  const named = pair.indexOf("=") + 1;
  if (named === 0) return pair;
  if (isSecretParameter(pair.slice(0, named - 1))) return `${pair.slice(0, named)}${HIDDEN}`;
  // Webhooks send JSON in a field.
  const value = decodeParameter(pair.slice(named));
  const shown = redactJson(value, 0) ?? value;
  return shown === value ? pair : `${pair.slice(0, named)}${encodeURIComponent(shown)}`;
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
      if (isSecretName(name)) {
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
