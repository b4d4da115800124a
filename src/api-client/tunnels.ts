import { z } from "zod";
import { parseTunnelId, type TunnelId } from "../core/ids.ts";
import type { ApiClient } from "./client.ts";

/** RFC 3339, or the zero time or nothing for what did not happen. */
const Time = z.string().nullish();

const Id = z.string().transform((text, context): TunnelId => {
  const id = parseTunnelId(text);
  if (id === undefined) context.addIssue({ code: "custom", message: "Not a UUID" });
  return id ?? (text as TunnelId);
});

export const TunnelConnection = z.object({
  colo_name: z.string().default(""),
  id: z.string().default(""),
  is_pending_reconnect: z.boolean().default(false),
  origin_ip: z.string().default(""),
  opened_at: z.string().default(""),
});
export type TunnelConnection = z.infer<typeof TunnelConnection>;

/** A tunnel as the API shows it. */
export const Tunnel = z.object({
  id: Id,
  name: z.string(),
  created_at: z.string(),
  deleted_at: Time,
  connections: z.array(TunnelConnection).nullish(),
});
export type Tunnel = z.infer<typeof Tunnel>;

const CreatedTunnel = Tunnel.extend({ token: z.string().optional() });
export type CreatedTunnel = z.infer<typeof CreatedTunnel>;

/** A connector with its connections. */
export const Connector = z.object({
  id: z.string(),
  features: z.array(z.string()).nullish(),
  version: z.string().default(""),
  arch: z.string().default(""),
  run_at: z.string().default(""),
  conns: z.array(TunnelConnection).nullish(),
});
export type Connector = z.infer<typeof Connector>;

export interface TunnelQuery {
  readonly name?: string | undefined;
  readonly name_prefix?: string | undefined;
  readonly exclude_prefix?: string | undefined;
  readonly uuid?: string | undefined;
  /** RFC 3339. */
  readonly existed_at?: string | undefined;
  /** Undefined = deleted ones too. */
  readonly is_deleted?: boolean | undefined;
}

export function createTunnel(api: ApiClient, name: string, secret: Uint8Array): Promise<CreatedTunnel> {
  const body = { name, tunnel_secret: Buffer.from(secret).toString("base64") };
  return api.call("POST", `${api.account}/cfd_tunnel`, CreatedTunnel, { body });
}

export function listTunnels(api: ApiClient, query: TunnelQuery): Promise<readonly Tunnel[]> {
  return api.list(`${api.account}/cfd_tunnel`, Tunnel, { ...query });
}

export function getTunnel(api: ApiClient, id: TunnelId): Promise<Tunnel> {
  return api.call("GET", `${api.account}/cfd_tunnel/${id}`, Tunnel);
}

export async function listConnectors(api: ApiClient, id: TunnelId): Promise<readonly Connector[]> {
  return await api.list(`${api.account}/cfd_tunnel/${id}/connections`, Connector);
}

/** `cascade`: connections that are open are closed, and routes go too; otherwise they are a reason to refuse. */
export async function deleteTunnel(api: ApiClient, id: TunnelId, cascade: boolean): Promise<void> {
  const query = cascade ? { cascade } : {};
  await api.call("DELETE", `${api.account}/cfd_tunnel/${id}`, z.unknown(), { query });
}

/** Forgets and closes connections: all of them, or those of one connector. */
export async function cleanUpConnections(api: ApiClient, id: TunnelId, connectorId: string | undefined): Promise<void> {
  const query = { client_id: connectorId };
  await api.call("DELETE", `${api.account}/cfd_tunnel/${id}/connections`, z.unknown(), { query });
}

export function tunnelToken(api: ApiClient, id: TunnelId): Promise<string> {
  return api.call("GET", `${api.account}/cfd_tunnel/${id}/token`, z.string());
}

/** A token to look into a tunnel with (protocol: section 8). */
export function managementToken(
  api: ApiClient,
  id: TunnelId,
  resource: "logs" | "admin" | "host_details",
): Promise<string> {
  return api.call("POST", `${api.account}/cfd_tunnel/${id}/management/${resource}`, z.string());
}

const DnsRoute = z.object({ cname: z.string(), name: z.string() });

/** Leads a hostname to a tunnel; `cname` is `new`, `updated` or `unchanged`. */
export function routeDns(
  api: ApiClient,
  id: TunnelId,
  hostname: string,
  overwrite: boolean,
): Promise<z.infer<typeof DnsRoute>> {
  const body = { type: "dns", user_hostname: hostname, overwrite_existing: overwrite };
  return api.call("PUT", `${api.zone}/tunnels/${id}/routes`, DnsRoute, { body });
}

const BalancerRoute = z.object({ load_balancer: z.string(), pool: z.string() });

/** Puts a tunnel into a pool of a load balancer, making both where they are missing. */
export function routeBalancer(
  api: ApiClient,
  id: TunnelId,
  hostname: string,
  pool: string,
): Promise<z.infer<typeof BalancerRoute>> {
  const body = { type: "lb", lb_name: hostname, lb_pool: pool };
  return api.call("PUT", `${api.zone}/tunnels/${id}/routes`, BalancerRoute, { body });
}

/** Whether a time of the API means that something happened; Go writes its zero time for what did not. */
export function happened(time: string | null | undefined): boolean {
  return time !== null && time !== undefined && time !== "" && !time.startsWith("0001-01-01");
}
