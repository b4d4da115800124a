import { TunnelError } from "../../../core/errors.ts";
import type { Account, AccountStore, Actor, Zone } from "../port.ts";
import type { Database } from "./database.ts";
import { integer, type Row, text } from "./rows.ts";

export class SqliteAccounts implements AccountStore {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  own(): Account {
    const row = this.#db.one("SELECT * FROM accounts ORDER BY seq LIMIT 1");
    if (row === undefined) throw new TunnelError("store.failed", "The database is damaged: it has no account");
    return toAccount(row);
  }

  get(tag: string): Account | undefined {
    const row = this.#db.one("SELECT * FROM accounts WHERE tag = ?", tag);
    return row === undefined ? undefined : toAccount(row);
  }

  list(): readonly Account[] {
    return this.#db.many("SELECT * FROM accounts ORDER BY seq").map(toAccount);
  }

  add(account: Account, actor: Actor): void {
    const { tag, name, createdAtMs } = account;
    this.#db.write(`Cannot add account "${name}"`, (transaction) => {
      transaction.run("INSERT INTO accounts (tag, name, created_at_ms) VALUES (?, ?, ?)", tag, name, createdAtMs);
      transaction.audit(actor, "account.create", tag, { name });
    });
  }

  zones(accountTag: string): readonly Zone[] {
    return this.#db.many("SELECT * FROM zones WHERE account_tag = ? ORDER BY seq", accountTag).map(toZone);
  }

  zone(id: string): Zone | undefined {
    const row = this.#db.one("SELECT * FROM zones WHERE id = ?", id);
    return row === undefined ? undefined : toZone(row);
  }

  addZone(zone: Zone, actor: Actor): void {
    const { id, accountTag, name } = zone;
    this.#db.write(`Cannot add zone "${name}"`, (transaction) => {
      transaction.run("INSERT INTO zones (id, account_tag, name) VALUES (?, ?, ?)", id, accountTag, name);
      transaction.audit(actor, "zone.create", id, { name, accountTag });
    });
  }
}

function toAccount(row: Row): Account {
  return { tag: text(row, "tag"), name: text(row, "name"), createdAtMs: integer(row, "created_at_ms") };
}

function toZone(row: Row): Zone {
  return { id: text(row, "id"), accountTag: text(row, "account_tag"), name: text(row, "name") };
}
