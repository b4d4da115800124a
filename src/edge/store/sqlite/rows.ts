import type { SQLInputValue } from "node:sqlite";
import { TunnelError } from "../../../core/errors.ts";
import { parseTunnelId, type TunnelId } from "../../../core/ids.ts";

export type Value = SQLInputValue;
export type Row = Readonly<Record<string, unknown>>;

export function text(row: Row, column: string): string {
  return String(row[column]);
}

export function integer(row: Row, column: string): number {
  return Number(row[column]);
}

export function flag(row: Row, column: string): boolean {
  return integer(row, column) === 1;
}

export function optionalText(row: Row, column: string): string | undefined {
  const value = row[column];
  return typeof value === "string" ? value : undefined;
}

export function optionalInteger(row: Row, column: string): number | undefined {
  const value = row[column];
  return typeof value === "number" ? value : undefined;
}

/** Throws `store.failed` for text that cannot come from this program. */
export function tunnelIdIn(row: Row, column: string): TunnelId {
  const id = parseTunnelId(text(row, column));
  if (id === undefined)
    throw new TunnelError("store.failed", `The database is damaged: "${column}" holds no tunnel id`);
  return id;
}

/** One of a closed set of texts. Throws `store.failed` for any other. */
export function oneOf<T extends string>(row: Row, column: string, known: readonly T[]): T {
  const value = text(row, column);
  const found = known.find((each) => each === value);
  if (found === undefined) {
    throw new TunnelError("store.failed", `The database is damaged: "${column}" holds an unknown value`);
  }
  return found;
}

/** Conditions of a query whose parts are there or not: an undefined value leaves its condition out. */
export class Conditions {
  readonly #sql: string[] = [];
  readonly values: Value[] = [];

  /** `sql` holds one `?` for each value; the same value goes into all. */
  add(sql: string, value: Value | undefined): this {
    if (value === undefined) return this;
    this.#sql.push(`(${sql})`);
    for (let at = sql.indexOf("?"); at >= 0; at = sql.indexOf("?", at + 1)) this.values.push(value);
    return this;
  }

  /** Whether a row is marked deleted. */
  deleted(deleted: boolean | undefined): this {
    return this.add("(deleted_at_ms IS NOT NULL) = ?", deleted === undefined ? undefined : Number(deleted));
  }

  /** Made by this time and not deleted before it. */
  existedAt(ms: number | undefined): this {
    return this.add("created_at_ms <= ? AND (deleted_at_ms IS NULL OR deleted_at_ms > ?)", ms);
  }

  get where(): string {
    return this.#sql.length === 0 ? "" : ` WHERE ${this.#sql.join(" AND ")}`;
  }
}
