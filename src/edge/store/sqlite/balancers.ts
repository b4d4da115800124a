import { TunnelError } from "../../../core/errors.ts";
import { type Actor, type Balancer, type BalancerStore, type Monitor, type Pool, STEERINGS } from "../port.ts";
import type { Database } from "./database.ts";
import { removeBalancer, type SqliteHostnames } from "./hostnames.ts";
import { Conditions, flag, integer, oneOf, optionalText, type Row, text, tunnelIdIn } from "./rows.ts";

export class SqliteBalancers implements BalancerStore {
  readonly #db: Database;
  readonly #hostnames: SqliteHostnames;

  constructor(db: Database, hostnames: SqliteHostnames) {
    this.#db = db;
    this.#hostnames = hostnames;
  }

  get(id: string): Balancer | undefined {
    return this.#balancer(this.#db.one("SELECT * FROM balancers WHERE id = ?", id));
  }

  byHostname(hostname: string): Balancer | undefined {
    return this.#balancer(this.#db.one("SELECT * FROM balancers WHERE hostname = ?", hostname));
  }

  list(accountTag?: string): readonly Balancer[] {
    const { where, values } = new Conditions().add("account_tag = ?", accountTag);
    return this.#db
      .many(`SELECT * FROM balancers${where} ORDER BY seq`, ...values)
      .flatMap((row) => this.#balancer(row) ?? []);
  }

  put(balancer: Balancer, zoneId: string, overwrite: boolean, actor: Actor): void {
    const { id, accountTag, hostname, steering, poolIds, createdAtMs } = balancer;
    this.#db.write(`Cannot balance "${hostname}"`, (transaction) => {
      const rival = this.byHostname(hostname);
      if (rival !== undefined && rival.id !== id) {
        if (!overwrite) {
          throw new TunnelError("store.conflict", `Cannot balance "${hostname}": another balancer has it`);
        }
        this.#hostnames.unroute(transaction, hostname);
        removeBalancer(transaction, rival.id);
      }
      const known = this.get(id);
      if (known !== undefined && known.hostname !== hostname) this.#hostnames.unroute(transaction, known.hostname);
      transaction.run(
        `INSERT INTO balancers (id, account_tag, hostname, steering, created_at_ms) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT (id) DO UPDATE SET hostname = excluded.hostname, steering = excluded.steering`,
        ...[id, accountTag, hostname, steering, createdAtMs],
      );
      transaction.run("DELETE FROM balancer_pools WHERE balancer_id = ?", id);
      for (const [position, poolId] of poolIds.entries()) {
        transaction.run(
          "INSERT INTO balancer_pools (balancer_id, position, pool_id) VALUES (?, ?, ?)",
          ...[id, position, poolId],
        );
      }
      const target = { kind: "balancer", balancerId: id } as const;
      this.#hostnames.route(transaction, { hostname, target, zoneId, createdAtMs }, overwrite);
      transaction.audit(actor, known === undefined ? "balancer.create" : "balancer.update", id, {
        ...{ hostname, steering, poolIds },
      });
      transaction.changed({ kind: "balancers" });
    });
  }

  remove(id: string, actor: Actor): void {
    this.#db.write("Cannot remove the balancer", (transaction) => {
      const known = this.get(id);
      if (known === undefined) throw new TunnelError("store.missing", `There is no balancer ${id}`);
      this.#hostnames.unroute(transaction, known.hostname);
      removeBalancer(transaction, id);
      transaction.audit(actor, "balancer.delete", id, { hostname: known.hostname });
    });
  }

  pool(id: string): Pool | undefined {
    return this.#pool(this.#db.one("SELECT * FROM pools WHERE id = ?", id));
  }

  poolByName(accountTag: string, name: string): Pool | undefined {
    return this.#pool(this.#db.one("SELECT * FROM pools WHERE account_tag = ? AND name = ?", accountTag, name));
  }

  pools(accountTag?: string): readonly Pool[] {
    const { where, values } = new Conditions().add("account_tag = ?", accountTag);
    return this.#db.many(`SELECT * FROM pools${where} ORDER BY seq`, ...values).flatMap((row) => this.#pool(row) ?? []);
  }

  putPool(pool: Pool, actor: Actor): void {
    const { id, accountTag, name, members, monitor, webhook, createdAtMs } = pool;
    this.#db.write(`Cannot keep pool "${name}"`, (transaction) => {
      const known = this.pool(id);
      const namesake = this.poolByName(accountTag, name);
      if (namesake !== undefined && namesake.id !== id) {
        throw new TunnelError("store.conflict", `Cannot keep pool "${name}": a pool with this name exists`);
      }
      transaction.run(
        `INSERT INTO pools (id, account_tag, name, monitor, webhook, created_at_ms) VALUES (?, ?, ?, ?, ?, ?)
         ON CONFLICT (id) DO UPDATE SET name = excluded.name, monitor = excluded.monitor, webhook = excluded.webhook`,
        ...[id, accountTag, name, monitor === undefined ? null : JSON.stringify(monitor), webhook ?? null, createdAtMs],
      );
      transaction.run("DELETE FROM pool_members WHERE pool_id = ?", id);
      for (const [position, { tunnelId, weight, enabled }] of members.entries()) {
        // A deleted tunnel's row is still there, so the foreign key alone would take it.
        const added = transaction.run(
          `INSERT INTO pool_members (pool_id, tunnel_id, position, weight, enabled)
           SELECT ?, id, ?, ?, ? FROM tunnels WHERE id = ? AND deleted_at_ms IS NULL`,
          ...[id, position, weight, Number(enabled), tunnelId],
        );
        if (added === 0) {
          throw new TunnelError("store.missing", `Cannot keep pool "${name}": there is no tunnel ${tunnelId}`);
        }
      }
      // A webhook's address may hold a secret.
      const details = {
        name,
        members: members.map(({ tunnelId, weight, enabled }) => ({ tunnelId, weight, enabled })),
      };
      transaction.audit(actor, known === undefined ? "pool.create" : "pool.update", id, details);
      transaction.changed({ kind: "balancers" });
    });
  }

  removePool(id: string, actor: Actor): void {
    this.#db.write("Cannot remove the pool", (transaction) => {
      const known = this.pool(id);
      if (known === undefined) throw new TunnelError("store.missing", `There is no pool ${id}`);
      if (this.#db.one("SELECT 1 FROM balancer_pools WHERE pool_id = ?", id) !== undefined) {
        throw new TunnelError("store.conflict", `Cannot remove pool "${known.name}": a balancer uses it`);
      }
      transaction.run("DELETE FROM pools WHERE id = ?", id);
      transaction.audit(actor, "pool.delete", id, { name: known.name });
      transaction.changed({ kind: "balancers" });
    });
  }

  #balancer(row: Row | undefined): Balancer | undefined {
    if (row === undefined) return undefined;
    const id = text(row, "id");
    const pools = this.#db.many("SELECT pool_id FROM balancer_pools WHERE balancer_id = ? ORDER BY position", id);
    return {
      id,
      accountTag: text(row, "account_tag"),
      hostname: text(row, "hostname"),
      steering: oneOf(row, "steering", STEERINGS),
      poolIds: pools.map((pool) => text(pool, "pool_id")),
      createdAtMs: integer(row, "created_at_ms"),
    };
  }

  #pool(row: Row | undefined): Pool | undefined {
    if (row === undefined) return undefined;
    const id = text(row, "id");
    const monitor = optionalText(row, "monitor");
    const members = this.#db.many("SELECT * FROM pool_members WHERE pool_id = ? ORDER BY position", id);
    return {
      id,
      accountTag: text(row, "account_tag"),
      name: text(row, "name"),
      members: members.map((member) => ({
        tunnelId: tunnelIdIn(member, "tunnel_id"),
        weight: integer(member, "weight"),
        enabled: flag(member, "enabled"),
      })),
      monitor: monitor === undefined ? undefined : toMonitor(monitor),
      webhook: optionalText(row, "webhook"),
      createdAtMs: integer(row, "created_at_ms"),
    };
  }
}

/** JSON has no undefined: an absent host comes back as one. */
function toMonitor(json: string): Monitor {
  const kept = JSON.parse(json) as Monitor;
  return { ...kept, host: kept.host };
}
