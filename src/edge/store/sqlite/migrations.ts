import { randomBytes } from "node:crypto";
import type { DatabaseSync } from "node:sqlite";
import { TunnelError } from "../../../core/errors.ts";
import { integer, type Row, text } from "./rows.ts";

const ACCOUNT_TAG = /^[0-9a-f]{32}$/;

/** Each entry brings the schema from its index to the next version; entries are never changed, only added. */
const MIGRATIONS: readonly ((db: DatabaseSync, nowMs: number) => void)[] = [
  (db) =>
    db.exec(`
      CREATE TABLE tunnels (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        account_tag TEXT NOT NULL,
        sealed_secret BLOB NOT NULL,
        created_at_ms INTEGER NOT NULL
      ) STRICT;
      CREATE TABLE hostnames (
        hostname TEXT PRIMARY KEY,
        tunnel_id TEXT NOT NULL REFERENCES tunnels (id) ON DELETE CASCADE
      ) STRICT, WITHOUT ROWID;`),
  makeAccounts,
  (db) =>
    db.exec(`
      ALTER TABLE audit ADD COLUMN actor_name TEXT;
      CREATE INDEX audit_of_system ON audit (id) WHERE actor_kind = 'system';`),
];

/** Brings the schema to the newest version. Throws `store.failed` for a file that a newer culvert wrote. */
export function migrate(db: DatabaseSync, nowMs: number): void {
  const version = readVersion(db);
  if (version > MIGRATIONS.length) {
    throw new TunnelError("store.failed", "Cannot open the database: a newer version of culvert has written it");
  }
  if (version === MIGRATIONS.length) return;
  db.exec("BEGIN IMMEDIATE");
  try {
    // Another process may have migrated while we waited for the lock.
    for (const migration of MIGRATIONS.slice(readVersion(db))) migration(db, nowMs);
    db.exec(`PRAGMA user_version = ${MIGRATIONS.length}; COMMIT`);
  } catch (error) {
    rollBack(db);
    throw error;
  }
}

/** After some errors, such as a full disk, SQLite has done it already, and says so with another one. */
export function rollBack(db: DatabaseSync): void {
  try {
    db.exec("ROLLBACK");
  } catch {}
}

function readVersion(db: DatabaseSync): number {
  return integer((db.prepare("PRAGMA user_version").get() as Row | undefined) ?? {}, "user_version");
}

/**
 * Version 2: accounts, and all that belongs to them. Version 1 gave each tunnel an account tag of its own, which its
 * tokens carry for ever; now they are one account's, and remember the other tag.
 */
function makeAccounts(db: DatabaseSync, nowMs: number): void {
  db.exec(`
    ALTER TABLE tunnels RENAME TO tunnels_1;
    ALTER TABLE hostnames RENAME TO hostnames_1;
    CREATE TABLE accounts (
      seq INTEGER PRIMARY KEY,
      tag TEXT NOT NULL UNIQUE,
      name TEXT NOT NULL,
      created_at_ms INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE zones (
      seq INTEGER PRIMARY KEY,
      id TEXT NOT NULL UNIQUE,
      account_tag TEXT NOT NULL REFERENCES accounts (tag),
      name TEXT NOT NULL UNIQUE
    ) STRICT;
    CREATE TABLE tokens (
      seq INTEGER PRIMARY KEY,
      id TEXT NOT NULL UNIQUE,
      account_tag TEXT NOT NULL REFERENCES accounts (tag),
      name TEXT NOT NULL,
      scopes TEXT NOT NULL,
      secret_sha256 BLOB NOT NULL UNIQUE,
      created_at_ms INTEGER NOT NULL,
      expires_at_ms INTEGER,
      last_used_at_ms INTEGER
    ) STRICT;
    CREATE TABLE tunnels (
      seq INTEGER PRIMARY KEY,
      id TEXT NOT NULL UNIQUE,
      name TEXT NOT NULL,
      account_tag TEXT NOT NULL REFERENCES accounts (tag),
      former_account_tag TEXT,
      -- Gone with the tunnel's deletion.
      sealed_secret BLOB,
      config_source TEXT NOT NULL DEFAULT 'local',
      metadata TEXT NOT NULL DEFAULT '{}',
      created_at_ms INTEGER NOT NULL,
      deleted_at_ms INTEGER,
      expires_at_ms INTEGER
    ) STRICT;
    CREATE UNIQUE INDEX tunnels_by_name ON tunnels (account_tag, name) WHERE deleted_at_ms IS NULL;
    CREATE INDEX tunnels_by_creation ON tunnels (created_at_ms, seq);
    CREATE TABLE pools (
      seq INTEGER PRIMARY KEY,
      id TEXT NOT NULL UNIQUE,
      account_tag TEXT NOT NULL REFERENCES accounts (tag),
      name TEXT NOT NULL,
      monitor TEXT,
      webhook TEXT,
      created_at_ms INTEGER NOT NULL,
      UNIQUE (account_tag, name)
    ) STRICT;
    CREATE TABLE pool_members (
      pool_id TEXT NOT NULL REFERENCES pools (id) ON DELETE CASCADE,
      tunnel_id TEXT NOT NULL REFERENCES tunnels (id),
      position INTEGER NOT NULL,
      weight REAL NOT NULL,
      enabled INTEGER NOT NULL,
      PRIMARY KEY (pool_id, tunnel_id)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX pool_members_by_tunnel ON pool_members (tunnel_id);
    CREATE TABLE balancers (
      seq INTEGER PRIMARY KEY,
      id TEXT NOT NULL UNIQUE,
      account_tag TEXT NOT NULL REFERENCES accounts (tag),
      hostname TEXT NOT NULL UNIQUE,
      steering TEXT NOT NULL,
      created_at_ms INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE balancer_pools (
      balancer_id TEXT NOT NULL REFERENCES balancers (id) ON DELETE CASCADE,
      position INTEGER NOT NULL,
      pool_id TEXT NOT NULL REFERENCES pools (id),
      PRIMARY KEY (balancer_id, position)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX balancer_pools_by_pool ON balancer_pools (pool_id);
    CREATE TABLE hostnames (
      hostname TEXT PRIMARY KEY,
      tunnel_id TEXT REFERENCES tunnels (id),
      balancer_id TEXT REFERENCES balancers (id),
      zone_id TEXT NOT NULL REFERENCES zones (id),
      created_at_ms INTEGER NOT NULL,
      CHECK ((tunnel_id IS NULL) <> (balancer_id IS NULL))
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX hostnames_by_tunnel ON hostnames (tunnel_id, hostname) WHERE tunnel_id IS NOT NULL;
    CREATE INDEX hostnames_by_balancer ON hostnames (balancer_id) WHERE balancer_id IS NOT NULL;
    CREATE INDEX hostnames_by_zone ON hostnames (zone_id, hostname);
    CREATE TABLE configurations (
      tunnel_id TEXT NOT NULL REFERENCES tunnels (id),
      version INTEGER NOT NULL,
      config TEXT NOT NULL,
      created_at_ms INTEGER NOT NULL,
      PRIMARY KEY (tunnel_id, version)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE virtual_networks (
      seq INTEGER PRIMARY KEY,
      id TEXT NOT NULL UNIQUE,
      account_tag TEXT NOT NULL REFERENCES accounts (tag),
      name TEXT NOT NULL,
      comment TEXT NOT NULL,
      is_default INTEGER NOT NULL,
      created_at_ms INTEGER NOT NULL,
      deleted_at_ms INTEGER
    ) STRICT;
    CREATE UNIQUE INDEX virtual_networks_by_name ON virtual_networks (account_tag, name) WHERE deleted_at_ms IS NULL;
    CREATE UNIQUE INDEX default_virtual_network ON virtual_networks (account_tag)
      WHERE is_default = 1 AND deleted_at_ms IS NULL;
    CREATE TABLE network_routes (
      seq INTEGER PRIMARY KEY,
      id TEXT NOT NULL UNIQUE,
      account_tag TEXT NOT NULL REFERENCES accounts (tag),
      network TEXT NOT NULL,
      tunnel_id TEXT NOT NULL REFERENCES tunnels (id),
      virtual_network_id TEXT NOT NULL REFERENCES virtual_networks (id),
      comment TEXT NOT NULL,
      created_at_ms INTEGER NOT NULL,
      deleted_at_ms INTEGER
    ) STRICT;
    CREATE UNIQUE INDEX network_routes_by_network ON network_routes (virtual_network_id, network)
      WHERE deleted_at_ms IS NULL;
    CREATE INDEX network_routes_by_tunnel ON network_routes (tunnel_id);
    CREATE TABLE tcp_routes (
      port INTEGER PRIMARY KEY,
      tunnel_id TEXT NOT NULL REFERENCES tunnels (id),
      hostname TEXT NOT NULL,
      proxy_protocol TEXT,
      created_at_ms INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX tcp_routes_by_tunnel ON tcp_routes (tunnel_id);
    CREATE TABLE audit (
      id INTEGER PRIMARY KEY,
      at_ms INTEGER NOT NULL,
      actor_kind TEXT NOT NULL,
      actor_id TEXT NOT NULL,
      actor_from TEXT NOT NULL,
      action TEXT NOT NULL,
      subject TEXT NOT NULL,
      details TEXT NOT NULL
    ) STRICT;
    CREATE INDEX audit_by_subject ON audit (subject, id);`);
  const oldest = db.prepare("SELECT account_tag FROM tunnels_1 ORDER BY created_at_ms, rowid").all() as Row[];
  const known = oldest.map((row) => text(row, "account_tag")).find((each) => ACCOUNT_TAG.test(each));
  const tag = known ?? randomBytes(16).toString("hex");
  const zoneId = randomBytes(16).toString("hex");
  db.prepare("INSERT INTO accounts (tag, name, created_at_ms) VALUES (?, 'default', ?)").run(tag, nowMs);
  db.prepare("INSERT INTO zones (id, account_tag, name) VALUES (?, ?, '')").run(zoneId, tag);
  db.prepare(
    `INSERT INTO tunnels (id, name, account_tag, former_account_tag, sealed_secret, created_at_ms)
     SELECT id, name, ?, nullif(account_tag, ?), sealed_secret, created_at_ms FROM tunnels_1
     ORDER BY created_at_ms, rowid`,
  ).run(tag, tag);
  db.prepare(
    `INSERT INTO hostnames (hostname, tunnel_id, zone_id, created_at_ms)
     SELECT hostname, tunnel_id, ?, created_at_ms FROM hostnames_1 JOIN tunnels_1 ON id = tunnel_id`,
  ).run(zoneId);
  db.exec("DROP TABLE hostnames_1; DROP TABLE tunnels_1");
}
