import { closeSync, existsSync, openSync, rmSync, statSync } from "node:fs";
import { DatabaseSync, type StatementSync } from "node:sqlite";
import type { Clock } from "../../../core/clock.ts";
import { TunnelError } from "../../../core/errors.ts";
import { placeFile } from "../place-file.ts";
import { type Actor, type Change, type Found, KEPT_AUDIT_ENTRIES, KEPT_SYSTEM_ENTRIES, type Page } from "../port.ts";
import { migrate, rollBack } from "./migrations.ts";
import { type Conditions, integer, type Row, text, type Value } from "./rows.ts";
import { toStoreError } from "./sqlite-errors.ts";

/** How long a writer waits for another process unless it is told otherwise, in ms. All of the process waits with it. */
const BUSY_TIMEOUT_MS = 5_000;
/** The log of recent writes is cut back to this when it was longer, in bytes. */
const KEPT_LOG_BYTES = 16 * 1024 * 1024;

export interface DatabaseOptions {
  /** How long a writer waits for another process, in ms; opening the file may wait longer. @default 5 s */
  readonly busyTimeoutMs?: number | undefined;
}

/** A change under way: all of it happens at its end, or nothing. */
export interface Transaction {
  /** Changes rows; says how many. */
  run(sql: string, ...values: readonly Value[]): number;
  /** Puts an entry into the audit log. `details`: without secrets. */
  audit(actor: Actor, action: string, subject: string, details?: Readonly<Record<string, unknown>>): void;
  /** What watchers are told once it is written. */
  changed(change: Change): void;
  /** Runs when it is written, before watchers are told. Must not throw. */
  onceWritten(work: () => void): void;
}

/** One SQLite file or `:memory:`: statements kept, transactions, watchers, errors as TunnelErrors. */
export class Database {
  readonly clock: Clock;
  readonly #db: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();
  readonly #watchers = new Set<(change: Change) => void>();
  readonly #untold: Change[] = [];
  readonly #onForeignWrite: (() => void)[] = [];
  readonly #busyTimeoutMs: number;
  #telling = false;
  #version: number;

  /** Opens the file, making it when it is missing, and brings its schema up to date. */
  constructor(path: string, clock: Clock, { busyTimeoutMs = BUSY_TIMEOUT_MS }: DatabaseOptions = {}) {
    this.clock = clock;
    this.#busyTimeoutMs = busyTimeoutMs;
    const inFile = path !== ":memory:";
    if (inFile && !existsSync(path)) createDatabase(path, clock.wallMs());
    // A clean end leaves no log. One that is there belongs to a crash, or to a process at work: worth a look then, while
    // a file that was closed well is only read as it is needed.
    const unclean = inFile && (statSync(`${path}-wal`, { throwIfNoEntry: false })?.size ?? 0) > 0;
    this.#db = new DatabaseSync(path);
    try {
      this.#db.exec(`PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS}; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
        PRAGMA journal_size_limit = ${KEPT_LOG_BYTES}`);
      if (inFile) this.#logAhead();
      if (unclean) this.#refuseDamage();
      migrate(this.#db, clock.wallMs());
      this.#version = this.#readVersion();
      this.#waitAtMost(busyTimeoutMs);
    } catch (error) {
      this.#db.close();
      throw error;
    }
  }

  /** The first row. Throws `store.failed`. */
  one(sql: string, ...values: readonly Value[]): Row | undefined {
    return this.#guard("Cannot read the database", false, () => this.#statement(sql).get(...values) as Row | undefined);
  }

  /** Every row. Throws `store.failed`. */
  many(sql: string, ...values: readonly Value[]): Row[] {
    return this.#guard("Cannot read the database", false, () => this.#statement(sql).all(...values) as Row[]);
  }

  /** Rows of a table that fit, decoded, one page of them. */
  find<T>(
    table: string,
    conditions: Conditions,
    order: string,
    page: Page | undefined,
    decode: (row: Row) => T,
  ): Found<T> {
    const { where, values } = conditions;
    if (page === undefined) {
      const items = this.many(`SELECT * FROM ${table}${where} ORDER BY ${order}`, ...values).map(decode);
      return { items, total: items.length };
    }
    const counted = this.one(`SELECT count(*) AS total FROM ${table}${where}`, ...values);
    const rows = this.many(
      `SELECT * FROM ${table}${where} ORDER BY ${order} LIMIT ? OFFSET ?`,
      ...values,
      Math.max(0, page.limit),
      Math.max(0, page.offset),
    );
    return { items: rows.map(decode), total: counted === undefined ? 0 : integer(counted, "total") };
  }

  /**
   * Writes all or nothing; on disk when it returns. `doing` begins the message of an error: `store.conflict`,
   * `store.missing`, `store.full`, `store.failed`.
   */
  write<T>(doing: string, work: (transaction: Transaction) => T): T {
    const changes: Change[] = [];
    const afterwards: (() => void)[] = [];
    const result = this.#guard(doing, true, () => {
      this.#statement("BEGIN IMMEDIATE").run();
      try {
        const done = work({
          run: (sql, ...values) => Number(this.#statement(sql).run(...values).changes),
          audit: (...entry) => this.#audit(...entry),
          changed: (change) => void changes.push(change),
          onceWritten: (each) => void afterwards.push(each),
        });
        this.#statement("COMMIT").run();
        return done;
      } catch (error) {
        rollBack(this.#db);
        throw error;
      }
    });
    for (const each of afterwards) each();
    this.#tell(changes);
    return result;
  }

  /** {@link write} that fails at once while another process writes, for what is not worth a wait. */
  writeIfFree<T>(doing: string, work: (transaction: Transaction) => T): T {
    this.#waitAtMost(0);
    try {
      return this.write(doing, work);
    } finally {
      this.#waitAtMost(this.#busyTimeoutMs);
    }
  }

  watch(listener: (change: Change) => void): () => void {
    const own = (change: Change): void => listener(change);
    this.#watchers.add(own);
    return () => void this.#watchers.delete(own);
  }

  /** Called before watchers hear that another process wrote. */
  onForeignWrite(work: () => void): void {
    this.#onForeignWrite.push(work);
  }

  /** Looks whether another process wrote since the last time: a look into shared memory. */
  poll(): void {
    const version = this.#guard("Cannot read the database", false, () => this.#readVersion());
    if (version === this.#version) return;
    for (const each of this.#onForeignWrite) each();
    // Last, so that what failed is done again.
    this.#version = version;
    this.#tell([{ kind: "unknown" }]);
  }

  /** What is wrong with the file itself. */
  damages(): readonly string[] {
    return this.#guard("Cannot check the database", false, () => {
      const pages = (this.#db.prepare("PRAGMA integrity_check").all() as Row[]).map((row) =>
        oneLine(text(row, "integrity_check")),
      );
      const keys = this.#db.prepare("PRAGMA foreign_key_check").all() as Row[];
      return [
        ...pages.filter((line) => line !== "ok"),
        ...keys.map((row) => `a row of "${text(row, "table")}" refers to a missing one of "${text(row, "parent")}"`),
      ];
    });
  }

  /** Writes all of it into an empty file. */
  copyTo(path: string): void {
    this.#statement("VACUUM INTO ?").run(path);
  }

  close(): void {
    this.#watchers.clear();
    this.#statements.clear();
    this.#db.close();
  }

  #audit(actor: Actor, action: string, subject: string, details: Readonly<Record<string, unknown>> = {}): void {
    const { lastInsertRowid } = this.#statement(
      `INSERT INTO audit (at_ms, actor_kind, actor_id, actor_name, actor_from, action, subject, details)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
    ).run(
      ...[this.clock.wallMs(), actor.kind, actor.id, actor.name ?? null, actor.from],
      ...[action, subject, JSON.stringify(details)],
    );
    // There are never more entries than the highest id, and counting reads the whole log.
    if (Number(lastInsertRowid) > KEPT_AUDIT_ENTRIES) this.#trimAudit();
  }

  /** What strangers make the edge do, such as quick tunnels, must not push out what its owners did. */
  #trimAudit(): void {
    const counted = this.#statement("SELECT count(*) AS total FROM audit").get() as Row | undefined;
    for (let excess = integer(counted ?? {}, "total") - KEPT_AUDIT_ENTRIES; excess > 0; excess -= 1) {
      this.#statement(
        `DELETE FROM audit WHERE id = CASE
           WHEN EXISTS (SELECT id FROM audit WHERE actor_kind = 'system' ORDER BY id LIMIT 1 OFFSET ?)
           THEN (SELECT min(id) FROM audit WHERE actor_kind = 'system')
           ELSE (SELECT min(id) FROM audit) END`,
      ).run(KEPT_SYSTEM_ENTRIES);
    }
  }

  /** A listener may write, too: what that changes is told after this. */
  #tell(changes: readonly Change[]): void {
    this.#untold.push(...changes);
    if (this.#telling) return;
    this.#telling = true;
    try {
      for (let change = this.#untold.shift(); change !== undefined; change = this.#untold.shift()) {
        for (const watcher of [...this.#watchers]) watcher(change);
      }
    } finally {
      this.#telling = false;
    }
  }

  #waitAtMost(ms: number): void {
    this.#db.exec(`PRAGMA busy_timeout = ${ms}`);
  }

  #statement(sql: string): StatementSync {
    const known = this.#statements.get(sql);
    if (known !== undefined) return known;
    const statement = this.#db.prepare(sql);
    this.#statements.set(sql, statement);
    return statement;
  }

  #readVersion(): number {
    return integer((this.#statement("PRAGMA data_version").get() as Row | undefined) ?? {}, "data_version");
  }

  /** A copy that was put in place, such as a restored backup, may not be in this mode. */
  #logAhead(): void {
    const mode = this.#db.prepare("PRAGMA journal_mode").get() as Row | undefined;
    if (mode !== undefined && mode["journal_mode"] !== "wal") this.#db.exec("PRAGMA journal_mode = WAL");
  }

  #refuseDamage(): void {
    const [first] = this.#db.prepare("PRAGMA quick_check(1)").all() as Row[];
    const found = first === undefined ? "no answer" : oneLine(text(first, "quick_check"));
    if (found !== "ok") {
      throw new TunnelError("store.failed", `The database is damaged (${found}): put a backup in its place`);
    }
  }

  #guard<T>(doing: string, writing: boolean, work: () => T): T {
    try {
      return work();
    } catch (error) {
      throw toStoreError(error, doing, writing);
    }
  }
}

function oneLine(message: string): string {
  return message.replaceAll(/\s*\n\s*/g, " ");
}

/**
 * Makes the database aside and then gives it its name. The switch to write-ahead logging, which the file remembers,
 * fails at once when another process is at it, whatever the busy timeout; on a file of one's own it cannot.
 */
function createDatabase(path: string, nowMs: number): void {
  const temporary = `${path}.${process.pid}.tmp`;
  const remove = (): void => {
    for (const suffix of ["", "-wal", "-shm"]) rmSync(`${temporary}${suffix}`, { force: true });
  };
  remove();
  try {
    // SQLite gives its other files the permissions of this one.
    closeSync(openSync(temporary, "wx", 0o600));
    const db = new DatabaseSync(temporary);
    try {
      db.exec("PRAGMA journal_mode = WAL");
      migrate(db, nowMs);
    } finally {
      db.close();
    }
    placeFile(temporary, path);
  } finally {
    remove();
  }
}
