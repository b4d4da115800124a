import { TunnelError } from "../core/errors.ts";
import { headerValue, type RawHeaders } from "../wire/headers.ts";
import { type AppAddress, originOf } from "./address.ts";

/** Where Access sends those who have to log in (protocol: section 9). */
const LOGIN_PATH = "/cdn-cgi/access/login";

/** What a status says about the way to the service, and what to do. */
const HINTS: Readonly<Record<number, string>> = {
  400: "the service behind this hostname does not take a stream",
  401: "it wants credentials: give --service-token-id and --service-token-secret, or --header",
  403: "access is denied: check --service-token-id and --service-token-secret, and the policy of the application",
  404: "no tunnel serves this hostname or path",
  421: "this edge does not serve the hostname",
  429: "too many requests: try again later",
  500: "the edge failed",
  502: "the tunnel is up, but its service cannot be reached: see the connector's log",
  503: "the edge or the connector has too much to do",
  504: "the service did not answer in time",
  521: "the server is down",
  522: "the server does not answer",
  523: "the server cannot be reached",
  525: "the TLS handshake with the server failed",
  526: "the server's certificate is not valid",
  530: "the tunnel of this hostname is not connected: see that its connector runs",
};

/** Statuses that pass by themselves: the edge has just started, or the connector is coming back. */
const PASSING: ReadonlySet<number> = new Set([503, 530]);

/** True for the answer of Access that sends to its login page (protocol: section 9). */
export function isLoginRedirect(status: number, headers: RawHeaders): boolean {
  if (status !== 302) return false;
  const path = headerValue(headers, "location")?.replace(/^https?:\/\/[^/]*/i, "") ?? "";
  return path.startsWith(LOGIN_PATH);
}

/** The error for an answer other than 101, with the status and what to do about it. */
export function refusedHandshake(app: AppAddress, status: number, headers: RawHeaders): TunnelError {
  return new TunnelError("edge.refused", `${originOf(app)} answered ${status}: ${hint(status, headers)}`, {
    retry: PASSING.has(status) ? "same" : "never",
  });
}

/** The error where logging in is not possible or did not help. */
export function loginNeeded(app: AppAddress, why: string): TunnelError {
  const url = originOf(app);
  return new TunnelError(
    "edge.refused",
    `${url} wants a login: ${why}. Run "culvert access login ${url}", or give --service-token-id and --service-token-secret`,
  );
}

function hint(status: number, headers: RawHeaders): string {
  const known = HINTS[status];
  if (known !== undefined) return known;
  if (status >= 300 && status < 400) {
    const location = headerValue(headers, "location") ?? "";
    return `it redirects to ${JSON.stringify(location.slice(0, 200))}, which a stream cannot follow`;
  }
  if (status < 300) {
    return "a service of HTTP is behind this hostname: a stream needs tcp://, ssh://, rdp://, smb:// or ws:// there";
  }
  return status < 500 ? "the request is refused" : "the edge or the service failed";
}
