import { createHash } from "node:crypto";
import { TunnelError } from "../../../core/errors.ts";
import { type Actor, type ApiToken, TOKEN_SCOPES, type TokenStore } from "../port.ts";
import type { Database } from "./database.ts";
import { integer, optionalInteger, type Row, text } from "./rows.ts";

/** How exactly it is known when a token was last used, in ms: a write for each request would cost more than the request. */
const LAST_USED_STEP_MS = 60_000;

export class SqliteTokens implements TokenStore {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  add(token: ApiToken, secret: string, actor: Actor): void {
    const { id, accountTag, name, scopes, createdAtMs, expiresAtMs, lastUsedAtMs } = token;
    this.#db.write(`Cannot add API token "${name}"`, (transaction) => {
      transaction.run(
        `INSERT INTO tokens
         (id, account_tag, name, scopes, secret_sha256, created_at_ms, expires_at_ms, last_used_at_ms)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
        ...[id, accountTag, name, JSON.stringify(scopes), hash(secret)],
        ...[createdAtMs, expiresAtMs ?? null, lastUsedAtMs ?? null],
      );
      transaction.audit(actor, "token.create", id, { name, scopes, expiresAtMs });
    });
  }

  /** A hash is looked up instead of the secret: how long that takes says nothing about a secret. */
  find(secret: string, nowMs: number): ApiToken | undefined {
    const row = this.#db.one("SELECT * FROM tokens WHERE secret_sha256 = ?", hash(secret));
    if (row === undefined) return undefined;
    const token = toToken(row);
    if (token.expiresAtMs !== undefined && token.expiresAtMs <= nowMs) return undefined;
    const ageMs = nowMs - (token.lastUsedAtMs ?? Number.NEGATIVE_INFINITY);
    return ageMs >= LAST_USED_STEP_MS ? this.#use(token, nowMs) : token;
  }

  list(accountTag: string): readonly ApiToken[] {
    return this.#db.many("SELECT * FROM tokens WHERE account_tag = ? ORDER BY seq", accountTag).map(toToken);
  }

  remove(id: string, actor: Actor): void {
    this.#db.write(`Cannot remove API token "${id}"`, (transaction) => {
      if (transaction.run("DELETE FROM tokens WHERE id = ?", id) === 0) {
        throw new TunnelError("store.missing", `Cannot remove API token "${id}": there is none`);
      }
      transaction.audit(actor, "token.delete", id);
    });
  }

  #use(token: ApiToken, nowMs: number): ApiToken {
    try {
      this.#db.writeIfFree("Cannot note the use of an API token", (transaction) => {
        transaction.run("UPDATE tokens SET last_used_at_ms = ? WHERE id = ?", nowMs, token.id);
      });
    } catch {
      // Who may come in must not depend on room on the disk, nor on another process that writes.
      return token;
    }
    return { ...token, lastUsedAtMs: nowMs };
  }
}

function hash(secret: string): Uint8Array {
  return createHash("sha256").update(secret).digest();
}

function toToken(row: Row): ApiToken {
  const scopes: unknown = JSON.parse(text(row, "scopes"));
  return {
    id: text(row, "id"),
    accountTag: text(row, "account_tag"),
    name: text(row, "name"),
    scopes: TOKEN_SCOPES.filter((scope) => Array.isArray(scopes) && scopes.includes(scope)),
    createdAtMs: integer(row, "created_at_ms"),
    expiresAtMs: optionalInteger(row, "expires_at_ms"),
    lastUsedAtMs: optionalInteger(row, "last_used_at_ms"),
  };
}
