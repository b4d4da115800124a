import { get } from "node:http";
import { LOOPBACK_HOSTS } from "../net/loopback.ts";
import { KNOWN_METRICS_PORTS } from "../ops/metrics-server.ts";

/** Bytes of one page that are read. */
const MAX_PAGE_BYTES = 64 * 1024 * 1024;

/** Where a connector's metrics server is: a port, or a unix socket. */
export type StatusAddress = { readonly host: string; readonly port: number } | { readonly path: string };

export interface Page {
  readonly status: number;
  readonly body: Uint8Array;
}

interface FetchOptions {
  readonly timeoutMs: number;
  /** `user:password`, for servers that ask for it; it goes to no other address than the one that is asked. */
  readonly auth?: string | undefined;
}

/** Fetches a page of a connector's metrics server; proxies of the environment are not used. Undefined = it cannot be had. */
export function fetchPage(address: StatusAddress, path: string, options: FetchOptions): Promise<Page | undefined> {
  const where = "path" in address ? { socketPath: address.path } : address;
  return new Promise((resolve) => {
    const headers =
      options.auth === undefined ? {} : { Authorization: `Basic ${Buffer.from(options.auth).toString("base64")}` };
    const request = get({ ...where, path, headers, agent: false }, (response) => {
      const chunks: Uint8Array[] = [];
      let length = 0;
      response.on("data", (chunk: Uint8Array) => {
        length += chunk.length;
        chunks.push(chunk);
        if (length > MAX_PAGE_BYTES) request.destroy();
      });
      response.on("end", () => done({ status: response.statusCode ?? 0, body: Buffer.concat(chunks) }));
      response.on("error", () => done(undefined));
      response.on("close", () => done(undefined));
    });
    const timer = setTimeout(() => {
      request.destroy();
      done(undefined);
    }, options.timeoutMs);
    const done = (page: Page | undefined): void => {
      clearTimeout(timer);
      resolve(page);
    };
    request.on("error", () => done(undefined));
  });
}

/** Where to look for a connector. */
export interface Place {
  readonly address: StatusAddress;
  /** `user:password` to send there; undefined = none, for whoever listens there was not named. */
  readonly auth: string | undefined;
}

/** A connector that runs on this machine, as its metrics server tells. */
export interface LocalConnector extends Place {
  readonly connectorId: string;
  readonly readyConnections: number;
  /** Undefined = it does not say. */
  readonly tunnelId: string | undefined;
  /** Undefined = it does not say, or is no program of ours. */
  readonly version: string | undefined;
  /** Files and sockets that it may have open at once; undefined = it does not say. */
  readonly maxFiles: number | undefined;
  /** It asks for a password, and got none that it takes. */
  readonly denied: boolean;
}

/** What `/ready` says. */
export interface Readiness {
  readonly status: number;
  readonly readyConnections: number;
  readonly connectorId: string;
}

/** Asks whether a connector is ready; undefined = there is none. */
export async function readReadiness(address: StatusAddress, timeoutMs: number): Promise<Readiness | undefined> {
  const page = await fetchPage(address, "/ready", { timeoutMs });
  const { readyConnections, connectorId } = fieldsOf(page);
  if (page === undefined || typeof readyConnections !== "number" || typeof connectorId !== "string") return undefined;
  return { status: page.status, readyConnections, connectorId };
}

/** The connectors at these places, asked all at once. */
export async function findConnectors(places: readonly Place[], timeoutMs: number): Promise<readonly LocalConnector[]> {
  const found = await Promise.all(places.map((place) => lookAt(place, timeoutMs)));
  const byId = new Map<string, LocalConnector>();
  for (const one of found) if (one !== undefined && !byId.has(one.connectorId)) byId.set(one.connectorId, one);
  return [...byId.values()];
}

/**
 * The address that was configured, and the known ports of this machine. The password is for the configured one: anybody
 * may listen at the others.
 */
export function placesToLook(configured: StatusAddress | undefined, auth?: string): readonly Place[] {
  const known = LOOPBACK_HOSTS.flatMap((host) =>
    KNOWN_METRICS_PORTS.map((port) => ({ address: { host, port }, auth: undefined })),
  );
  if (configured === undefined || ("port" in configured && configured.port === 0)) return known;
  return [{ address: reachable(configured), auth }, ...known];
}

/** An address to listen at, as one to connect to. */
function reachable(address: StatusAddress): StatusAddress {
  if ("path" in address) return address;
  const { host, port } = address;
  return { host: host === "0.0.0.0" || host === "localhost" ? "127.0.0.1" : host === "::" ? "::1" : host, port };
}

async function lookAt({ address, auth }: Place, timeoutMs: number): Promise<LocalConnector | undefined> {
  const ready = await readReadiness(address, timeoutMs);
  if (ready === undefined) return undefined;
  const options = { timeoutMs, auth };
  const [tunnel, metrics] = await Promise.all([
    fetchPage(address, "/diag/tunnel", options),
    fetchPage(address, "/metrics", options),
  ]);
  const { tunnelID } = fieldsOf(tunnel);
  const text = metrics?.status === 200 ? new TextDecoder().decode(metrics.body) : "";
  const info = /^build_info\{([^}\n]*)\}/m.exec(text)?.[1] ?? "";
  // cloudflared says which Go it was made with.
  const version = /goversion="go/.test(info) ? undefined : /(?:^|,)version="([^"\n]*)"/.exec(info)?.[1];
  const maxFiles = /^process_max_fds (\d[\d.e+]*)$/m.exec(text)?.[1];
  const { connectorId, readyConnections } = ready;
  return {
    ...{ address, auth, connectorId, readyConnections, version, denied: tunnel?.status === 401 },
    maxFiles: maxFiles === undefined ? undefined : Number(maxFiles),
    tunnelId: tunnel?.status === 200 && typeof tunnelID === "string" ? tunnelID : undefined,
  };
}

/** The members of a JSON object; none where there is no such thing. */
export function fieldsOf(page: Page | undefined): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = page === undefined ? undefined : JSON.parse(new TextDecoder().decode(page.body));
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}
