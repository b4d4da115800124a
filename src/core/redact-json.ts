import { hideTokens } from "./hide-tokens.ts";
import { redactText } from "./redact-text.ts";
import { HIDDEN, isSecretMember } from "./secret-names.ts";

/** JSON as text within JSON, so many times. */
const MAX_TEXT_DEPTH = 3;
const JSON_BEGINS = /^\s*[{[]/;

export function beginsAsJson(text: string): boolean {
  return JSON_BEGINS.test(text);
}

/** A value that may be JSON, as a whole or not. */
export function redactValue(text: string): string {
  return hideTokens(redactJson(text) ?? redactText(text));
}

/** Byte for byte as it came when it has no secret; undefined = it is no JSON, or not as a whole. */
export function redactJson(text: string): string | undefined {
  return redactWithin(text, 0);
}

/** `depth`: how many times it is text within JSON. */
function redactWithin(text: string, depth: number): string | undefined {
  if (!beginsAsJson(text)) return undefined;
  let hidden = false;
  try {
    const value: unknown = JSON.parse(text, (name, inner: unknown) => {
      if (inner === null || typeof inner === "boolean") return inner;
      if (isSecretMember(name)) {
        hidden = true;
        return HIDDEN;
      }
      if (typeof inner === "object") {
        const shown = redactNamed(inner);
        hidden ||= shown !== inner;
        return shown;
      }
      if (typeof inner !== "string") return inner;
      // JSON as text within JSON, addresses, queries of GraphQL: webhooks and echoes have all of them.
      const shown = (depth < MAX_TEXT_DEPTH ? redactWithin(inner, depth + 1) : undefined) ?? redactText(inner);
      hidden ||= shown !== inner;
      return shown;
    });
    return hidden ? JSON.stringify(value) : text;
  } catch {
    return undefined;
  }
}

/** Members that say what the value beside them is, as in lists of fields, variables and credentials. */
const NAMES = ["name", "Name", "key", "Key", "id", "field", "type"] as const;
const VALUES = ["value", "Value"] as const;

/** `{"name":"password","value":"…"}`. */
function redactNamed(object: object): object {
  const members = object as Readonly<Record<string, unknown>>;
  const value = VALUES.find((member) => Object.hasOwn(object, member));
  if (value === undefined || !NAMES.some((member) => isNameOfSecret(members[member]))) return object;
  const shown = members[value];
  return shown === null || typeof shown === "boolean" || shown === HIDDEN ? object : { ...object, [value]: HIDDEN };
}

function isNameOfSecret(name: unknown): boolean {
  return typeof name === "string" && isSecretMember(name);
}
