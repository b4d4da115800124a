import { isIP } from "node:net";
import { hostname } from "node:os";
import type { Clock } from "../core/clock.ts";
import { systemCode, TunnelError } from "../core/errors.ts";
import { isLocalName, loopbackHost } from "../net/loopback.ts";
import { chooseFormat, type ExpositionFormat } from "./exposition.ts";
import { withPassword } from "./page-password.ts";
import { cpuProfile, heapSnapshot, profileSeconds } from "./profiles.ts";
import {
  type StatusPage,
  type StatusPages,
  type StatusRequest,
  type StatusServer,
  startStatusServer,
  startStatusSocket,
} from "./status-server.ts";
import { systemInformation } from "./system-information.ts";

/** Ports tried in turn when no address is given, so that several connectors on a host can be found (surface: section 15). */
export const KNOWN_METRICS_PORTS = [20241, 20242, 20243, 20244, 20245] as const;

/** A registered connection to the edge. */
export interface DiagnosedConnection {
  readonly connIndex: number;
  readonly protocol: string;
  readonly edgeIp: string;
}

export interface MetricsSource {
  readonly metrics: (format: ExpositionFormat) => { readonly type: string; readonly body: string };
  readonly tunnelId: string;
  readonly connectorId: string;
  readonly version: string;
  /** Registered connections at this moment. */
  readyConnections(): number;
  connections(): readonly DiagnosedConnection[];
  /** Hostname of a quick tunnel, else empty. */
  readonly quickTunnelHostname: string;
  /** Version and rules in force, as JSON. */
  configuration(): string;
  /** Flags that somebody set, none of them a secret. */
  readonly flags: Readonly<Record<string, string>>;
  readonly clock: Clock;
}

/** Where metrics are served. */
export type MetricsAddress = { readonly host: string; readonly port: number } | { readonly path: string };

export interface MetricsServerOptions {
  /** Undefined = the known ports. */
  readonly address: MetricsAddress | undefined;
  /** `user:password` that pages ask for; probes (`/ready`, `/healthcheck`) stay open. @default nobody is asked */
  readonly auth?: string | undefined;
}

/**
 * Serves what cloudflared does on its metrics address (surface: section 15): `/metrics`, `/ready`, `/healthcheck`, `/quicktunnel`,
 * `/config`, `/diag/*`; and under `/debug/pprof/` profiles of this process, to this machine only. What is inside is told
 * to no other site's page in a browser. An address that was
 * asked for and is taken is an error; without one the known ports of the loopback address are tried, then any free one.
 */
export async function startMetricsServer(source: MetricsSource, options: MetricsServerOptions): Promise<StatusServer> {
  const { address } = options;
  const ownNames = ["localhost", hostname(), ...(address !== undefined && "host" in address ? [address.host] : [])];
  const asked = withPassword((path, request) => page(source, path, request), options.auth);
  const pages: StatusPages = (path, request) => {
    if (INSIDE.test(path) && isForeignPage(request, ownNames)) return FOREIGN_PAGE;
    return asked(path, request);
  };
  if (address !== undefined && "path" in address) return await startStatusSocket(pages, address.path);
  if (address !== undefined) return await startStatusServer(pages, address.host, address.port);
  const host = await loopbackHost();
  for (const port of [...KNOWN_METRICS_PORTS, 0]) {
    try {
      return await startStatusServer(pages, host, port);
    } catch (error) {
      const inUse = error instanceof TunnelError && systemCode(error.cause) === "EADDRINUSE";
      if (!inUse || port === 0) throw error;
    }
  }
  throw new TunnelError("listen.failed", "Cannot listen for metrics: no free port");
}

const TEXT = "text/plain; charset=utf-8";
const JSON_TYPE = "application/json";
/** Pages that tell what is inside this process and its configuration. */
const INSIDE = /^\/(?:config$|diag\/|debug\/)/;
const FOREIGN_PAGE: StatusPage = { status: 403, type: TEXT, body: "This page is not for other sites\n" };

/**
 * Somebody's page in a browser of this machine asks: by what the browser says of it, or by a name that the page made to
 * lead here (DNS rebinding), which cannot be one of our own.
 */
function isForeignPage({ fetchSite, from, host }: StatusRequest, ownNames: readonly string[]): boolean {
  if (fetchSite !== undefined && fetchSite !== "same-origin" && fetchSite !== "none") return true;
  if (from !== "loopback" || host === undefined) return false;
  const name = host.replace(/:\d*$/, "").toLowerCase();
  const literal = name.replace(/^\[(.*)\]$/, "$1");
  return isIP(literal) === 0 && !isLocalName(name) && !ownNames.some((own) => own.toLowerCase() === name);
}

async function page(source: MetricsSource, path: string, request: StatusRequest): Promise<StatusPage | undefined> {
  switch (path) {
    case "/metrics":
      return source.metrics(chooseFormat(request.accept));
    case "/ready": {
      const readyConnections = source.readyConnections();
      const status = readyConnections > 0 ? 200 : 503;
      const body = JSON.stringify({ status, readyConnections, connectorId: source.connectorId });
      return { status, type: JSON_TYPE, body };
    }
    case "/healthcheck":
      return { type: TEXT, body: "OK\n" };
    case "/quicktunnel":
      return { type: JSON_TYPE, body: JSON.stringify({ hostname: source.quickTunnelHostname }) };
    case "/config":
      return { type: JSON_TYPE, body: source.configuration() };
    case "/diag/configuration":
      return json({ ...source.flags, uid: String(process.getuid?.() ?? -1) });
    case "/diag/tunnel":
      return json(tunnelState(source));
    case "/diag/system":
      return json(await systemInformation(source.version));
    default:
      return path.startsWith("/debug/") ? await debugPage(path, request, source.clock) : undefined;
  }
}

function json(value: unknown): StatusPage {
  return { type: JSON_TYPE, body: `${JSON.stringify(value)}\n` };
}

/** Go leaves out what is zero: readers of cloudflared's take a missing index, and a missing protocol (HTTP/2), for 0. */
function tunnelState(source: MetricsSource): unknown {
  return {
    tunnelID: source.tunnelId,
    connectorID: source.connectorId,
    connections: source.connections().map(({ connIndex, protocol, edgeIp }) => ({
      isConnected: true,
      ...(protocol === "quic" ? { protocol: 1 } : {}),
      edgeAddress: edgeIp,
      ...(connIndex === 0 ? {} : { index: connIndex }),
    })),
  };
}

const INDEX = `Profiles of this process:

  /debug/pprof/profile?seconds=10   where it spends its time (.cpuprofile), 60 seconds at most
  /debug/pprof/heap                 what it keeps in memory (.heapsnapshot); it stands still for a moment

Open them in a browser's developer tools, or VS Code.
`;

/** Profiles say more of a process than strangers may know, and cost it time. */
async function debugPage(path: string, request: StatusRequest, clock: Clock): Promise<StatusPage | undefined> {
  if (request.from === "network") return { status: 403, type: TEXT, body: "Profiles are for this machine only\n" };
  switch (path) {
    case "/debug/pprof/cmdline":
      return { status: 403, type: TEXT, body: "forbidden\n" };
    case "/debug/pprof":
    case "/debug/pprof/":
      return { type: TEXT, body: INDEX };
    case "/debug/pprof/profile":
      return await profile("culvert.cpuprofile", () =>
        cpuProfile(profileSeconds(request.query.get("seconds")), clock, request.left),
      );
    case "/debug/pprof/heap":
      return await profile("culvert.heapsnapshot", heapSnapshot);
    case "/debug/requests":
    case "/debug/events":
      return { type: TEXT, body: "This program keeps no such traces; see /metrics, and --log-requests.\n" };
    default:
      return undefined;
  }
}

async function profile(name: string, take: () => Promise<string>): Promise<StatusPage> {
  try {
    const fields = { "Content-Disposition": `attachment; filename="${name}"` };
    return { type: JSON_TYPE, body: await take(), fields };
  } catch (error) {
    if (!(error instanceof TunnelError)) throw error;
    return { status: 429, type: TEXT, body: `${error.message}\n` };
  }
}
