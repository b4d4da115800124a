import { readdirSync, rmSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import type { DownloadsOptions } from "../bundle/downloads.ts";
import { MAX_GRACE_PERIOD_MS, parseHostPort } from "../config/run-config.ts";
import { readTracing, type TracingConfig } from "../config/tracing.ts";
import { Values } from "../config/values.ts";
import { systemClock } from "../core/clock.ts";
import { describe, TunnelError } from "../core/errors.ts";
import { formatPublicKey } from "../core/es256.ts";
import type { Logger } from "../core/log.ts";
import { type ControlServer, startControlServer } from "../edge/control/server.ts";
import { type Edge, startEdge } from "../edge/edge.ts";
import { DOMAIN_SHAPE, readDomain } from "../edge/hostname.ts";
import { readManagementHost } from "../edge/management-host.ts";
import { managementKey } from "../edge/management-token.ts";
import type { HttpsSideOptions } from "../edge/public-side.ts";
import { loadSettings } from "../edge/settings-file.ts";
import {
  cookieKey,
  type EdgeState,
  loadAdvertised,
  loadEdgeCertificate,
  openStateDir,
  resetKey,
  saveAdvertised,
  webhookSecret,
} from "../edge/state-dir.ts";
import { lockStateDir } from "../edge/store/lock.ts";
import { openSqliteStore } from "../edge/store/sqlite/index.ts";
import { createTunnelToken } from "../edge/tunnel-token.ts";
import { isLoopbackListen } from "../net/loopback.ts";
import { builtInKeys } from "../update/keys.ts";
import { type Cidr, parseCidr } from "../wire/cidr.ts";
import type { MinisignPublicKey } from "../wire/minisign.ts";
import { type Context, EXIT } from "./command.ts";
import { EDGE_RUN_FLAGS } from "./edge-flags.ts";
import { pickAnyTunnel } from "./edge-pick.ts";
import { type PublicFlags, readPublicFlags } from "./edge-public.ts";
import { stateDirOf } from "./edge-state.ts";
import { logFailure, loggerFor, reportFailure } from "./failure.ts";
import { startNotifier } from "./service-notify.ts";
import { readKeys } from "./update-keys.ts";

const MIN_ALERT_AFTER_MS = 1_000;
/** How long everything stands still for another process that writes, in ms. Callers of the API try again. */
const BUSY_TIMEOUT_MS = 100;

/** Requests whose bodies are kept; each may have 128 KiB of them. */
const MAX_INSPECTED = 10_000;
/** In the state directory: the address of the inspector's page with the key that opens it. */
const INSPECT_FILE = "inspect-url";

interface InspectFlags {
  readonly host: string;
  readonly port: number;
  readonly kept: number;
  /** Names or ids of tunnels. */
  readonly asked: readonly string[];
}

interface EdgeRunOptions extends PublicFlags {
  readonly stateDir: string;
  readonly releaseDir: string | undefined;
  readonly releaseKeys: readonly MinisignPublicKey[];
  readonly api: { readonly host: string; readonly port: number; readonly optional: boolean } | undefined;
  readonly http: { readonly host: string; readonly port: number };
  readonly tunnel: { readonly host: string; readonly port: number };
  readonly location: string;
  readonly domain: string | undefined;
  readonly advertise: readonly string[];
  readonly trustedProxies: readonly Cidr[];
  readonly oncePerConnector: boolean;
  readonly quic: boolean;
  readonly quickTunnels: boolean;
  readonly managementHost: { readonly hostname: string; readonly url?: string } | undefined;
  readonly graceMs: number;
  readonly tcpHost: string | undefined;
  readonly inspect: InspectFlags | undefined;
  readonly tracing: TracingConfig | undefined;
  readonly alerts: { readonly afterMs: number; readonly webhook: string | undefined };
}

/** `culvert edge run`: serves visitors and connectors until it is told to stop. */
export async function run(context: Context): Promise<number> {
  const values = new Values(EDGE_RUN_FLAGS, { args: context.args, env: context.host.env });
  const problems = values.issues.map((issue) => issue.message);
  const options = readOptions(values, context, problems);
  const log = loggerFor(values, context);
  if ("error" in log && typeof log.error === "string") problems.push(log.error);
  if (!("with" in log) || problems.length > 0) {
    return reportFailure(context, problems, { usage: true, command: "culvert edge run" });
  }
  try {
    return await serve(context, options, log);
  } catch (error) {
    return logFailure(context, log, [describe(error)]);
  }
}

function readOptions(values: Values, context: Context, problems: string[]): EdgeRunOptions {
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
  const asked = values.string("domain");
  const domain = asked === undefined ? undefined : readDomain(asked);
  if (asked !== undefined && domain === undefined) problems.push(`--domain "${asked}" must be ${DOMAIN_SHAPE}`);
  const api = values.string("api-listen");
  const graceMs = values.number("grace-period");
  if (graceMs < 0 || graceMs > MAX_GRACE_PERIOD_MS) problems.push("--grace-period must be from 0s to 3m");
  return {
    stateDir: stateDirOf(values, context.host),
    api:
      api === undefined || api === "off"
        ? undefined
        : { ...address("api-listen"), optional: values.source("api-listen") === "default" },
    http: address("http-listen"),
    tunnel: address("tunnel-listen"),
    location,
    domain,
    releaseDir: values.string("release-dir"),
    releaseKeys: [...builtInKeys(), ...readKeys(context, values.list("release-key"), problems, "release-key")],
    advertise: values.list("advertise"),
    trustedProxies,
    oncePerConnector: values.bool("once-per-connector"),
    quic: values.bool("quic"),
    quickTunnels: values.bool("quick-tunnels"),
    managementHost: readManagement(values, problems),
    graceMs,
    tcpHost: values.string("tcp-listen"),
    inspect: readInspect(values, address, problems),
    tracing: readTracing(values, (message) => problems.push(`--${message}`)),
    alerts: readAlerts(values, problems),
    ...readPublicFlags(values, problems),
  };
}

function readManagement(values: Values, problems: string[]): EdgeRunOptions["managementHost"] {
  const asked = values.string("management-hostname");
  const host = asked === undefined ? undefined : readManagementHost(asked);
  if (asked !== undefined && host === undefined) {
    problems.push(`--management-hostname "${asked}" must be ${DOMAIN_SHAPE}, or a URL without a path`);
  }
  return host;
}

function readInspect(
  values: Values,
  address: (flag: string) => { host: string; port: number },
  problems: string[],
): InspectFlags | undefined {
  const asked = values.list("inspect");
  if (asked.length === 0) return undefined;
  const listen = address("inspect-listen");
  const kept = values.number("inspect-keep");
  if (listen.host !== "" && !isLoopbackListen(listen.host)) {
    problems.push("--inspect-listen must be on loopback, such as 127.0.0.1:4040: it shows what visitors send");
  }
  if (kept < 1 || kept > MAX_INSPECTED) problems.push(`--inspect-keep must be from 1 to ${MAX_INSPECTED}`);
  return { ...listen, kept, asked };
}

function readAlerts(values: Values, problems: string[]): EdgeRunOptions["alerts"] {
  const afterMs = values.number("alert-after");
  const webhook = values.string("alert-webhook");
  if (afterMs < MIN_ALERT_AFTER_MS) problems.push("--alert-after must be at least 1s");
  if (webhook !== undefined && !(URL.canParse(webhook) && /^https?:$/.test(new URL(webhook).protocol))) {
    problems.push("--alert-webhook must be a URL such as https://hooks.example.com/culvert");
  }
  return { afterMs, webhook };
}

async function serve(context: Context, asked: EdgeRunOptions, log: Logger): Promise<number> {
  const { created, dir } = openStateDir(asked.stateDir, systemClock.wallMs());
  for (const made of created) log.info(`Made ${made}`);
  using stack = new DisposableStack();
  stack.use(lockStateDir(dir));
  // Read again: a restore may have ended before the lock was there.
  const state = openStateDir(dir, systemClock.wallMs());
  const options = { ...asked, domain: asked.domain ?? loadSettings(state.dir).domain };
  if (options.quickTunnels && options.domain === undefined) {
    throw new TunnelError("config.invalid", "--quick-tunnels needs --domain, below which their hostnames are");
  }
  const store = openSqliteStore(state.databasePath, state.sealingKey, systemClock, { busyTimeoutMs: BUSY_TIMEOUT_MS });
  stack.defer(() => store.close());
  const names = certificateNames(options);
  const { certificate, renewed } = loadEdgeCertificate(state, names, systemClock.wallMs());
  if (renewed) log.info("Made an edge certificate", { names: names.join(",") });
  const renewCertificate = () => {
    const current = loadEdgeCertificate(state, names, systemClock.wallMs());
    return current.renewed ? current.certificate : undefined;
  };
  const edge = await startEdge(
    {
      ...options,
      https: options.https && { ...options.https, internal: internalAuthority(options, state) },
      store,
      certificate,
      renewCertificate,
      resetKey: resetKey(state),
      cookieKey: cookieKey(state),
      releases: releasesOf(options, state, log),
      webhookSecret: webhookSecret(state),
      api: options.api && {
        ...options.api,
        certificate: isLoopbackListen(options.api.host) ? undefined : certificate,
        ca: state.authority.cert,
        key: managementKey(state.sealingKey),
      },
      management: {
        hostname: options.domain === undefined ? undefined : `management.${options.domain}`,
        ...options.managementHost,
        key: managementKey(state.sealingKey),
      },
      inspect: options.inspect && {
        ...options.inspect,
        tunnels: options.inspect.asked.map((name) => pickAnyTunnel(store, name).id),
      },
      tunnelToken: (tunnel) =>
        createTunnelToken(store, tunnel, {
          ...{ addresses: loadAdvertised(state), ca: state.authority.cert },
          managementKey: formatPublicKey(managementKey(state.sealingKey)),
        }),
    },
    { clock: systemClock, log, lostLogLines: () => ({ console: context.console.lines }) },
  );
  saveAdvertised(state, advertised(options, edge.tunnelAddress));
  if (edge.inspector !== undefined) stack.defer(tellInspector(edge.inspector, state.dir, log));
  const control = await startControl(state.dir, edge, options, log);
  log.info("Edge is ready", {
    public: `http://${edge.publicAddress}`,
    https: edge.httpsAddress && `https://${edge.httpsAddress}`,
    metrics: edge.metricsAddress,
    tunnel: edge.tunnelAddress,
    api: edge.apiUrl,
    protocols: edge.protocols.join(","),
    ca: state.caPath,
    tunnels: store.tunnels.find({ deleted: false }, { offset: 0, limit: 0 }).total,
  });
  const notifier = await startNotifier(context.host.env, log);
  stack.defer(() => notifier.close());
  const reload = (): void => {
    const done = notifier.reloading();
    edge.reload();
    done();
  };
  // Before anybody is told that it is ready: where nobody listens, the signal ends the process.
  stack.defer(context.onHangup?.(reload) ?? (() => {}));
  notifier.ready(`Visitors on ${edge.publicAddress}, connectors on ${edge.tunnelAddress}`);
  await stopped(context);
  notifier.stopping();
  log.info(`Initiating graceful shutdown due to signal ${String(context.stop.reason)} ...`);
  await edge.close(options.graceMs);
  await control?.close();
  log.info("Edge stopped");
  return EXIT.ok;
}

/** What installers are handed. Without a key each of them refuses it all, so that is said before the first one asks. */
function releasesOf(
  { releaseDir, releaseKeys: keys }: EdgeRunOptions,
  state: EdgeState,
  log: Logger,
): DownloadsOptions {
  const folder = releaseDir ?? join(state.dir, "releases");
  if (keys.length === 0 && holdsRelease(folder)) {
    log.error("No key is known for the releases, so installers refuse them: name it with --release-key", { folder });
  }
  return { folder, keys };
}

function holdsRelease(folder: string): boolean {
  try {
    return readdirSync(folder).some((name) => name.endsWith("SHA256SUMS"));
  } catch {
    return false;
  }
}

/** What issues certificates to visitors, and for which names of the edge itself. */
function internalAuthority(options: EdgeRunOptions, state: EdgeState): HttpsSideOptions["internal"] {
  if (options.https?.internal !== true) return undefined;
  return { authority: state.authority, own: options.domain === undefined ? [] : [options.domain] };
}

/** The key is for the owner's eyes, so the log has only the file that it is in. Gives what takes the file away. */
function tellInspector(inspector: NonNullable<Edge["inspector"]>, dir: string, log: Logger): () => void {
  const path = join(dir, INSPECT_FILE);
  rmSync(path, { force: true });
  writeFileSync(path, `${inspector.url}\n`, { mode: 0o600, flag: "wx" });
  log.warn("Requests are kept and shown: open the address in the file", { inspect: inspector.address, file: path });
  return () => rmSync(path, { force: true });
}

/** The edge serves without it. */
async function startControl(
  dir: string,
  { registry, numbers }: Edge,
  { location }: EdgeRunOptions,
  log: Logger,
): Promise<ControlServer | undefined> {
  try {
    return await startControlServer({ dir, registry, location, numbers }, { log });
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
