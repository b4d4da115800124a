import { TunnelError } from "../../../core/errors.ts";
import type { TunnelId } from "../../../core/ids.ts";
import {
  type Actor,
  type ConfigurationStore,
  KEPT_CONFIGURATIONS,
  MAX_CONFIGURATION_BYTES,
  type StoredConfiguration,
} from "../port.ts";
import type { Database } from "./database.ts";
import { integer, type Row, text, tunnelIdIn } from "./rows.ts";
import type { SqliteTunnels } from "./tunnels.ts";

export class SqliteConfigurations implements ConfigurationStore {
  readonly #db: Database;
  readonly #tunnels: SqliteTunnels;

  constructor(db: Database, tunnels: SqliteTunnels) {
    this.#db = db;
    this.#tunnels = tunnels;
  }

  current(tunnelId: TunnelId): StoredConfiguration | undefined {
    const row = this.#db.one(
      "SELECT * FROM configurations WHERE tunnel_id = ? ORDER BY version DESC LIMIT 1",
      tunnelId,
    );
    return row === undefined ? undefined : toConfiguration(row);
  }

  versions(tunnelId: TunnelId): readonly StoredConfiguration[] {
    return this.#db
      .many("SELECT * FROM configurations WHERE tunnel_id = ? ORDER BY version DESC", tunnelId)
      .map(toConfiguration);
  }

  put(tunnelId: TunnelId, config: string, actor: Actor, atLeast = 0): StoredConfiguration {
    if (Buffer.byteLength(config) > MAX_CONFIGURATION_BYTES) {
      throw new TunnelError("store.failed", `A configuration must not exceed ${MAX_CONFIGURATION_BYTES} bytes`);
    }
    return this.#db.write("Cannot keep the configuration", (transaction) => {
      const { configSource } = this.#tunnels.require(tunnelId);
      const version = Math.max(atLeast, this.current(tunnelId)?.version ?? 0) + 1;
      const createdAtMs = this.#db.clock.wallMs();
      transaction.run(
        "INSERT INTO configurations (tunnel_id, version, config, created_at_ms) VALUES (?, ?, ?, ?)",
        ...[tunnelId, version, config, createdAtMs],
      );
      transaction.run(
        `DELETE FROM configurations WHERE tunnel_id = ? AND version <=
           (SELECT version FROM configurations WHERE tunnel_id = ? ORDER BY version DESC LIMIT 1 OFFSET ?)`,
        ...[tunnelId, tunnelId, KEPT_CONFIGURATIONS],
      );
      transaction.run("UPDATE tunnels SET config_source = 'remote' WHERE id = ?", tunnelId);
      transaction.audit(actor, "configuration.put", tunnelId, { version });
      if (configSource !== "remote") transaction.changed({ kind: "tunnel", tunnelId });
      transaction.changed({ kind: "configuration", tunnelId });
      return { tunnelId, version, config, createdAtMs };
    });
  }
}

function toConfiguration(row: Row): StoredConfiguration {
  return {
    tunnelId: tunnelIdIn(row, "tunnel_id"),
    version: integer(row, "version"),
    config: text(row, "config"),
    createdAtMs: integer(row, "created_at_ms"),
  };
}
