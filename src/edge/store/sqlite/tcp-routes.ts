import { TunnelError } from "../../../core/errors.ts";
import type { Actor, TcpRoute, TcpRouteStore } from "../port.ts";
import type { Database } from "./database.ts";
import { integer, oneOf, optionalText, type Row, text, tunnelIdIn } from "./rows.ts";
import type { SqliteTunnels } from "./tunnels.ts";

export class SqliteTcpRoutes implements TcpRouteStore {
  readonly #db: Database;
  readonly #tunnels: SqliteTunnels;

  constructor(db: Database, tunnels: SqliteTunnels) {
    this.#db = db;
    this.#tunnels = tunnels;
  }

  list(): readonly TcpRoute[] {
    return this.#db.many("SELECT * FROM tcp_routes ORDER BY port").map(toRoute);
  }

  add(route: TcpRoute, actor: Actor): void {
    const { port, tunnelId, hostname, proxyProtocol, createdAtMs } = route;
    this.#db.write(`Cannot route port ${port}`, (transaction) => {
      this.#tunnels.require(tunnelId);
      const known = this.#db.one("SELECT * FROM tcp_routes WHERE port = ?", port);
      if (known !== undefined && tunnelIdIn(known, "tunnel_id") !== tunnelId) {
        throw new TunnelError("store.conflict", `Cannot route port ${port}: another tunnel has it`);
      }
      transaction.run(
        `INSERT INTO tcp_routes (port, tunnel_id, hostname, proxy_protocol, created_at_ms) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT (port) DO UPDATE SET hostname = excluded.hostname, proxy_protocol = excluded.proxy_protocol`,
        ...[port, tunnelId, hostname, proxyProtocol ?? null, createdAtMs],
      );
      transaction.audit(actor, "tcp-route.put", String(port), { tunnelId, hostname, proxyProtocol });
      transaction.changed({ kind: "tcp-routes" });
    });
  }

  remove(port: number, actor: Actor): void {
    this.#db.write(`Cannot remove port ${port}`, (transaction) => {
      if (transaction.run("DELETE FROM tcp_routes WHERE port = ?", port) === 0) {
        throw new TunnelError("store.missing", `Cannot remove port ${port}: it leads nowhere`);
      }
      transaction.audit(actor, "tcp-route.delete", String(port));
      transaction.changed({ kind: "tcp-routes" });
    });
  }
}

function toRoute(row: Row): TcpRoute {
  return {
    port: integer(row, "port"),
    tunnelId: tunnelIdIn(row, "tunnel_id"),
    hostname: text(row, "hostname"),
    proxyProtocol:
      optionalText(row, "proxy_protocol") === undefined
        ? undefined
        : oneOf<"v1" | "v2">(row, "proxy_protocol", ["v1", "v2"]),
    createdAtMs: integer(row, "created_at_ms"),
  };
}
