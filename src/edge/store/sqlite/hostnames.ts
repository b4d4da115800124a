import { TunnelError } from "../../../core/errors.ts";
import { parseTunnelId, type TunnelId } from "../../../core/ids.ts";
import {
  type Actor,
  type Found,
  type HostnameRoute,
  type HostnameStore,
  type Page,
  sameTarget,
  type Target,
} from "../port.ts";
import type { Database, Transaction } from "./database.ts";
import { HostnameIndex } from "./hostname-index.ts";
import { Conditions, integer, optionalText, type Row, text, tunnelIdIn } from "./rows.ts";

/** How long a look-up may hide a change made by another process, in ms. A miss always looks again. */
const STALENESS_MS = 100;

export class SqliteHostnames implements HostnameStore {
  readonly #db: Database;
  readonly #index = new HostnameIndex();
  /** Commands that look nothing up never read the routes. */
  #loaded = false;
  #checkedAtMs = Number.NEGATIVE_INFINITY;

  constructor(db: Database) {
    this.#db = db;
    db.onForeignWrite(() => {
      if (this.#loaded) this.#load();
    });
  }

  lookUp(hostname: string): Target | undefined {
    if (this.#db.clock.nowMs() - this.#checkedAtMs > STALENESS_MS) this.#refresh();
    const found = this.#index.lookUp(hostname);
    if (found !== undefined) return found;
    this.#refresh();
    return this.#index.lookUp(hostname);
  }

  get(hostname: string): HostnameRoute | undefined {
    const row = this.#db.one("SELECT * FROM hostnames WHERE hostname = ?", hostname);
    return row === undefined ? undefined : toRoute(row);
  }

  find(filter: { readonly tunnelId?: TunnelId; readonly zoneId?: string }, page?: Page): Found<HostnameRoute> {
    const conditions = new Conditions().add("tunnel_id = ?", filter.tunnelId).add("zone_id = ?", filter.zoneId);
    return this.#db.find("hostnames", conditions, "hostname", page, toRoute);
  }

  put(route: HostnameRoute, overwrite: boolean, actor: Actor): "new" | "updated" | "unchanged" {
    return this.#db.write(`Cannot route "${route.hostname}"`, (transaction) => {
      const outcome = this.route(transaction, route, overwrite);
      if (outcome !== "unchanged") {
        transaction.audit(actor, "hostname.put", route.hostname, { target: route.target, outcome });
      }
      return outcome;
    });
  }

  remove(hostname: string, actor: Actor): void {
    this.#db.write(`Cannot remove "${hostname}"`, (transaction) => {
      const known = this.get(hostname);
      if (known === undefined) {
        throw new TunnelError("store.missing", `Cannot remove "${hostname}": it is not routed`);
      }
      this.unroute(transaction, hostname);
      if (known.target.kind === "balancer") removeBalancer(transaction, known.target.balancerId);
      transaction.audit(actor, "hostname.delete", hostname, { target: known.target });
    });
  }

  /**
   * Part of a transaction. A balancer that loses its hostname is gone with it: it is nothing but that hostname's way.
   */
  route(transaction: Transaction, route: HostnameRoute, overwrite: boolean): "new" | "updated" | "unchanged" {
    const { hostname, target, zoneId } = route;
    this.#requireTarget(hostname, target);
    const known = this.get(hostname);
    if (known !== undefined && sameTarget(known.target, target) && known.zoneId === zoneId) return "unchanged";
    if (known !== undefined && !sameTarget(known.target, target)) {
      if (!overwrite) {
        throw new TunnelError("store.conflict", `Cannot route "${hostname}": another ${known.target.kind} has it`);
      }
    }
    const values = [
      target.kind === "tunnel" ? target.tunnelId : null,
      target.kind === "balancer" ? target.balancerId : null,
      zoneId,
      route.createdAtMs,
    ];
    transaction.run(
      `INSERT INTO hostnames (hostname, tunnel_id, balancer_id, zone_id, created_at_ms) VALUES (?, ?, ?, ?, ?)
       ON CONFLICT (hostname) DO UPDATE SET tunnel_id = excluded.tunnel_id, balancer_id = excluded.balancer_id,
         zone_id = excluded.zone_id`,
      hostname,
      ...values,
    );
    if (known?.target.kind === "balancer" && !sameTarget(known.target, target)) {
      removeBalancer(transaction, known.target.balancerId);
    }
    transaction.onceWritten(() => this.#index.set(hostname, target));
    transaction.changed({ kind: "hostnames" });
    return known === undefined ? "new" : "updated";
  }

  /** Part of a transaction. */
  unroute(transaction: Transaction, hostname: string): void {
    transaction.run("DELETE FROM hostnames WHERE hostname = ?", hostname);
    transaction.onceWritten(() => this.#index.delete(hostname));
    transaction.changed({ kind: "hostnames" });
  }

  #requireTarget(hostname: string, target: Target): void {
    const found =
      target.kind === "tunnel"
        ? this.#db.one("SELECT 1 FROM tunnels WHERE id = ? AND deleted_at_ms IS NULL", target.tunnelId)
        : this.#db.one("SELECT 1 FROM balancers WHERE id = ? AND hostname = ?", target.balancerId, hostname);
    if (found === undefined) {
      throw new TunnelError("store.missing", `Cannot route "${hostname}": there is no such ${target.kind}`);
    }
  }

  #refresh(): void {
    const nowMs = this.#db.clock.nowMs();
    this.#db.poll();
    if (!this.#loaded) this.#load();
    this.#checkedAtMs = nowMs;
  }

  #load(): void {
    const targets = new Map<string, Target>();
    // One object for all hostnames of a tunnel.
    const tunnels = new Map<string, Target>();
    for (const row of this.#db.many("SELECT hostname, tunnel_id, balancer_id FROM hostnames")) {
      const target = tunnels.get(text(row, "tunnel_id")) ?? toTarget(row);
      if (target === undefined) continue;
      if (target.kind === "tunnel") tunnels.set(target.tunnelId, target);
      targets.set(text(row, "hostname"), target);
    }
    this.#index.replaceAll(targets);
    this.#loaded = true;
  }
}

/** Part of a transaction; its hostname leads elsewhere by then, or nowhere. */
export function removeBalancer(transaction: Transaction, id: string): void {
  transaction.run("DELETE FROM balancers WHERE id = ?", id);
  transaction.changed({ kind: "balancers" });
}

/** Undefined for what this program has not written. */
function toTarget(row: Row): Target | undefined {
  const balancerId = optionalText(row, "balancer_id");
  if (balancerId !== undefined) return { kind: "balancer", balancerId };
  const tunnelId = parseTunnelId(text(row, "tunnel_id"));
  return tunnelId === undefined ? undefined : { kind: "tunnel", tunnelId };
}

function toRoute(row: Row): HostnameRoute {
  return {
    hostname: text(row, "hostname"),
    target: toTarget(row) ?? { kind: "tunnel", tunnelId: tunnelIdIn(row, "tunnel_id") },
    zoneId: text(row, "zone_id"),
    createdAtMs: integer(row, "created_at_ms"),
  };
}
