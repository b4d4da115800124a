import { headerValue, headerValues, type RawHeaders } from "../../wire/headers.ts";
import { type AppAddress, originOf, parseAppAddress } from "../address.ts";
import { type Asking, ask } from "./ask.ts";
import { parseJwt } from "./jwt.ts";
import type { AppInfo } from "./token-store.ts";

const MAX_REDIRECTS = 10;
const TIMEOUT_MS = 7_000;
const LOGIN_PATH = "/cdn-cgi/access/login";
const AUTHORIZED_PATH = "/cdn-cgi/access/authorized";
const TOKEN_COOKIE = "CF_Authorization";
const SESSION_COOKIE = "CF_AppSession";

/**
 * Gets an application's token with the organisation's, by the redirects a browser would follow (protocol: section 9);
 * undefined when that does not work. The organisation's token goes to its own login and nowhere else.
 */
export async function exchangeOrgToken(
  app: AppAddress,
  info: AppInfo,
  orgToken: string,
  asking: Asking,
): Promise<string | undefined> {
  let at = app;
  let session: string | undefined;
  for (let hop = 0; hop < MAX_REDIRECTS; hop += 1) {
    const cookies: string[] = [];
    if (at.host === info.authDomain && at.target.startsWith(LOGIN_PATH)) cookies.push(`${TOKEN_COOKIE}=${orgToken}`);
    const authorizing = at.authority === app.authority && at.target.startsWith(AUTHORIZED_PATH);
    if (authorizing && session !== undefined) cookies.push(`${SESSION_COOKIE}=${session}`);
    const headers = cookies.length === 0 ? [] : ["Cookie", cookies.join("; ")];
    const answer = await ask(asking, { app: at, method: "HEAD", headers, wantBody: false, timeoutMs: TIMEOUT_MS });
    if (authorizing) return cookie(answer.headers, TOKEN_COOKIE, isToken);
    session = cookie(answer.headers, SESSION_COOKIE, () => true) ?? session;
    const location = headerValue(answer.headers, "location");
    const next = location === undefined ? undefined : follow(at, location);
    if (answer.status < 300 || answer.status >= 400 || next === undefined) return undefined;
    at = next;
  }
  return undefined;
}

/** Where a redirect leads; never from TLS to clear text. */
function follow(from: AppAddress, location: string): AppAddress | undefined {
  const url = URL.parse(location, originOf(from) + from.target);
  if (url === null) return undefined;
  const parsed = parseAppAddress(url.href);
  return parsed.ok && (parsed.value.secure || !from.secure) ? parsed.value : undefined;
}

function isToken(value: string): boolean {
  return parseJwt(value) !== undefined;
}

function cookie(headers: RawHeaders, name: string, isFine: (value: string) => boolean): string | undefined {
  return headerValues(headers, "set-cookie")
    .map((text) => text.split(";", 1)[0] ?? "")
    .filter((pair) => pair.startsWith(`${name}=`))
    .map((pair) => pair.slice(name.length + 1))
    .find((value) => /^[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]+$/.test(value) && isFine(value));
}
