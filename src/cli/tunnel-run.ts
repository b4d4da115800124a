import { writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { buildRunConfig, type RunConfig } from "../config/run-config.ts";
import { startConnector } from "../connector/connector.ts";
import { createSystemDns } from "../connector/discovery/dns.ts";
import { createFindAddresses, maxConnections } from "../connector/edges.ts";
import { goArch } from "../connector/identity.ts";
import { LiveRoutes } from "../connector/live-routes.ts";
import { RoutesError } from "../connector/routes.ts";
import { systemClock, systemRandom } from "../core/clock.ts";
import { describe } from "../core/errors.ts";
import { newConnectorId, type TunnelId } from "../core/ids.ts";
import { createLogger, type Logger } from "../core/log.ts";
import { VERSION } from "../core/version.ts";
import type { SlotEnd } from "../supervisor/model.ts";
import { type Context, EXIT } from "./command.ts";
import { wayToEdge } from "./edge-way.ts";
import { logFailure, reportFailure } from "./failure.ts";
import { findTunnel, withApi } from "./management.ts";
import { openRunLogs, type RunLogs } from "./run-logs.ts";
import { startPrechecks } from "./run-prechecks.ts";
import { startNotifier } from "./service-notify.ts";
import { nameWithoutId } from "./tunnel-name.ts";
import { placeProblems, reloadOnChange } from "./tunnel-reload.ts";
import { TunnelSuccession } from "./tunnel-succession.ts";

/** `culvert tunnel run`: serves a tunnel until it is told to stop. `quickHostname`: where a quick tunnel is seen. */
export async function run(context: Context, quickHostname?: string): Promise<number> {
  const named = await nameToId(context);
  if (typeof named === "number") return named;
  const built = buildRunConfig(context.host, context.args, named);
  if (built.kind === "failed") {
    for (const { text } of built.warnings) context.note(`culvert: warning: ${text}`);
    return reportFailure(context, built.errors, { usage: built.usage, command: "culvert tunnel run" });
  }
  const { config } = built;
  let logs: RunLogs;
  try {
    const secrets = context.args.get("token") ?? [];
    logs = await openRunLogs(config, {
      ...{ env: context.host.env, secrets, clock: systemClock },
      console: context.console,
    });
  } catch (error) {
    const { logLevel: level, logFormat: format } = config;
    const bare = createLogger({ level, format, wallMs: systemClock.wallMs, write: context.note });
    return logFailure(context, bare, [describe(error)]);
  }
  const { log } = logs;
  for (const { text } of built.warnings) log.warn(text);
  try {
    return await serve(context, config, logs, quickHostname);
  } catch (error) {
    const problems = error instanceof RoutesError ? placeProblems(error.problems, config) : [describe(error)];
    logs.flush();
    return logFailure(context, log, problems);
  } finally {
    await logs.close();
  }
}

/** The positional arguments, a tunnel's name replaced by its id. */
async function nameToId(context: Context): Promise<readonly string[] | number> {
  const name = nameWithoutId(context);
  if (name === undefined) return context.positionals;
  let id: TunnelId | undefined;
  const code = await withApi(context, "tunnel run", [], async ({ api }) => {
    id = await findTunnel(api, name);
  });
  return id === undefined ? code : [id, ...context.positionals.slice(1)];
}

async function serve(
  context: Context,
  config: RunConfig,
  logs: RunLogs,
  quickTunnelHostname: string | undefined,
): Promise<number> {
  const { log, transportLog, requestLog, live, setLevel: setLogLevel, lostLines } = logs;
  const succession = new TunnelSuccession(context, { clock: systemClock, log });
  const isBridge = succession.part.kind === "bridge";
  const connectorId = newConnectorId();
  const routes = new LiveRoutes(config.rules, {
    clock: systemClock,
    tags: [["ID", connectorId], ...config.tags],
    readFile: (path) => context.host.readFile(path),
    log,
  });
  log.info(`Starting tunnel tunnelID=${config.tunnelId}`);
  log.info(`Version ${VERSION} (${goArch(process.platform, process.arch)})`);
  if (config.settings.length > 0) {
    log.info(`Settings: map[${config.settings.map(({ name, value }) => `${name}:${value}`).join(" ")}]`);
  }
  log.info(`Generated Connector ID: ${connectorId}`);
  const { edge } = config;
  const { isProxied, proxy, target, transports } = wayToEdge(config);
  if (transports === undefined) {
    logFailure(context, log, ["QUIC cannot go through a proxy: use --protocol http2, or auto"]);
    return EXIT.usage;
  }
  log.info(`Initial protocol ${transports[0].name}`);
  if (proxy !== undefined) {
    const skipped = config.protocol === "auto" ? "; QUIC is skipped, since it cannot go through one" : "";
    log.info(`Connecting to the edge through ${proxy.kind} proxy ${proxy.host}:${proxy.port}${skipped}`);
  }
  const findAddresses = createFindAddresses(edge, {
    clock: systemClock,
    random: systemRandom,
    log,
    dns: createSystemDns(),
    isProxied,
  });
  const notifier = await startNotifier(context.host.env, log);
  if (config.rulesFrom !== "default") log.debug(`Using rules from ${config.rulesFrom}`);
  const starting = startConnector(
    {
      identity: { accountTag: config.accountTag, tunnelId: config.tunnelId, tunnelSecret: config.tunnelSecret },
      connectorId,
      findAddresses,
      target,
      transports,
      routes,
      maxActiveFlows: config.maxActiveFlows,
      haConnections: config.haConnections,
      maxConnections: maxConnections(edge),
      retries: config.retries,
      transportTries: config.transportTries,
      gracePeriodMs: config.gracePeriodMs,
      rpcTimeoutMs: config.rpcTimeoutMs,
      // The program that it stands in for has, or soon wants, the port.
      metrics: isBridge ? "off" : config.metrics,
      metricsAuth: config.metricsAuth,
      tracing: config.tracing,
      version: VERSION,
      quickTunnelHostname,
      flags: placedFlags(config),
      management: config.management && { ...config.management, live },
      onConnections: (count) => {
        notifier.connections(count);
        succession.connections(count);
      },
      platform: process.platform,
      arch: process.arch,
    },
    { clock: systemClock, random: systemRandom, log, transportLog, requestLog, lostLogLines: lostLines },
  );
  if (config.prechecks && !isBridge) startPrechecks(config, log, context.stop);
  const deps = { connector: starting, clock: systemClock, log, setLogLevel, onReload: () => notifier.reloading() };
  const stopReloading = reloadOnChange(context, config, deps);
  let end: SlotEnd | undefined;
  try {
    const connector = await starting;
    context.stop.addEventListener("abort", () => {
      log.info(`Initiating graceful shutdown due to signal ${String(context.stop.reason)} ...`);
      notifier.stopping();
      connector.stop();
    });
    if (context.stop.aborted) connector.stop();
    succession.serve(connector);
    if (config.autoUpdate !== undefined && !isBridge) void succession.updateNowAndThen(config.autoUpdate);
    const { pidFile } = config;
    if (pidFile !== undefined && !isBridge) void connector.ready.then(() => writePid(pidFile, log));
    end = await connector.finished;
  } finally {
    stopReloading();
    notifier.close();
  }
  succession.conclude();
  if (end === undefined) return EXIT.ok;
  logs.flush();
  return logFailure(context, log, [explain(end)]);
}

/** The flags with the log's place as any program finds it, whatever directory it runs in. */
function placedFlags({ settings, logFile }: RunConfig): RunConfig["settings"] {
  if (logFile === undefined) return settings;
  const name = logFile.kind === "file" ? "logfile" : "log-directory";
  return settings.map((flag) => (flag.name === name ? { ...flag, value: resolve(logFile.path) } : flag));
}

function writePid(path: string, log: Logger): void {
  try {
    writeFileSync(path, `${process.pid}`);
  } catch (error) {
    log.error(`Cannot write pidfile "${path}"`, { error: describe(error) });
  }
}

/** Why going on was useless, and what to do. */
function explain(end: SlotEnd): string {
  if (end.kind !== "refused") return "The tunnel ended";
  return end.why === "unauthorized"
    ? "The edge does not accept this tunnel's secret: the token is for another edge, or the tunnel was deleted; get a new token"
    : "The edge refused this tunnel for good; its reason is in the log above";
}
