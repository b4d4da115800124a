import { hostname } from "node:os";
import { parseHostPort } from "../config/run-config.ts";
import { Values } from "../config/values.ts";
import { systemClock } from "../core/clock.ts";
import { describe, TunnelError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import { type ControlServer, startControlServer } from "../edge/control/server.ts";
import { startEdge } from "../edge/edge.ts";
import type { Registry } from "../edge/registry.ts";
import { loadEdgeCertificate, openStateDir, resetKey, saveAdvertised } from "../edge/state-dir.ts";
import { openSqliteStore } from "../edge/store/sqlite.ts";
import { type Cidr, parseCidr } from "../wire/cidr.ts";
import { type Context, EXIT } from "./command.ts";
import { EDGE_RUN_FLAGS } from "./edge-flags.ts";
import { loggerFor, reportError, reportFailure } from "./failure.ts";
import { startNotifier } from "./service-notify.ts";

interface EdgeRunOptions {
  readonly stateDir: string;
  readonly http: { readonly host: string; readonly port: number };
  readonly tunnel: { readonly host: string; readonly port: number };
  readonly location: string;
  readonly domain: string | undefined;
  readonly advertise: readonly string[];
  readonly trustedProxies: readonly Cidr[];
  readonly oncePerConnector: boolean;
  readonly quic: boolean;
  readonly graceMs: number;
}

/** `culvert edge run`: serves visitors and connectors until it is told to stop. */
export async function run(context: Context): Promise<number> {
  const values = new Values(EDGE_RUN_FLAGS, { args: context.args, env: context.host.env });
  const problems = values.issues.map((issue) => issue.message);
  const options = readOptions(values, problems);
  const log = loggerFor(values, context);
  if ("error" in log && typeof log.error === "string") problems.push(log.error);
  if (options === undefined || !("with" in log) || problems.length > 0) {
    return reportFailure(context, problems, { usage: true, command: "culvert edge run" });
  }
  try {
    return await serve(context, options, log);
  } catch (error) {
    return reportError(context, error);
  }
}

function readOptions(values: Values, problems: string[]): EdgeRunOptions | undefined {
  const stateDir = values.string("state-dir");
  if (stateDir === undefined) problems.push("Nothing says where the edge keeps its state: give --state-dir DIR");
  const address = (flag: string): { host: string; port: number } => {
    const text = values.string(flag) ?? "";
    const parsed = parseHostPort(text.startsWith(":") ? `0.0.0.0${text}` : text);
    if (parsed === undefined) problems.push(`--${flag} "${text}" must be HOST:PORT, such as 0.0.0.0:8080`);
    return parsed ?? { host: "", port: 0 };
  };
  const trustedProxies = values.list("trusted-proxy").flatMap((text) => {
    const block = parseCidr(text);
    if (block === undefined)
      problems.push(`--trusted-proxy "${text}" must be an address or a block such as 10.0.0.0/8`);
    return block === undefined ? [] : [block];
  });
  const location = values.string("location") ?? "";
  if (!/^[A-Za-z0-9-]{1,32}$/.test(location)) problems.push("--location must be letters, digits and hyphens");
  const options = {
    http: address("http-listen"),
    tunnel: address("tunnel-listen"),
    location,
    domain: values.string("domain"),
    advertise: values.list("advertise"),
    trustedProxies,
    oncePerConnector: values.bool("once-per-connector"),
    quic: values.bool("quic"),
    graceMs: values.number("grace-period"),
  };
  return stateDir === undefined ? undefined : { stateDir, ...options };
}

async function serve(context: Context, options: EdgeRunOptions, log: Logger): Promise<number> {
  const state = openStateDir(options.stateDir, systemClock.wallMs());
  for (const made of state.created) log.info(`Made ${made}`);
  const store = openSqliteStore(state.databasePath, state.sealingKey);
  try {
    const names = certificateNames(options);
    const { certificate, renewed } = loadEdgeCertificate(state, names, systemClock.wallMs());
    if (renewed) log.info("Made an edge certificate", { names: names.join(",") });
    const renewCertificate = () => {
      const current = loadEdgeCertificate(state, names, systemClock.wallMs());
      return current.renewed ? current.certificate : undefined;
    };
    const edge = await startEdge(
      { ...options, store, certificate, renewCertificate, resetKey: resetKey(state) },
      { clock: systemClock, log },
    );
    saveAdvertised(state, advertised(options, edge.tunnelAddress));
    const control = await startControl(state.dir, edge.registry, options, log);
    log.info("Edge is ready", {
      public: `http://${edge.publicAddress}`,
      tunnel: edge.tunnelAddress,
      protocols: edge.protocols.join(","),
      ca: state.caPath,
      tunnels: store.tunnels().length,
    });
    const notifier = await startNotifier(context.host.env, log);
    notifier.ready(`Visitors on ${edge.publicAddress}, connectors on ${edge.tunnelAddress}`);
    await stopped(context);
    notifier.stopping();
    log.info(`Initiating graceful shutdown due to signal ${String(context.stop.reason)} ...`);
    await edge.close(options.graceMs);
    await control?.close();
    notifier.close();
    log.info("Edge stopped");
    return EXIT.ok;
  } finally {
    store.close();
  }
}

/** The edge serves without it. */
async function startControl(
  dir: string,
  registry: Registry,
  { location }: EdgeRunOptions,
  log: Logger,
): Promise<ControlServer | undefined> {
  try {
    return await startControlServer({ dir, registry, location }, { log });
  } catch (error) {
    log.warn("Cannot tell culvert edge tunnel info who is connected", { error: describe(error) });
    return undefined;
  }
}

function stopped(context: Context): Promise<void> {
  return new Promise((resolve) => {
    if (context.stop.aborted) resolve();
    else context.stop.addEventListener("abort", () => resolve(), { once: true });
  });
}

function certificateNames(options: EdgeRunOptions): string[] {
  const { domain, tunnel, advertise } = options;
  const listed = advertise.map((address) => parseHostPort(address)?.host).filter((host) => host !== undefined);
  const own = isWildcard(tunnel.host) ? [hostname()] : [tunnel.host];
  return [...(domain === undefined ? [] : [domain, `*.${domain}`]), ...listed, ...own];
}

/** Where tokens send connectors: what was asked for, else the domain, else the address itself. */
function advertised(options: EdgeRunOptions, bound: string): readonly string[] {
  if (options.advertise.length > 0) return options.advertise;
  const parsed = parseHostPort(bound);
  if (parsed === undefined) throw new TunnelError("listen.failed", `Cannot read the bound address "${bound}"`);
  const host = options.domain ?? (isWildcard(options.tunnel.host) ? hostname() : undefined);
  return [host === undefined ? bound : `${host}:${parsed.port}`];
}

function isWildcard(host: string): boolean {
  return host === "0.0.0.0" || host === "::";
}
