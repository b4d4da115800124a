import { randomBytes } from "node:crypto";
import { TunnelError } from "../core/errors.ts";
import type { ApiToken, TokenScope } from "./store/port.ts";

/** Says what it is, so that scanners for leaked secrets can find it. */
const PREFIX = "cvt_";
const SECRET_BYTES = 32;

/**
 * A new API token and its secret, which only its maker ever sees. `maker`: a token cannot make one that may do more than
 * itself, or for longer; throws `config.invalid` then.
 */
export function newApiToken(of: {
  readonly accountTag: string;
  readonly name: string;
  readonly scopes: readonly TokenScope[];
  readonly nowMs: number;
  readonly expiresAtMs: number | undefined;
  readonly maker?: ApiToken;
}): { readonly token: ApiToken; readonly secret: string } {
  const { maker, scopes } = of;
  const beyond = maker === undefined ? [] : scopesBeyond(maker, scopes);
  if (beyond.length > 0) {
    throw new TunnelError("config.invalid", `A token cannot give what it does not have: ${beyond.join(", ")}`);
  }
  if (maker?.expiresAtMs !== undefined && (of.expiresAtMs ?? Number.POSITIVE_INFINITY) > maker.expiresAtMs) {
    throw new TunnelError("config.invalid", "A token cannot make one that is good for longer than itself");
  }
  if (of.expiresAtMs !== undefined && of.expiresAtMs <= of.nowMs) {
    throw new TunnelError("config.invalid", "The token would be expired from the start");
  }
  const token: ApiToken = {
    ...{ id: crypto.randomUUID(), accountTag: of.accountTag, name: of.name, scopes: [...new Set(scopes)] },
    ...{ createdAtMs: of.nowMs, expiresAtMs: of.expiresAtMs, lastUsedAtMs: undefined },
  };
  return { token, secret: `${PREFIX}${randomBytes(SECRET_BYTES).toString("base64url")}` };
}

/** Those of `scopes` that a token does not have itself. */
export function scopesBeyond(token: ApiToken, scopes: readonly TokenScope[]): readonly TokenScope[] {
  return token.scopes.includes("admin") ? [] : scopes.filter((scope) => !token.scopes.includes(scope));
}
