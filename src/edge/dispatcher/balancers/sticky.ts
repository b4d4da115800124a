import { createHmac } from "node:crypto";
import type { TunnelId } from "../../../core/ids.ts";
import { headerValues, type RawHeaders } from "../../../wire/headers.ts";

export const COOKIE = "__culvert_lb";
/** 132 bits, in base64url. */
const NAME_CHARS = 22;

/** What a cookie calls a tunnel: the same after a restart, not its id, and not to be guessed without the key. */
export function cookieName(key: Uint8Array, balancerId: string, tunnelId: TunnelId): string {
  const mac = createHmac("sha256", key).update(`cookie ${balancerId} ${tunnelId}`).digest("base64url");
  return mac.slice(0, NAME_CHARS);
}

/** The value of the visitor's cookie; undefined = there is none. */
export function readCookie(headers: RawHeaders): string | undefined {
  for (const value of headerValues(headers, "cookie")) {
    for (const pair of value.split(";")) {
      const [name = "", text] = pair.split("=", 2);
      if (name.trim() === COOKIE) return text?.trim();
    }
  }
  return undefined;
}

/** For the session, out of reach of scripts. */
export function setCookie(value: string, secure: boolean): RawHeaders {
  return ["Set-Cookie", `${COOKIE}=${value}; Path=/; HttpOnly; SameSite=Lax${secure ? "; Secure" : ""}`];
}
