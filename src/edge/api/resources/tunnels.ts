import { randomBytes } from "node:crypto";
import { z } from "zod";
import { parseConnectorId, parseTunnelId, type TunnelId } from "../../../core/ids.ts";
import { activeConnectors } from "../../control/connectors.ts";
import { TunnelName } from "../../names.ts";
import { newTunnel } from "../../store/new-tunnel.ts";
import type { Account, Actor, StoredTunnel } from "../../store/port.ts";
import { MAX_METADATA_BYTES } from "../../store/port.ts";
import { type TunnelStatus, tunnelStatus } from "../../tunnel-status.ts";
import type { ApiDeps } from "../deps.ts";
import {
  type AnyEndpoint,
  endpoint,
  Flag,
  formatTime,
  PAGING,
  paged,
  pageFrom,
  pageOf,
  Time,
  Uuid,
} from "../endpoint.ts";
import { CODE, notFound, Problem } from "../problem.ts";

/** Tunnels, as Cloudflare's API has them (protocol: section 10). */

const SECRET_BYTES = 32;
/** A longer one helps nobody. */
const MAX_SECRET_BYTES = 1_024;
/** Tunnels whose state is worked out for one list by status. */
const MAX_SCANNED = 100_000;

const Connection = z.object({
  id: z.string(),
  uuid: z.string(),
  colo_name: z.string(),
  client_id: z.string(),
  client_version: z.string(),
  origin_ip: z.string(),
  opened_at: z.string(),
  is_pending_reconnect: z.boolean(),
});

const Connector = z.object({
  id: z.string(),
  arch: z.string(),
  version: z.string(),
  features: z.array(z.string()),
  run_at: z.string(),
  conns: z.array(
    z.object({
      id: z.string(),
      colo_name: z.string(),
      conn_index: z.number(),
      origin_ip: z.string(),
      opened_at: z.string(),
      protocol: z.string(),
      is_pending_reconnect: z.boolean(),
    }),
  ),
});

const Tunnel = z.object({
  id: z.string(),
  account_tag: z.string(),
  name: z.string(),
  created_at: z.string(),
  deleted_at: z.string().nullable(),
  connections: z.array(Connection),
  conns_active_at: z.string().nullable(),
  conns_inactive_at: z.string().nullable(),
  status: z.enum(["healthy", "degraded", "down", "inactive"]),
  tun_type: z.literal("cfd_tunnel"),
  config_src: z.enum(["local", "cloudflare"]),
  remote_config: z.boolean(),
  metadata: z.record(z.string(), z.unknown()),
});
type Tunnel = z.infer<typeof Tunnel>;

const Secret = z.string().transform((text, context) => {
  const bytes = Buffer.from(text, "base64");
  const sound = bytes.toString("base64").replace(/=+$/, "") === text.replace(/=+$/, "");
  if (!sound || bytes.length < SECRET_BYTES || bytes.length > MAX_SECRET_BYTES) {
    context.addIssue({ code: "custom", message: `Must be base64 of ${SECRET_BYTES} bytes or more` });
  }
  return new Uint8Array(bytes);
});

const ConfigSource = z.enum(["local", "cloudflare"]).transform((text) => (text === "local" ? "local" : "remote"));

/** What a management token lets its holder see. */
const Resource = z.enum(["logs", "admin", "host_details"]);

const Metadata = z
  .record(z.string(), z.unknown())
  .refine(
    (value) => Buffer.byteLength(JSON.stringify(value)) <= MAX_METADATA_BYTES,
    `Must be at most ${MAX_METADATA_BYTES} bytes`,
  );

export function tunnelEndpoints(deps: ApiDeps): readonly AnyEndpoint[] {
  const { store, registry, clock } = deps;
  const show = (tunnel: StoredTunnel): Tunnel => showTunnel(deps, tunnel);
  const drop = (id: TunnelId, connectorId?: string): number => {
    const gone = registry
      .connections(id)
      .filter((live) => connectorId === undefined || live.connectorId === connectorId);
    for (const live of gone) live.session.close();
    return gone.length;
  };
  const lookInto = async (tunnel: StoredTunnel, resources: readonly string[], actor: Actor): Promise<string> => {
    const token = await deps.managementToken(tunnel, resources, actor.name ?? actor.id);
    store.audit.add(actor, "tunnel.management-token", tunnel.id, { resources });
    return token;
  };

  return [
    endpoint({
      method: "POST",
      path: "/accounts/{account_id}/cfd_tunnel",
      scope: "tunnels:write",
      summary: "Make a tunnel",
      body: z.object({
        name: TunnelName,
        tunnel_secret: Secret.optional(),
        config_src: ConfigSource.default("local"),
        metadata: Metadata.optional(),
      }),
      result: Tunnel.extend({ token: z.string() }),
      handle: ({ account, actor, body }) => {
        const tunnel: StoredTunnel = {
          ...newTunnel(body.name, account.tag, clock.wallMs()),
          configSource: body.config_src,
          metadata: JSON.stringify(body.metadata ?? {}),
        };
        if (store.tunnels.byName(account.tag, body.name) !== undefined) {
          throw new Problem(409, CODE.nameTaken, "You already have a tunnel with this name");
        }
        store.tunnels.add(tunnel, body.tunnel_secret ?? randomBytes(SECRET_BYTES), actor);
        const token = deps.tunnelToken(tunnel);
        if (token === undefined) throw notFound("Tunnel");
        return { result: { ...show(tunnel), token } };
      },
    }),

    endpoint({
      method: "GET",
      path: "/accounts/{account_id}/cfd_tunnel",
      scope: "tunnels:read",
      summary: "List tunnels",
      query: z.object({
        ...PAGING,
        name: z.string().optional(),
        name_prefix: z.string().optional(),
        include_prefix: z.string().optional(),
        exclude_prefix: z.string().optional(),
        uuid: Uuid.optional(),
        is_deleted: Flag.optional(),
        existed_at: Time.optional(),
        status: z.enum(["healthy", "degraded", "down", "inactive"]).optional(),
      }),
      result: z.array(Tunnel),
      handle: ({ account, query }) => {
        const prefix = query.name_prefix ?? query.include_prefix;
        const id = query.uuid === undefined ? undefined : parseTunnelId(query.uuid);
        const filter = {
          accountTag: account.tag,
          ...(query.name === undefined ? {} : { name: query.name }),
          ...(prefix === undefined ? {} : { namePrefix: prefix }),
          ...(query.exclude_prefix === undefined ? {} : { excludePrefix: query.exclude_prefix }),
          ...(id === undefined ? {} : { id }),
          ...(query.is_deleted === undefined ? {} : { deleted: query.is_deleted }),
          ...(query.existed_at === undefined ? {} : { existedAtMs: query.existed_at }),
        };
        if (query.status === undefined) {
          const { items, total } = store.tunnels.find(filter, pageOf(query));
          return paged(items.map(show), total, query);
        }
        // Only the running edge knows who is connected, so the store cannot choose.
        const all = store.tunnels.find(filter, { offset: 0, limit: MAX_SCANNED }).items;
        const reply = pageFrom(
          all.filter((tunnel) => statusOf(deps, tunnel) === query.status),
          query,
        );
        return { ...reply, result: reply.result.map(show) };
      },
    }),

    endpoint({
      method: "GET",
      path: "/accounts/{account_id}/cfd_tunnel/{tunnel_id}",
      scope: "tunnels:read",
      summary: "Show a tunnel",
      result: Tunnel,
      handle: ({ account, params }) => ({ result: show(tunnelOf(deps, account, params, { deleted: true })) }),
    }),

    endpoint({
      method: "PATCH",
      path: "/accounts/{account_id}/cfd_tunnel/{tunnel_id}",
      scope: "tunnels:write",
      summary: "Rename a tunnel, or give it another secret",
      body: z.object({ name: TunnelName.optional(), tunnel_secret: Secret.optional(), metadata: Metadata.optional() }),
      result: Tunnel,
      handle: ({ account, params, body, actor }) => {
        const { id } = tunnelOf(deps, account, params);
        const change = {
          ...(body.name === undefined ? {} : { name: body.name }),
          ...(body.metadata === undefined ? {} : { metadata: JSON.stringify(body.metadata) }),
        };
        if (Object.keys(change).length > 0) store.tunnels.update(id, change, actor);
        if (body.tunnel_secret !== undefined) {
          store.tunnels.rotateSecret(id, body.tunnel_secret, actor);
          // Whoever has only the old one is out.
          drop(id);
        }
        return { result: show(tunnelOf(deps, account, params)) };
      },
    }),

    endpoint({
      method: "DELETE",
      path: "/accounts/{account_id}/cfd_tunnel/{tunnel_id}",
      scope: "tunnels:write",
      summary: "Delete a tunnel and what leads to it",
      query: z.object({ cascade: Flag.default(false) }),
      result: Tunnel,
      handle: ({ account, params, query, actor }) => {
        const { id } = tunnelOf(deps, account, params);
        if (!query.cascade && registry.connections(id).length > 0) {
          throw new Problem(
            400,
            CODE.activeConnections,
            "Cannot delete tunnel because it has active connections: stop its connectors, or delete with cascade (--force)",
          );
        }
        store.tunnels.remove(id, actor);
        drop(id);
        return { result: show(tunnelOf(deps, account, params, { deleted: true })) };
      },
    }),

    endpoint({
      method: "GET",
      path: "/accounts/{account_id}/cfd_tunnel/{tunnel_id}/token",
      scope: "tunnels:write",
      summary: "The token that runs a tunnel",
      result: z.string(),
      handle: ({ account, params }) => {
        const token = deps.tunnelToken(tunnelOf(deps, account, params));
        if (token === undefined) throw notFound("Tunnel");
        return { result: token };
      },
    }),

    endpoint({
      method: "GET",
      path: "/accounts/{account_id}/cfd_tunnel/{tunnel_id}/connections",
      scope: "tunnels:read",
      summary: "The connectors of a tunnel, with their connections",
      query: z.object(PAGING),
      result: z.array(Connector),
      handle: ({ account, params, query }) => {
        const { id } = tunnelOf(deps, account, params);
        return pageFrom(
          activeConnectors(registry.connections(id), deps.location).map((one) => ({
            ...one,
            features: [...one.features],
            conns: [...one.conns],
          })),
          query,
        );
      },
    }),

    endpoint({
      method: "GET",
      path: "/accounts/{account_id}/cfd_tunnel/{tunnel_id}/connectors/{connector_id}",
      scope: "tunnels:read",
      summary: "One connector of a tunnel",
      result: Connector,
      handle: ({ account, params }) => {
        const { id } = tunnelOf(deps, account, params);
        const connector = parseConnectorId(params["connector_id"] ?? "");
        const found = activeConnectors(registry.connections(id), deps.location).find((one) => one.id === connector);
        if (found === undefined) throw notFound("Connector");
        return { result: { ...found, features: [...found.features], conns: [...found.conns] } };
      },
    }),

    endpoint({
      method: "DELETE",
      path: "/accounts/{account_id}/cfd_tunnel/{tunnel_id}/connections",
      scope: "tunnels:write",
      summary: "Close connections of a tunnel: all, or those of one connector",
      query: z.object({ client_id: Uuid.optional() }),
      result: z.null(),
      handle: ({ account, params, query, actor }) => {
        const tunnel = tunnelOf(deps, account, params);
        const count = drop(tunnel.id, query.client_id);
        store.audit.add(actor, "tunnel.cleanup", tunnel.id, { connectorId: query.client_id, count });
        return { result: null };
      },
    }),

    endpoint({
      method: "POST",
      path: "/accounts/{account_id}/cfd_tunnel/{tunnel_id}/management/{resource}",
      scope: "tunnels:write",
      summary: "A token that its holder may see into a tunnel with: logs, admin or host_details",
      result: z.string(),
      handle: async ({ account, params, actor }) => {
        const resource = Resource.safeParse(params["resource"]);
        if (!resource.success) throw notFound("Management resource");
        return { result: await lookInto(tunnelOf(deps, account, params), [resource.data], actor) };
      },
    }),

    endpoint({
      method: "POST",
      path: "/accounts/{account_id}/cfd_tunnel/{tunnel_id}/management",
      scope: "tunnels:write",
      summary: "A token that its holder may see into a tunnel with, for several kinds at once",
      body: z.object({ resources: z.array(Resource).min(1).max(3) }),
      result: z.string(),
      handle: async ({ account, params, actor, body }) => ({
        result: await lookInto(tunnelOf(deps, account, params), body.resources, actor),
      }),
    }),
  ];
}

/** The tunnel of a path, if it is the account's. Throws a Problem of 404. */
export function tunnelOf(
  deps: Pick<ApiDeps, "store">,
  account: Account,
  params: Readonly<Record<string, string>>,
  options: { readonly deleted?: boolean } = {},
): StoredTunnel {
  const id = parseTunnelId(params["tunnel_id"] ?? "");
  const tunnel = id === undefined ? undefined : deps.store.tunnels.get(id);
  if (tunnel === undefined || tunnel.accountTag !== account.tag) throw notFound("Tunnel");
  if (tunnel.deletedAtMs !== undefined && options.deleted !== true) throw notFound("Tunnel");
  return tunnel;
}

function statusOf(deps: ApiDeps, tunnel: StoredTunnel): TunnelStatus {
  const { activeAtMs, inactiveAtMs } = deps.lastChange(tunnel.id);
  return tunnelStatus(deps.registry.connections(tunnel.id), activeAtMs !== undefined || inactiveAtMs !== undefined);
}

function showTunnel(deps: ApiDeps, tunnel: StoredTunnel): Tunnel {
  const connections = deps.registry.connections(tunnel.id);
  const { activeAtMs, inactiveAtMs } = deps.lastChange(tunnel.id);
  return {
    id: tunnel.id,
    account_tag: tunnel.accountTag,
    name: tunnel.name,
    created_at: new Date(tunnel.createdAtMs).toISOString(),
    deleted_at: formatTime(tunnel.deletedAtMs),
    connections: connections.map((live) => ({
      id: live.connectionId,
      uuid: live.connectionId,
      colo_name: deps.location,
      client_id: live.connectorId,
      client_version: live.version.slice(0, 128),
      origin_ip: live.remoteIp,
      opened_at: new Date(live.registeredAtMs).toISOString(),
      is_pending_reconnect: live.draining,
    })),
    conns_active_at: formatTime(activeAtMs),
    conns_inactive_at: formatTime(inactiveAtMs),
    status: statusOf(deps, tunnel),
    tun_type: "cfd_tunnel",
    config_src: tunnel.configSource === "local" ? "local" : "cloudflare",
    remote_config: tunnel.configSource === "remote",
    metadata: z.record(z.string(), z.unknown()).catch({}).parse(JSON.parse(tunnel.metadata)),
  };
}
