import { closeSync, existsSync, openSync, rmSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { type Clock, systemClock } from "../../core/clock.ts";
import { describe, TunnelError } from "../../core/errors.ts";
import { parseTunnelId, type TunnelId } from "../../core/ids.ts";
import { placeFile } from "./place-file.ts";
import type { Store, StoredTunnel } from "./port.ts";
import { seal, unseal } from "./seal.ts";

/** How long a cached route may hide a change made by another process, in ms. A miss always looks again. */
const ROUTE_STALENESS_MS = 100;

/** Each entry brings the schema from its index to the next version; entries are never changed, only added. */
const MIGRATIONS = [
  `CREATE TABLE tunnels (
     id TEXT PRIMARY KEY,
     name TEXT NOT NULL UNIQUE,
     account_tag TEXT NOT NULL,
     sealed_secret BLOB NOT NULL,
     created_at_ms INTEGER NOT NULL
   ) STRICT;
   CREATE TABLE hostnames (
     hostname TEXT PRIMARY KEY,
     tunnel_id TEXT NOT NULL REFERENCES tunnels (id) ON DELETE CASCADE
   ) STRICT, WITHOUT ROWID;`,
] as const;

type Row = Record<string, unknown>;

/** Opens the database in this file (`:memory:` for none), bringing its schema up to date. */
export function openSqliteStore(path: string, sealingKey: Uint8Array, clock: Clock = systemClock): Store {
  return guard(`Cannot open database "${path}"`, () => new SqliteStore(path, sealingKey, clock));
}

/** The edge's embedded store. Other processes may write the same file; their changes show at once. */
class SqliteStore implements Store {
  readonly #db: DatabaseSync;
  readonly #sealingKey: Uint8Array;
  readonly #clock: Clock;
  readonly #dataVersion;
  #routes = new Map<string, TunnelId>();
  #routesVersion: unknown;
  #routesCheckedAtMs = Number.NEGATIVE_INFINITY;

  constructor(path: string, sealingKey: Uint8Array, clock: Clock) {
    this.#sealingKey = sealingKey;
    this.#clock = clock;
    if (path !== ":memory:" && !existsSync(path)) createDatabase(path);
    this.#db = new DatabaseSync(path);
    try {
      this.#db.exec("PRAGMA busy_timeout = 5000; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON");
      migrate(this.#db);
      this.#dataVersion = this.#db.prepare("PRAGMA data_version");
    } catch (error) {
      this.#db.close();
      throw error;
    }
  }

  addTunnel(tunnel: StoredTunnel, secret: Uint8Array, hostnames: readonly string[] = []): void {
    this.#transaction(`Cannot add tunnel "${tunnel.name}"`, () => {
      if (this.tunnelByName(tunnel.name) !== undefined) {
        throw new TunnelError("store.failed", `Cannot add tunnel "${tunnel.name}": a tunnel with this name exists`);
      }
      this.#db
        .prepare("INSERT INTO tunnels (id, name, account_tag, sealed_secret, created_at_ms) VALUES (?, ?, ?, ?, ?)")
        .run(tunnel.id, tunnel.name, tunnel.accountTag, seal(this.#sealingKey, secret, tunnel.id), tunnel.createdAtMs);
      this.#route(tunnel.id, hostnames);
    });
  }

  addHostnames(tunnel: TunnelId, hostnames: readonly string[]): void {
    this.#transaction("Cannot route hostnames", () => this.#route(tunnel, hostnames));
  }

  tunnelByName(name: string): StoredTunnel | undefined {
    return guard("Cannot read tunnels", () =>
      toTunnel(this.#db.prepare("SELECT * FROM tunnels WHERE name = ?").get(name) as Row | undefined),
    );
  }

  credentials(id: TunnelId): { tunnel: StoredTunnel; secret: Uint8Array } | undefined {
    const row = guard(
      "Cannot read tunnels",
      () => this.#db.prepare("SELECT * FROM tunnels WHERE id = ?").get(id) as Row | undefined,
    );
    const tunnel = toTunnel(row);
    if (tunnel === undefined || row === undefined) return undefined;
    const sealed = row["sealed_secret"];
    if (!(sealed instanceof Uint8Array)) return undefined;
    return { tunnel, secret: unseal(this.#sealingKey, sealed, id) };
  }

  tunnelForHostname(hostname: string): TunnelId | undefined {
    if (this.#clock.nowMs() - this.#routesCheckedAtMs > ROUTE_STALENESS_MS) this.#refreshRoutes();
    const found = this.#lookUp(hostname);
    if (found !== undefined) return found;
    this.#refreshRoutes();
    return this.#lookUp(hostname);
  }

  tunnels(): ReadonlyArray<StoredTunnel & { hostnames: string[] }> {
    return guard("Cannot read tunnels", () => {
      const hostnames = new Map<string, string[]>();
      for (const row of this.#db
        .prepare("SELECT hostname, tunnel_id FROM hostnames ORDER BY hostname")
        .all() as Row[]) {
        const id = String(row["tunnel_id"]);
        hostnames.set(id, [...(hostnames.get(id) ?? []), String(row["hostname"])]);
      }
      const rows = this.#db.prepare("SELECT * FROM tunnels ORDER BY name").all() as Row[];
      return rows.flatMap((row) => {
        const tunnel = toTunnel(row);
        return tunnel === undefined ? [] : [{ ...tunnel, hostnames: hostnames.get(tunnel.id) ?? [] }];
      });
    });
  }

  close(): void {
    this.#db.close();
  }

  #lookUp(hostname: string): TunnelId | undefined {
    const exact = this.#routes.get(hostname);
    if (exact !== undefined) return exact;
    for (let dot = hostname.indexOf("."); dot >= 0; dot = hostname.indexOf(".", dot + 1)) {
      const wildcard = this.#routes.get(`*${hostname.slice(dot)}`);
      if (wildcard !== undefined) return wildcard;
    }
    return this.#routes.get("*");
  }

  /** Reads all routes again if any process has written since: `data_version` tells for the price of a page look-up. */
  #refreshRoutes(): void {
    this.#routesCheckedAtMs = this.#clock.nowMs();
    guard("Cannot read hostnames", () => {
      const version = (this.#dataVersion.get() as Row)["data_version"];
      if (version === this.#routesVersion) return;
      const routes = new Map<string, TunnelId>();
      for (const row of this.#db.prepare("SELECT hostname, tunnel_id FROM hostnames").all() as Row[]) {
        const id = parseTunnelId(String(row["tunnel_id"]));
        if (id !== undefined) routes.set(String(row["hostname"]), id);
      }
      this.#routes = routes;
      this.#routesVersion = version;
    });
  }

  /** Within a transaction. */
  #route(tunnel: TunnelId, hostnames: readonly string[]): void {
    const find = this.#db.prepare("SELECT tunnel_id FROM hostnames WHERE hostname = ?");
    const insert = this.#db.prepare("INSERT OR IGNORE INTO hostnames (hostname, tunnel_id) VALUES (?, ?)");
    for (const hostname of hostnames) {
      const owner = find.get(hostname) as Row | undefined;
      if (owner !== undefined && owner["tunnel_id"] !== tunnel) {
        throw new TunnelError("store.failed", `Cannot route "${hostname}": another tunnel has it`);
      }
      insert.run(hostname, tunnel);
    }
    this.#routesVersion = undefined;
    this.#routesCheckedAtMs = Number.NEGATIVE_INFINITY;
  }

  #transaction(doing: string, work: () => void): void {
    guard(doing, () => {
      this.#db.exec("BEGIN IMMEDIATE");
      try {
        work();
        this.#db.exec("COMMIT");
      } catch (error) {
        this.#db.exec("ROLLBACK");
        throw error;
      }
    });
  }
}

/**
 * Makes the database aside and then gives it its name. The switch to write-ahead logging, which the file remembers,
 * fails at once when another process is at it, whatever the busy timeout; on a file of one's own it cannot.
 */
function createDatabase(path: string): void {
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
      migrate(db);
    } finally {
      db.close();
    }
    placeFile(temporary, path);
  } finally {
    remove();
  }
}

function migrate(db: DatabaseSync): void {
  const version = Number((db.prepare("PRAGMA user_version").get() as Row)["user_version"]);
  if (version > MIGRATIONS.length) {
    throw new TunnelError("store.failed", "Cannot open the database: a newer version of culvert has written it");
  }
  if (version === MIGRATIONS.length) return;
  db.exec("BEGIN IMMEDIATE");
  // Another process may have migrated while we waited for the lock.
  const current = Number((db.prepare("PRAGMA user_version").get() as Row)["user_version"]);
  for (const migration of MIGRATIONS.slice(current)) db.exec(migration);
  db.exec(`PRAGMA user_version = ${MIGRATIONS.length}; COMMIT`);
}

function toTunnel(row: Row | undefined): StoredTunnel | undefined {
  if (row === undefined) return undefined;
  const id = parseTunnelId(String(row["id"]));
  if (id === undefined) return undefined;
  return {
    id,
    name: String(row["name"]),
    accountTag: String(row["account_tag"]),
    createdAtMs: Number(row["created_at_ms"]),
  };
}

function guard<T>(doing: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof TunnelError) throw error;
    throw new TunnelError("store.failed", `${doing}: ${describe(error)}`, { cause: error });
  }
}
