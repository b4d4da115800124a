import { TunnelError } from "../../../core/errors.ts";
import type { TunnelId } from "../../../core/ids.ts";
import {
  type Actor,
  type Found,
  type HostnameRoute,
  MAX_METADATA_BYTES,
  type Page,
  type StoredTunnel,
  type TunnelCredentials,
  type TunnelFilter,
  type TunnelStore,
} from "../port.ts";
import { seal, unseal } from "../seal.ts";
import type { Database, Transaction } from "./database.ts";
import type { SqliteHostnames } from "./hostnames.ts";
import { Conditions, integer, oneOf, optionalInteger, optionalText, type Row, text, tunnelIdIn } from "./rows.ts";

const LIVING = "SELECT * FROM tunnels WHERE id = ? AND deleted_at_ms IS NULL";

export class SqliteTunnels implements TunnelStore {
  readonly #db: Database;
  readonly #hostnames: SqliteHostnames;
  readonly #sealingKey: Uint8Array;

  constructor(db: Database, hostnames: SqliteHostnames, sealingKey: Uint8Array) {
    this.#db = db;
    this.#hostnames = hostnames;
    this.#sealingKey = sealingKey;
  }

  add(tunnel: StoredTunnel, secret: Uint8Array, actor: Actor, hostnames: readonly HostnameRoute[] = []): void {
    const { id, name, accountTag, configSource, metadata, createdAtMs, deletedAtMs, expiresAtMs } = tunnel;
    refuseLargeMetadata(metadata);
    this.#db.write(`Cannot add tunnel "${name}"`, (transaction) => {
      if (this.byName(accountTag, name) !== undefined) {
        throw new TunnelError("store.conflict", `Cannot add tunnel "${name}": a tunnel with this name exists`);
      }
      transaction.run(
        `INSERT INTO tunnels
         (id, name, account_tag, sealed_secret, config_source, metadata, created_at_ms, deleted_at_ms, expires_at_ms)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
        ...[id, name, accountTag, seal(this.#sealingKey, secret, id), configSource, metadata],
        ...[createdAtMs, deletedAtMs ?? null, expiresAtMs ?? null],
      );
      for (const route of hostnames) this.#hostnames.route(transaction, route, false);
      const names = hostnames.map(({ hostname }) => hostname);
      transaction.audit(actor, "tunnel.create", id, { name, accountTag, configSource, expiresAtMs, hostnames: names });
      transaction.changed({ kind: "tunnel", tunnelId: id });
    });
  }

  get(id: TunnelId): StoredTunnel | undefined {
    const row = this.#db.one("SELECT * FROM tunnels WHERE id = ?", id);
    return row === undefined ? undefined : toTunnel(row);
  }

  byName(accountTag: string, name: string): StoredTunnel | undefined {
    const row = this.#db.one(
      "SELECT * FROM tunnels WHERE account_tag = ? AND name = ? AND deleted_at_ms IS NULL",
      accountTag,
      name,
    );
    return row === undefined ? undefined : toTunnel(row);
  }

  find(filter: TunnelFilter, page?: Page): Found<StoredTunnel> {
    const conditions = new Conditions()
      .add("account_tag = ?", filter.accountTag)
      .add("name = ?", filter.name)
      .add("substr(name, 1, length(?)) = ?", filter.namePrefix)
      .add("substr(name, 1, length(?)) <> ?", filter.excludePrefix)
      .add("id = ?", filter.id)
      .add("config_source = ?", filter.configSource)
      .deleted(filter.deleted)
      .existedAt(filter.existedAtMs);
    return this.#db.find("tunnels", conditions, "created_at_ms, seq", page, toTunnel);
  }

  credentials(id: TunnelId): TunnelCredentials | undefined {
    const row = this.#db.one(LIVING, id);
    const sealed = row?.["sealed_secret"];
    if (row === undefined || !(sealed instanceof Uint8Array)) return undefined;
    return {
      tunnel: toTunnel(row),
      secret: unseal(this.#sealingKey, sealed, id),
      formerAccountTag: optionalText(row, "former_account_tag"),
    };
  }

  update(
    id: TunnelId,
    change: {
      readonly name?: string;
      readonly metadata?: string;
      readonly configSource?: StoredTunnel["configSource"];
    },
    actor: Actor,
  ): void {
    if (change.metadata !== undefined) refuseLargeMetadata(change.metadata);
    this.#db.write("Cannot change the tunnel", (transaction) => {
      const known = this.require(id);
      const namesake = change.name === undefined ? undefined : this.byName(known.accountTag, change.name);
      if (namesake !== undefined && namesake.id !== id) {
        throw new TunnelError(
          "store.conflict",
          `Cannot call the tunnel "${change.name}": a tunnel with this name exists`,
        );
      }
      transaction.run(
        "UPDATE tunnels SET name = ?, metadata = ?, config_source = ? WHERE id = ?",
        change.name ?? known.name,
        change.metadata ?? known.metadata,
        change.configSource ?? known.configSource,
        id,
      );
      const { name, configSource } = change;
      transaction.audit(actor, "tunnel.update", id, { name, configSource, metadata: change.metadata !== undefined });
      transaction.changed({ kind: "tunnel", tunnelId: id });
    });
  }

  rotateSecret(id: TunnelId, secret: Uint8Array, actor: Actor): void {
    this.#db.write("Cannot change the tunnel's secret", (transaction) => {
      this.require(id);
      transaction.run("UPDATE tunnels SET sealed_secret = ? WHERE id = ?", seal(this.#sealingKey, secret, id), id);
      transaction.audit(actor, "tunnel.rotate", id);
      transaction.changed({ kind: "tunnel", tunnelId: id });
    });
  }

  remove(id: TunnelId, actor: Actor): void {
    this.#db.write("Cannot remove the tunnel", (transaction) => {
      const { name } = this.require(id);
      const nowMs = this.#db.clock.wallMs();
      transaction.run("UPDATE tunnels SET deleted_at_ms = ?, sealed_secret = NULL WHERE id = ?", nowMs, id);
      const hostnames = this.#hostnames.find({ tunnelId: id }).items.map(({ hostname }) => hostname);
      for (const hostname of hostnames) this.#hostnames.unroute(transaction, hostname);
      const taken = takeAway(transaction, id, nowMs);
      transaction.audit(actor, "tunnel.delete", id, { name, hostnames, ...taken });
      transaction.changed({ kind: "tunnel", tunnelId: id });
      if (taken.poolMemberships > 0) transaction.changed({ kind: "balancers" });
      if (taken.tcpPorts > 0) transaction.changed({ kind: "tcp-routes" });
    });
  }

  /** A living tunnel. Throws `store.missing`. */
  require(id: TunnelId): StoredTunnel {
    const row = this.#db.one(LIVING, id);
    if (row === undefined) throw new TunnelError("store.missing", `There is no tunnel ${id}`);
    return toTunnel(row);
  }

  /** Sealed secrets that do not open. */
  damages(): readonly string[] {
    return this.#db
      .many("SELECT id, sealed_secret FROM tunnels WHERE sealed_secret IS NOT NULL")
      .flatMap((row) => (this.#opens(row) ? [] : [`the secret of tunnel ${text(row, "id")} does not open`]));
  }

  #opens(row: Row): boolean {
    const sealed = row["sealed_secret"];
    try {
      return sealed instanceof Uint8Array && unseal(this.#sealingKey, sealed, text(row, "id")).length >= 0;
    } catch {
      return false;
    }
  }
}

function takeAway(
  transaction: Transaction,
  id: TunnelId,
  nowMs: number,
): { readonly tcpPorts: number; readonly networks: number; readonly poolMemberships: number } {
  return {
    tcpPorts: transaction.run("DELETE FROM tcp_routes WHERE tunnel_id = ?", id),
    networks: transaction.run(
      "UPDATE network_routes SET deleted_at_ms = ? WHERE tunnel_id = ? AND deleted_at_ms IS NULL",
      nowMs,
      id,
    ),
    poolMemberships: transaction.run("DELETE FROM pool_members WHERE tunnel_id = ?", id),
  };
}

function refuseLargeMetadata(metadata: string): void {
  if (Buffer.byteLength(metadata) > MAX_METADATA_BYTES) {
    throw new TunnelError("store.failed", `A tunnel's metadata must not exceed ${MAX_METADATA_BYTES} bytes`);
  }
}

function toTunnel(row: Row): StoredTunnel {
  return {
    id: tunnelIdIn(row, "id"),
    name: text(row, "name"),
    accountTag: text(row, "account_tag"),
    createdAtMs: integer(row, "created_at_ms"),
    deletedAtMs: optionalInteger(row, "deleted_at_ms"),
    configSource: oneOf(row, "config_source", ["local", "remote"]),
    metadata: text(row, "metadata"),
    expiresAtMs: optionalInteger(row, "expires_at_ms"),
  };
}
