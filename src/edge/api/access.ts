import type { Actor, ApiToken, Store, TokenScope } from "../store/port.ts";
import { CODE, forbidden, Problem } from "./problem.ts";

/** Longest text that is looked at as a token. */
const MAX_TOKEN_CHARS = 512;

/** The token of `Authorization: Bearer …`. Throws a Problem of 401 when there is none, or none that is good. */
export function authenticate(store: Store, authorization: string | undefined, nowMs: number): ApiToken {
  const secret = /^Bearer +(\S+)$/i.exec(authorization ?? "")?.[1];
  if (secret === undefined || secret.length > MAX_TOKEN_CHARS) {
    throw unauthorized("send an API token as Authorization: Bearer TOKEN");
  }
  const token = store.tokens.find(secret, nowMs);
  if (token === undefined) throw unauthorized("the token is unknown, revoked or expired");
  return token;
}

function unauthorized(why: string): Problem {
  return new Problem(401, CODE.unauthorized, `Authentication error: ${why}`, { "WWW-Authenticate": "Bearer" });
}

/** Whoever has a token, for the audit log. */
export function tokenActor({ id, name }: ApiToken, ip: string): Actor {
  return { kind: "token", id, name, from: ip };
}

/** Throws a Problem of 403 unless the token may do this. */
export function authorize(token: ApiToken, scope: TokenScope | undefined): void {
  if (scope === undefined || allows(token.scopes, scope)) return;
  throw forbidden(`The token "${token.name}" lacks the scope ${scope}`);
}

/** Whether these scopes include another one: who may write may also read. */
export function allows(scopes: readonly TokenScope[], wanted: TokenScope): boolean {
  return (
    scopes.includes("admin") ||
    scopes.includes(wanted) ||
    scopes.includes(wanted.replace(":read", ":write") as TokenScope)
  );
}
