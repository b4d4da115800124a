import { dirname } from "node:path";
import { type Clock, systemClock } from "../../../core/clock.ts";
import { describe } from "../../../core/errors.ts";
import { asOwnerOf } from "../folder-owner.ts";
import type { Store } from "../port.ts";
import { SqliteAccounts } from "./accounts.ts";
import { SqliteAudit } from "./audit.ts";
import { writeBackup } from "./backup.ts";
import { SqliteBalancers } from "./balancers.ts";
import { SqliteConfigurations } from "./configurations.ts";
import { Database, type DatabaseOptions } from "./database.ts";
import { SqliteHostnames } from "./hostnames.ts";
import { SqliteNetworks } from "./networks.ts";
import { toStoreError } from "./sqlite-errors.ts";
import { SqliteTcpRoutes } from "./tcp-routes.ts";
import { SqliteTokens } from "./tokens.ts";
import { SqliteTunnels } from "./tunnels.ts";

/**
 * Opens the database in this file (`:memory:` for none), making it when it is missing, and brings its schema up to date.
 * Other processes may write the same file: a process that serves others waits for them a short time only (`busyTimeoutMs`)
 * and then throws `store.failed` with retry `same`. Throws `store.failed` for a file that cannot be used.
 */
export function openSqliteStore(
  path: string,
  sealingKey: Uint8Array,
  clock: Clock = systemClock,
  options: DatabaseOptions = {},
): Store {
  const db = open(path, clock, options);
  const hostnames = new SqliteHostnames(db);
  const tunnels = new SqliteTunnels(db, hostnames, sealingKey);
  return {
    accounts: new SqliteAccounts(db),
    tokens: new SqliteTokens(db),
    tunnels,
    hostnames,
    balancers: new SqliteBalancers(db, hostnames),
    configurations: new SqliteConfigurations(db, tunnels),
    networks: new SqliteNetworks(db, tunnels),
    tcpRoutes: new SqliteTcpRoutes(db, tunnels),
    audit: new SqliteAudit(db),
    watch: (listener) => db.watch(listener),
    poll: () => db.poll(),
    check: () => [...damagesOf(() => db.damages()), ...damagesOf(() => tunnels.damages())],
    backup: async (target, named = target) => writeBackup(db, target, named),
    close: () => db.close(),
  };
}

function open(path: string, clock: Clock, options: DatabaseOptions): Database {
  try {
    // A link in the place of the database is followed by SQLite.
    return asOwnerOf(dirname(path), () => new Database(path, clock, options));
  } catch (error) {
    throw toStoreError(error, `Cannot open database "${path}"`, true);
  }
}

/** A file may be too damaged to be asked. */
function damagesOf(ask: () => readonly string[]): readonly string[] {
  try {
    return ask();
  } catch (error) {
    return [describe(error)];
  }
}
