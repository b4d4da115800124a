import { createHash } from "node:crypto";
import { headerValue, headerValues, type RawHeaders } from "../../wire/headers.ts";

/** What a cookie calls a backend: the same after a restart and on every replica, and not its address. */
export function backendId(label: string): string {
  return createHash("sha256").update(label).digest("hex").slice(0, 16);
}

/** The value of a visitor's cookie; undefined = there is none. */
export function readCookie(headers: RawHeaders, name: string): string | undefined {
  for (const value of headerValues(headers, "cookie")) {
    for (const pair of value.split(";")) {
      const equals = pair.indexOf("=");
      if (equals > 0 && pair.slice(0, equals).trim() === name) return pair.slice(equals + 1).trim();
    }
  }
  return undefined;
}

/** Set-Cookie for a visitor who asked with these fields: for the session, out of reach of scripts. */
export function stickyCookie(name: string, id: string, requestHeaders: RawHeaders): string {
  const secure = headerValue(requestHeaders, "x-forwarded-proto") === "https" ? "; Secure" : "";
  return `${name}=${id}; Path=/; HttpOnly; SameSite=Lax${secure}`;
}
