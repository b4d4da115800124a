import { systemClock } from "../core/clock.ts";
import { TunnelError } from "../core/errors.ts";
import type { Store, StoredTunnel, TcpRoute } from "../edge/store/port.ts";
import { parseRemoteRules } from "../ingress/remote-rules.ts";
import type { Context } from "./command.ts";
import { pickTunnel, readHostname } from "./edge-pick.ts";
import { withEdgeState } from "./edge-state.ts";
import { ROUTE_TCP_FLAGS, TRAFFIC_FLAGS } from "./edge-traffic-flags.ts";
import { positionals, renderTable, UsageError } from "./management.ts";
import { operator } from "./operator.ts";

/** Services that carry plain bytes. */
const SERVICE = /^(tcp|ssh|rdp|smb):\/\/[^/\s]+$/;
const FALLBACK = { service: "http_status:404" };

/** `culvert edge route tcp PORT TUNNEL HOSTNAME|SERVICE`. */
export function tcp(context: Context): Promise<number> {
  return withEdgeState(context, "edge route tcp", ROUTE_TCP_FLAGS, { make: false }, ({ store, values }) => {
    const [portText, named, where] = positionals(context, ["PORT", "TUNNEL", "HOSTNAME|SERVICE"]);
    const port = readPort(portText);
    const version = values.string("proxy-protocol");
    if (version !== undefined && version !== "v1" && version !== "v2") {
      throw new UsageError(`--proxy-protocol "${version}" must be v1 or v2`);
    }
    const isService = where.includes("://");
    if (isService && !SERVICE.test(where))
      throw new UsageError(`"${where}" must be a service such as tcp://localhost:5432`);
    const hostname = isService ? ownHostname(port) : readHostname(where);
    if (hostname === undefined || hostname.startsWith("*")) {
      throw new UsageError(`"${where}" is neither a hostname nor a service such as tcp://localhost:5432`);
    }
    const tunnel = pickTunnel(store, named);
    if (isService) checkManaged(store, tunnel, where);
    const route: TcpRoute = {
      ...{ port, tunnelId: tunnel.id, hostname, proxyProtocol: version },
      createdAtMs: systemClock.wallMs(),
    };
    store.tcpRoutes.add(route, operator());
    if (isService) putRule(store, tunnel, { hostname, service: where });
    if (values.bool("json")) context.print(JSON.stringify(show(store, route)));
    else context.note(`Port ${port} leads to ${isService ? where : hostname} behind tunnel ${tunnel.name}`);
  });
}

/** `culvert edge route tcp list`. */
export function list(context: Context): Promise<number> {
  return withEdgeState(context, "edge route tcp list", TRAFFIC_FLAGS, { make: false }, ({ store, values }) => {
    positionals(context, []);
    const routes = store.tcpRoutes.list().map((route) => show(store, route));
    if (values.bool("json")) context.print(JSON.stringify(routes));
    else if (routes.length === 0) context.note("No port leads anywhere yet: see culvert edge route tcp --help");
    else {
      const rows = routes.map((route) => [
        ...[String(route.port), route.tunnel, route.hostname, route.proxyProtocol ?? "-", route.createdAt],
      ]);
      const head = ["PORT", "TUNNEL", "HOSTNAME", "PROXY PROTOCOL", "CREATED"];
      for (const line of renderTable([head, ...rows])) context.print(line);
    }
  });
}

/** `culvert edge route tcp delete PORT`. */
export function remove(context: Context): Promise<number> {
  return withEdgeState(context, "edge route tcp delete", TRAFFIC_FLAGS, { make: false }, ({ store }) => {
    const [portText] = positionals(context, ["PORT"]);
    const port = readPort(portText);
    const route = store.tcpRoutes.list().find((each) => each.port === port);
    store.tcpRoutes.remove(port, operator());
    const tunnel = route === undefined ? undefined : store.tunnels.get(route.tunnelId);
    if (route?.hostname === ownHostname(port) && tunnel?.configSource === "remote") putRule(store, tunnel, route);
    context.note(`Port ${port} leads nowhere any more`);
  });
}

/** What the rule of a port is called where its owner gave no name. */
function ownHostname(port: number): string {
  return `port-${port}.tcp.internal`;
}

function readPort(text: string): number {
  const port = /^[0-9]{1,5}$/.test(text) ? Number(text) : 0;
  if (port < 1 || port > 65_535) throw new UsageError(`"${text}" must be a port from 1 to 65535`);
  return port;
}

function checkManaged(store: Store, { id, name, configSource }: StoredTunnel, service: string): void {
  if (configSource === "remote" || store.configurations.current(id) !== undefined) return;
  throw new TunnelError(
    "config.invalid",
    `The rules of tunnel "${name}" are in its connectors' config files: add {hostname: NAME, service: "${service}"} there, and give NAME instead`,
  );
}

/** Writes the rule of a hostname in front of the others; without a service takes it away. */
function putRule(
  store: Store,
  tunnel: StoredTunnel,
  rule: { readonly hostname: string; readonly service?: string },
): void {
  const current = JSON.parse(store.configurations.current(tunnel.id)?.config ?? "{}") as {
    readonly ingress?: readonly { readonly hostname?: string }[];
  };
  const others = (current.ingress ?? [FALLBACK]).filter(
    (other) => !("hostname" in other) || other.hostname !== rule.hostname,
  );
  const { hostname, service } = rule;
  const ingress = service === undefined ? others : [{ hostname, service }, ...others];
  const text = JSON.stringify({ ...current, ingress });
  const parsed = parseRemoteRules(text);
  if ("errors" in parsed) throw new TunnelError("config.invalid", `Cannot add the rule: ${parsed.errors.join("; ")}`);
  store.configurations.put(tunnel.id, text, operator());
}

function show(store: Store, { port, tunnelId, hostname, proxyProtocol, createdAtMs }: TcpRoute) {
  return {
    ...{ port, tunnelId, tunnel: store.tunnels.get(tunnelId)?.name ?? tunnelId, hostname },
    ...{ proxyProtocol: proxyProtocol ?? null, createdAt: new Date(createdAtMs).toISOString() },
  };
}
