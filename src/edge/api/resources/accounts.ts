import { z } from "zod";
import { newApiToken, scopesBeyond } from "../../api-token.ts";
import { TokenName } from "../../names.ts";
import { type ApiToken, TOKEN_SCOPES } from "../../store/port.ts";
import type { ApiDeps } from "../deps.ts";
import { type AnyEndpoint, endpoint, formatTime, PAGING, paged, pageFrom, pageOf, Time } from "../endpoint.ts";
import { forbidden, notFound } from "../problem.ts";

/** The account, its API tokens, and what was changed in it by whom. */

const Token = z.object({
  id: z.string(),
  name: z.string(),
  scopes: z.array(z.enum(TOKEN_SCOPES)),
  status: z.enum(["active", "expired"]),
  issued_on: z.string(),
  expires_on: z.string().nullable(),
  last_used_on: z.string().nullable(),
});

const TokenBody = z.object({
  name: TokenName,
  scopes: z.array(z.enum(TOKEN_SCOPES)).min(1),
  expires_on: Time.optional(),
});

export function accountEndpoints(deps: ApiDeps): readonly AnyEndpoint[] {
  const { store, clock } = deps;
  const show = (token: ApiToken): z.infer<typeof Token> => showToken(token, clock.wallMs());
  return [
    endpoint({
      method: "GET",
      path: "/accounts",
      scope: undefined,
      summary: "The token's account",
      query: z.object(PAGING),
      result: z.array(
        z.object({ id: z.string(), name: z.string(), type: z.literal("standard"), created_on: z.string() }),
      ),
      handle: ({ account, query }) => {
        const { tag, name, createdAtMs } = account;
        return pageFrom(
          [{ id: tag, name, type: "standard" as const, created_on: new Date(createdAtMs).toISOString() }],
          query,
        );
      },
    }),
    endpoint({
      method: "GET",
      path: "/user/tokens/verify",
      scope: undefined,
      summary: "Whether the token is good",
      result: z.object({ id: z.string(), status: z.enum(["active", "expired"]), expires_on: z.string().nullable() }),
      handle: ({ token }) => {
        const { id, status, expires_on } = show(token);
        return { result: { id, status, expires_on } };
      },
    }),
    endpoint({
      method: "GET",
      path: "/accounts/{account_id}/tokens",
      scope: "tokens:write",
      summary: "List the caller's API token and those that may do no more than it",
      query: z.object(PAGING),
      result: z.array(Token),
      handle: ({ account, query, token: own }) => {
        const seen = store.tokens.list(account.tag).filter((token) => reaches(own, token));
        return pageFrom(seen.map(show), query);
      },
    }),
    endpoint({
      method: "POST",
      path: "/accounts/{account_id}/tokens",
      scope: "tokens:write",
      summary: "Make an API token; its secret is shown this once",
      body: TokenBody,
      result: Token.extend({ value: z.string() }),
      handle: ({ account, body, actor, token: own }) => {
        const { token, secret } = newApiToken({
          ...{ accountTag: account.tag, name: body.name, scopes: body.scopes },
          ...{ nowMs: clock.wallMs(), expiresAtMs: body.expires_on, maker: own },
        });
        store.tokens.add(token, secret, actor);
        return { result: { ...show(token), value: secret } };
      },
    }),
    endpoint({
      method: "DELETE",
      path: "/accounts/{account_id}/tokens/{token_id}",
      scope: "tokens:write",
      summary: "Revoke the caller's API token, or one that may do no more than it",
      result: z.object({ id: z.string() }),
      handle: ({ account, params, actor, token: own }) => {
        const id = params["token_id"] ?? "";
        const known = store.tokens.list(account.tag).find((token) => token.id === id);
        if (known === undefined || !reaches(own, known)) throw notFound("Token");
        store.tokens.remove(id, actor);
        return { result: { id } };
      },
    }),
    endpoint({
      method: "GET",
      path: "/accounts/{account_id}/audit_logs",
      scope: "audit:read",
      summary: "What was changed, by whom and from where, newest first",
      query: z.object({
        ...PAGING,
        subject: z.string().optional(),
        action: z.string().optional(),
        since: Time.optional(),
      }),
      result: z.array(
        z.object({
          id: z.string(),
          when: z.string(),
          actor: z.object({
            type: z.enum(["operator", "token", "system"]),
            id: z.string(),
            name: z.string(),
            ip: z.string(),
          }),
          action: z.string(),
          subject: z.string(),
          details: z.record(z.string(), z.unknown()),
        }),
      ),
      handle: ({ account, query }) => {
        // The log is the edge's: its entries name no account.
        if (account.tag !== store.accounts.own().tag) throw forbidden("The audit log is for the edge's own account");
        const { items, total } = store.audit.find(
          {
            ...(query.subject === undefined ? {} : { subject: query.subject }),
            ...(query.action === undefined ? {} : { action: query.action }),
            ...(query.since === undefined ? {} : { sinceMs: query.since }),
          },
          pageOf(query),
        );
        const shown = items.map(({ id, atMs, actor, action, subject, details }) => ({
          id: String(id),
          when: new Date(atMs).toISOString(),
          actor: { type: actor.kind, id: actor.id, name: actor.name ?? actor.id, ip: actor.from },
          action,
          subject,
          details: z.record(z.string(), z.unknown()).catch({}).parse(JSON.parse(details)),
        }));
        return paged(shown, total, query);
      },
    }),
  ];
}

/** Whether a token has to do with another one: nobody looks up, and everybody knows oneself. */
function reaches(own: ApiToken, other: ApiToken): boolean {
  return own.id === other.id || scopesBeyond(own, other.scopes).length === 0;
}

function showToken(token: ApiToken, nowMs: number): z.infer<typeof Token> {
  return {
    id: token.id,
    name: token.name,
    scopes: [...token.scopes],
    status: token.expiresAtMs !== undefined && token.expiresAtMs <= nowMs ? "expired" : "active",
    issued_on: new Date(token.createdAtMs).toISOString(),
    expires_on: formatTime(token.expiresAtMs),
    last_used_on: formatTime(token.lastUsedAtMs),
  };
}
