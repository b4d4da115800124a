import type { RawHeaders } from "../../wire/headers.ts";

/** What stands for a secret wherever one is shown. */
export const HIDDEN = "REDACTED";

/** Words that say of a name, in whatever spelling, that its value is a secret. */
const SECRET_WORDS: ReadonlySet<string> = new Set([
  ...["token", "tokens", "secret", "secrets", "password", "passwords", "passwd", "pwd", "passphrase", "signature"],
  ...["sig", "apikey", "jwt", "session", "sessionid", "sid", "credential", "credentials", "assertion", "auth"],
  ...["authorization", "otp", "csrf", "xsrf", "cookie", "cookies", "bearer"],
]);
const SECRET_PAIRS = /(api|access|private|secret|encryption|signing|ssh)[-_. ]?key/i;
/** Secrets in queries and forms, too ordinary elsewhere (RFC 6749 section 4.1.2). */
const SECRET_PARAMETERS: ReadonlySet<string> = new Set(["key", "code"]);
const JWT = /\beyJ[\w-]{6,}\.[\w-]+\.[\w-]*/g;
const MAX_NAME_CHARS = 200;
/** JSON as text within JSON, so many times. */
const MAX_TEXT_DEPTH = 3;

/** Whether the value under this name is a secret: `accessToken`, `X-Api-Key`, `client_secret`. */
export function isSecretName(name: string): boolean {
  if (name.length > MAX_NAME_CHARS) return true;
  if (SECRET_PAIRS.test(name)) return true;
  const words = name.replace(/([a-z0-9])([A-Z])/g, "$1-$2").toLowerCase();
  return words.split(/[^a-z0-9]+/).some((word) => SECRET_WORDS.has(word));
}

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
  if (name === "cookie") return value.replace(/([^;=\s]+)=[^;]*/g, `$1=${HIDDEN}`);
  if (name === "set-cookie") return value.replace(/^([^=;]*)=[^;]*/, `$1=${HIDDEN}`);
  if (name === "authorization" || name === "proxy-authorization") {
    const scheme = /^[A-Za-z][\w-]* /.exec(value)?.[0] ?? "";
    return `${scheme}${HIDDEN}`;
  }
  if (isSecretName(name)) return HIDDEN;
  return redactTarget(value);
}

/** A path or URL with the secrets in its query and fragment hidden, and credentials before a host. */
export function redactTarget(target: string): string {
  return target
    .replace(/([?&;#])([^=&;#\s]+)=([^&;#\s]*)/g, (all, before: string, name: string) =>
      isSecretParameter(name) ? `${before}${name}=${HIDDEN}` : all,
    )
    .replace(/(\b[a-z][a-z0-9+.-]*:\/\/)[^/?#@\s]+@/gi, `$1${HIDDEN}@`)
    .replace(JWT, HIDDEN);
}

/** The text of a body, by its type, with the secrets hidden that can be told from the rest by their names. */
export function redactBody(text: string, contentType: string): string {
  const type = contentType.toLowerCase();
  const named = /\bjson\b/.test(type)
    ? redactJson(text)
    : type.startsWith("application/x-www-form-urlencoded")
      ? redactForm(text)
      : type.startsWith("multipart/form-data")
        ? redactParts(text)
        : text;
  return named.replace(/\b(Bearer|Basic) +[\w.~+/=-]{8,}/g, `$1 ${HIDDEN}`).replace(JWT, HIDDEN);
}

/** Names and values of a query or form. */
export function redactPairs(text: string): readonly (readonly [name: string, value: string])[] {
  return [...new URLSearchParams(text)].map(([name, value]) => [
    name,
    isSecretParameter(name) ? HIDDEN : value.replace(JWT, HIDDEN),
  ]);
}

function isSecretParameter(name: string): boolean {
  let plain = name;
  try {
    plain = decodeURIComponent(name.replaceAll("+", " "));
  } catch {
    // What cannot be decoded is judged as it is.
  }
  return SECRET_PARAMETERS.has(plain.toLowerCase()) || isSecretName(plain);
}

function redactForm(text: string): string {
  return text.replace(/(^|&)([^=&]+)=([^&]*)/g, (all, before: string, name: string) =>
    isSecretParameter(name) ? `${before}${name}=${HIDDEN}` : all,
  );
}

function redactJson(text: string, depth = 0): string {
  let hidden = false;
  try {
    const value: unknown = JSON.parse(text, (name, inner: unknown) => {
      if (inner === null || typeof inner === "boolean") return inner;
      if (isSecretName(name)) {
        hidden = true;
        return HIDDEN;
      }
      if (typeof inner !== "string" || depth >= MAX_TEXT_DEPTH || !/^\s*[{[]/.test(inner)) return inner;
      // JSON as text within JSON: webhooks and echoes do that.
      const shown = redactJson(inner, depth + 1);
      hidden ||= shown !== inner;
      return shown;
    });
    return hidden ? JSON.stringify(value, undefined, 2) : text;
  } catch {
    return redactMembers(text);
  }
}

/** For JSON that is cut off, or several values behind each other: the value of each member with a telling name. */
function redactMembers(text: string): string {
  const member = /"((?:[^"\\]|\\.){1,200})"\s*:\s*/g;
  let shown = "";
  let from = 0;
  for (let found = member.exec(text); found !== null; found = member.exec(text)) {
    if (!isSecretName(found[1] ?? "")) continue;
    const end = valueEnd(text, member.lastIndex);
    shown += `${text.slice(from, member.lastIndex)}"${HIDDEN}"`;
    from = end;
    member.lastIndex = end;
  }
  return shown + text.slice(from);
}

/** Where the JSON value ends that begins here; the end of the text when it does not. */
function valueEnd(text: string, from: number): number {
  let depth = 0;
  for (let i = from; i < text.length; i += 1) {
    const char = text[i];
    if (char === '"') {
      i += 1;
      while (i < text.length && text[i] !== '"') i += text[i] === "\\" ? 2 : 1;
      if (depth === 0) return Math.min(i + 1, text.length);
    } else if (char === "{" || char === "[") depth += 1;
    else if (char === "}" || char === "]") {
      depth -= 1;
      if (depth <= 0) return depth < 0 ? i : i + 1;
    } else if (depth === 0 && (char === "," || char === "\n")) return i;
  }
  return text.length;
}

function redactParts(text: string): string {
  return text.replace(
    /(name="([^"]*)"[^\n]*\r?\n(?:[^\r\n]+\r?\n)*\r?\n)([\s\S]*?)(?=\r?\n--|$)/gi,
    (all, head: string, name: string) => (isSecretParameter(name) ? `${head}${HIDDEN}` : all),
  );
}
