import { z } from "zod";
import type { CallOrigin } from "../api/app.ts";
import type { CallBudget } from "../api/rate-limit.ts";

/** Calls of the API, as whoever signed in: by the same way, with the same limits, scopes and audit log. */
export type ApiFetch = (path: string, init: RequestInit, from: CallOrigin) => Response | Promise<Response>;

/** What the API refused a call with. */
export class ApiRefusal extends Error {
  override readonly name = "ApiRefusal";
  readonly status: number;
  /** What the API wants to be told with it: when to come back. */
  readonly headers: Readonly<Record<string, string>>;

  constructor(status: number, message: string, headers: Readonly<Record<string, string>> = {}) {
    super(message);
    this.status = status;
    this.headers = headers;
  }
}

const Envelope = z.object({
  success: z.boolean(),
  errors: z.array(z.object({ message: z.string() })),
  result: z.unknown(),
  result_info: z.object({ total_count: z.number() }).optional(),
});

const Zone = z.object({ id: z.string(), name: z.string() });
const Tunnel = z.object({
  id: z.string(),
  name: z.string(),
  status: z.enum(["healthy", "degraded", "down", "inactive"]),
  created_at: z.string(),
  deleted_at: z.string().nullable(),
  conns_active_at: z.string().nullable(),
  conns_inactive_at: z.string().nullable(),
  connections: z.array(z.object({ client_id: z.string() })),
  remote_config: z.boolean(),
});
const Connector = z.object({
  id: z.string(),
  version: z.string(),
  arch: z.string(),
  run_at: z.string(),
  conns: z.array(
    z.object({
      conn_index: z.number(),
      origin_ip: z.string(),
      protocol: z.string(),
      is_pending_reconnect: z.boolean(),
    }),
  ),
});
const Hostname = z.object({ hostname: z.string(), tunnel_id: z.string().nullable() });
const Configuration = z.object({ version: z.number(), config: z.record(z.string(), z.unknown()).nullable() });

export type ZoneView = z.infer<typeof Zone>;
export type TunnelView = z.infer<typeof Tunnel>;
export type ConnectorView = z.infer<typeof Connector>;
export type ConfigurationView = z.infer<typeof Configuration>;

/** A hostname, and the zone that it is in. */
export interface HostnameView {
  readonly hostname: string;
  readonly zoneId: string;
}

/** Hostnames of one tunnel that are shown. */
export const MAX_HOSTNAMES = 200;
/** Zones that are looked through for them. */
const MAX_ZONES = 20;

/** What can be a token at all; anything else does not even go into a header. */
const SECRET = /^[\x21-\x7e]{1,512}$/;

export interface ApiCallerOptions {
  readonly secret: string;
  readonly account: string;
  readonly ip: string;
  /** @default "calls" */
  readonly budget?: CallBudget;
}

/** The calls that the dashboard makes. Each rejects with an ApiRefusal. */
export class ApiCaller {
  readonly #fetch: ApiFetch;
  readonly #secret: string;
  readonly #account: string;
  readonly #from: CallOrigin;

  constructor(fetch: ApiFetch, who: ApiCallerOptions) {
    this.#fetch = fetch;
    this.#secret = who.secret;
    this.#account = who.account;
    this.#from = { ip: who.ip, budget: who.budget ?? "calls" };
  }

  /** The account of a token. The API refuses what cannot be one, too: it keeps count of wrong tokens. */
  static async accountOf(fetch: ApiFetch, secret: string, ip: string): Promise<string> {
    const caller = new ApiCaller(fetch, { secret: SECRET.test(secret) ? secret : "", account: "", ip });
    const { result } = await caller.#call("GET", "/accounts", z.array(z.object({ id: z.string() })).min(1));
    return result[0]?.id ?? "";
  }

  async tunnels(page: number, perPage: number, prefix: string): Promise<{ tunnels: TunnelView[]; total: number }> {
    const query = new URLSearchParams({ is_deleted: "false", page: String(page), per_page: String(perPage) });
    if (prefix !== "") query.set("name_prefix", prefix);
    const { result, total } = await this.#call("GET", `${this.#tunnels}?${query}`, z.array(Tunnel));
    return { tunnels: result, total };
  }

  async tunnel(id: string): Promise<TunnelView> {
    return (await this.#call("GET", `${this.#tunnels}/${encodeURIComponent(id)}`, Tunnel)).result;
  }

  async createTunnel(name: string): Promise<string> {
    const { result } = await this.#call("POST", this.#tunnels, z.object({ id: z.string() }), { name });
    return result.id;
  }

  async deleteTunnel(id: string, cascade: boolean): Promise<void> {
    await this.#call("DELETE", `${this.#tunnels}/${encodeURIComponent(id)}?cascade=${cascade}`, z.unknown());
  }

  async connectors(id: string): Promise<ConnectorView[]> {
    const path = `${this.#tunnels}/${encodeURIComponent(id)}/connections`;
    return (await this.#call("GET", path, z.array(Connector))).result;
  }

  async tunnelToken(id: string): Promise<string> {
    return (await this.#call("GET", `${this.#tunnels}/${encodeURIComponent(id)}/token`, z.string())).result;
  }

  async logToken(id: string): Promise<string> {
    const path = `${this.#tunnels}/${encodeURIComponent(id)}/management/logs`;
    return (await this.#call("POST", path, z.string())).result;
  }

  async zones(): Promise<ZoneView[]> {
    return (await this.#call("GET", `/zones?per_page=${MAX_ZONES}`, z.array(Zone))).result;
  }

  async hostnames(id: string, zones: readonly ZoneView[]): Promise<HostnameView[]> {
    const found: HostnameView[] = [];
    for (const zone of zones) {
      const query = new URLSearchParams({ tunnel_id: id, per_page: String(MAX_HOSTNAMES) });
      const { result } = await this.#call("GET", `/zones/${zone.id}/hostnames?${query}`, z.array(Hostname));
      found.push(...result.map(({ hostname }) => ({ hostname, zoneId: zone.id })));
    }
    return found;
  }

  async addHostname(id: string, zoneId: string, hostname: string): Promise<void> {
    const path = `/zones/${encodeURIComponent(zoneId)}/tunnels/${encodeURIComponent(id)}/routes`;
    await this.#call("PUT", path, z.unknown(), { type: "dns", user_hostname: hostname, overwrite_existing: false });
  }

  async deleteHostname(zoneId: string, hostname: string): Promise<void> {
    const path = `/zones/${encodeURIComponent(zoneId)}/hostnames/${encodeURIComponent(hostname)}`;
    await this.#call("DELETE", path, z.unknown());
  }

  async configuration(id: string): Promise<ConfigurationView> {
    const path = `${this.#tunnels}/${encodeURIComponent(id)}/configurations`;
    return (await this.#call("GET", path, Configuration)).result;
  }

  async putConfiguration(id: string, config: unknown): Promise<number> {
    const path = `${this.#tunnels}/${encodeURIComponent(id)}/configurations`;
    return (await this.#call("PUT", path, Configuration, { config })).result.version;
  }

  get #tunnels(): string {
    return `/accounts/${encodeURIComponent(this.#account)}/cfd_tunnel`;
  }

  async #call<T>(
    method: string,
    path: string,
    shape: z.ZodType<T>,
    body?: unknown,
  ): Promise<{ readonly result: T; readonly total: number }> {
    const headers = { Authorization: `Bearer ${this.#secret}`, "Content-Type": "application/json" };
    const sent = body === undefined ? {} : { body: JSON.stringify(body) };
    const answer = await this.#fetch(path, { method, headers, ...sent }, this.#from);
    const envelope = Envelope.parse(await answer.json());
    if (!envelope.success) {
      const retryAfter = answer.headers.get("retry-after");
      const said = envelope.errors.map(({ message }) => message).join("; ");
      throw new ApiRefusal(answer.status, said, retryAfter === null ? {} : { "Retry-After": retryAfter });
    }
    return { result: shape.parse(envelope.result), total: envelope.result_info?.total_count ?? 0 };
  }
}
