import { systemClock } from "../core/clock.ts";
import { parseDuration } from "../core/duration.ts";
import { TunnelError } from "../core/errors.ts";
import { printable } from "../core/printable.ts";
import { newApiToken } from "../edge/api-token.ts";
import { nameProblem, TokenName } from "../edge/names.ts";
import { TOKEN_SCOPES, type TokenScope } from "../edge/store/port.ts";
import { formatCreated } from "./active-connectors.ts";
import type { Context } from "./command.ts";
import { EDGE_TOKEN_CREATE_FLAGS, EDGE_TOKEN_FLAGS } from "./edge-flags.ts";
import { withEdgeState } from "./edge-state.ts";
import { positionals, renderTable, UsageError } from "./management.ts";
import { operator } from "./operator.ts";

/** `culvert edge token create NAME`: prints the secret, and nothing else, on standard output. */
export function create(context: Context): Promise<number> {
  return withEdgeState(context, "edge token create", EDGE_TOKEN_CREATE_FLAGS, { make: false }, ({ store, values }) => {
    const [name] = positionals(context, ["NAME"]);
    const wrong = nameProblem(TokenName, "token", name);
    if (wrong !== undefined) throw new UsageError(wrong);
    const given = values.list("scope");
    const unknown = given.filter((scope) => !TOKEN_SCOPES.some((known) => known === scope));
    if (unknown.length > 0)
      throw new UsageError(`There is no scope ${unknown.join(", ")}: take ${TOKEN_SCOPES.join(", ")}`);
    const scopes = given.length === 0 ? (["admin"] as const) : (given as readonly TokenScope[]);
    const nowMs = systemClock.wallMs();
    const lifetime = values.string("expires-in");
    const lifetimeMs =
      lifetime === undefined
        ? undefined
        : parseDuration(lifetime.replace(/^(\d+)d$/, (_, days) => `${Number(days) * 24}h`));
    if (lifetime !== undefined && (lifetimeMs === undefined || lifetimeMs <= 0)) {
      throw new UsageError(`--expires-in "${lifetime}" must be a time such as 12h or 90d`);
    }
    const { token, secret } = newApiToken({
      ...{ accountTag: store.accounts.own().tag, name, scopes, nowMs },
      expiresAtMs: lifetimeMs === undefined ? undefined : nowMs + lifetimeMs,
    });
    store.tokens.add(token, secret, operator());
    context.note(`Made API token ${token.id} (${scopes.join(", ")}); this is the only time it is shown`);
    context.print(secret);
  });
}

/** `culvert edge token list`. */
export function list(context: Context): Promise<number> {
  return withEdgeState(context, "edge token list", EDGE_TOKEN_FLAGS, { make: false }, ({ store, values }) => {
    const tokens = store.tokens.list(store.accounts.own().tag);
    const time = (ms: number | undefined): string => (ms === undefined ? "-" : formatCreated(ms));
    if (values.bool("json")) {
      const shown = tokens.map(({ id, name, scopes, createdAtMs, expiresAtMs, lastUsedAtMs }) => ({
        ...{ id, name, scopes, createdAt: formatCreated(createdAtMs) },
        ...{
          expiresAt: expiresAtMs && formatCreated(expiresAtMs),
          lastUsedAt: lastUsedAtMs && formatCreated(lastUsedAtMs),
        },
      }));
      context.print(JSON.stringify(shown));
      return;
    }
    const rows = tokens.map((token) => [
      ...[token.id, token.name, token.scopes.join(","), time(token.createdAtMs)],
      ...[time(token.expiresAtMs), time(token.lastUsedAtMs)],
    ]);
    for (const line of renderTable([["ID", "NAME", "SCOPES", "CREATED", "EXPIRES", "LAST USED"], ...rows]))
      context.print(line);
  });
}

/** `culvert edge token revoke ID`. */
export function revoke(context: Context): Promise<number> {
  return withEdgeState(context, "edge token revoke", EDGE_TOKEN_FLAGS, { make: false }, ({ store }) => {
    const [given] = positionals(context, ["ID or NAME"]);
    const own = store.tokens.list(store.accounts.own().tag).filter(({ id, name }) => id === given || name === given);
    const [token] = own;
    if (token === undefined)
      throw new TunnelError("store.missing", `There is no API token "${given}": see culvert edge token list`);
    if (own.length > 1) throw new UsageError(`Several tokens are called "${given}": give the id`);
    store.tokens.remove(token.id, operator());
    context.note(`Revoked API token ${token.id} (${printable(token.name)})`);
  });
}
