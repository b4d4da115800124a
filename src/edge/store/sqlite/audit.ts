import type { Actor, AuditEntry, AuditStore, Found, Page } from "../port.ts";
import type { Database } from "./database.ts";
import { Conditions, integer, oneOf, optionalText, type Row, text } from "./rows.ts";

export class SqliteAudit implements AuditStore {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  add(actor: Actor, action: string, subject: string, details?: Readonly<Record<string, unknown>>): void {
    this.#db.write("Cannot write to the audit log", (transaction) =>
      transaction.audit(actor, action, subject, details),
    );
  }

  find(
    filter: { readonly subject?: string; readonly action?: string; readonly sinceMs?: number },
    page?: Page,
  ): Found<AuditEntry> {
    const conditions = new Conditions()
      .add("subject = ?", filter.subject)
      .add("action = ?", filter.action)
      .add("at_ms >= ?", filter.sinceMs);
    return this.#db.find("audit", conditions, "id DESC", page, toEntry);
  }
}

function toEntry(row: Row): AuditEntry {
  const name = optionalText(row, "actor_name");
  return {
    id: integer(row, "id"),
    atMs: integer(row, "at_ms"),
    actor: {
      kind: oneOf(row, "actor_kind", ["operator", "token", "system"]),
      id: text(row, "actor_id"),
      from: text(row, "actor_from"),
      ...(name === undefined ? {} : { name }),
    },
    action: text(row, "action"),
    subject: text(row, "subject"),
    details: text(row, "details"),
  };
}
