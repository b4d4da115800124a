import { TunnelError } from "../../core/errors.ts";
import { headerValue } from "../../wire/headers.ts";
import { type AppAddress, originOf } from "../address.ts";
import { type Asking, ask } from "./ask.ts";
import { isSignedBy, type Jwt, type KeySet, parseJwt, parseKeySet } from "./jwt.ts";
import type { AppInfo, TokenStore } from "./token-store.ts";

const AUTH_DOMAIN = /^[a-z0-9]([a-z0-9.-]{0,240}[a-z0-9])?\.cloudflareaccess\.com$/;
/** Age of what an application says about itself, and how far clocks may be apart, in seconds. */
const MAX_AGE_S = 24 * 3_600;
const MAX_SKEW_S = 5 * 60;
/** How long keys are kept, and how long they are not asked for again, in ms. */
const KEYS_TTL_MS = 24 * 3_600_000;
const KEYS_MIN_AGE_MS = 60_000;
const INFO_TIMEOUT_MS = 7_000;
const KEYS_TIMEOUT_MS = 10_000;

/**
 * Asks an application who it is (protocol: section 9). The answer is signed by the organisation, so that a server in
 * between cannot pose as another application and collect its tokens. Rejects with `edge.refused`, or as `exchange`.
 */
export async function fetchAppInfo(app: AppAddress, asking: Asking, store: TokenStore): Promise<AppInfo> {
  const answer = await ask(asking, {
    app,
    method: "HEAD",
    headers: ["cf-access-metadata-request", "true"],
    wantBody: false,
    timeoutMs: INFO_TIMEOUT_MS,
  });
  const text = headerValue(answer.headers, "cf-access-metadata");
  if (text === undefined || text === "") {
    throw new TunnelError(
      "edge.refused",
      `${originOf(app)} is not an application behind Access (status ${answer.status})`,
    );
  }
  const token = parseJwt(text.trim());
  const authDomain = String(token?.claims["auth_domain"] ?? "").toLowerCase();
  if (token === undefined || !AUTH_DOMAIN.test(authDomain))
    throw notBelieved(app, "it names no organisation of Access");
  if (!(await isGenuine(token, authDomain, asking, store))) throw notBelieved(app, "the signature is not valid");
  return checkClaims(token, app, authDomain, asking.clock.wallMs());
}

function checkClaims({ claims }: Jwt, app: AppAddress, authDomain: string, wallMs: number): AppInfo {
  const { hostname, type, aud, app_hostname: appHostname, iat } = claims;
  if (typeof hostname !== "string" || hostname.toLowerCase() !== app.host.toLowerCase()) {
    throw notBelieved(app, "it is about another hostname");
  }
  if (type !== "match") throw notBelieved(app, "no application matches the hostname");
  if (typeof aud !== "string" || aud === "") throw notBelieved(app, "it has no audience");
  const nowS = wallMs / 1_000;
  if (typeof iat !== "number" || iat < nowS - MAX_AGE_S || iat > nowS + MAX_SKEW_S) {
    throw notBelieved(app, "it is not of today; see that the clock of this machine is right");
  }
  return {
    authDomain,
    audience: aud,
    hostname: typeof appHostname === "string" && appHostname !== "" ? appHostname : hostname,
  };
}

/** Keys come from the store for a day; unknown signatures ask anew, since keys change, but not more than once a minute. */
async function isGenuine(token: Jwt, authDomain: string, asking: Asking, store: TokenStore): Promise<boolean> {
  const kept = store.readKeys(authDomain);
  const ageMs = kept === undefined ? Number.POSITIVE_INFINITY : asking.clock.wallMs() - kept.writtenWallMs;
  if (kept !== undefined && ageMs <= KEYS_TTL_MS) {
    if (isSignedBy(token, kept.keys)) return true;
    if (ageMs < KEYS_MIN_AGE_MS) return false;
  }
  const keys = await fetchKeys(authDomain, asking);
  store.writeKeys(authDomain, keys);
  return isSignedBy(token, keys);
}

async function fetchKeys(authDomain: string, asking: Asking): Promise<KeySet> {
  const target = "/cdn-cgi/access/certs";
  const answer = await ask(asking, {
    app: { secure: true, host: authDomain, port: 443, authority: authDomain, target },
    method: "GET",
    headers: [],
    wantBody: true,
    timeoutMs: KEYS_TIMEOUT_MS,
  });
  const keys = answer.status === 200 ? parseKeySet(new TextDecoder().decode(answer.body)) : undefined;
  if (keys !== undefined) return keys;
  throw new TunnelError("edge.refused", `https://${authDomain}${target} has no keys (status ${answer.status})`);
}

function notBelieved(app: AppAddress, why: string): TunnelError {
  return new TunnelError("edge.refused", `What ${originOf(app)} says about its login is not to be believed: ${why}`);
}
