import type { Clock, Random } from "../core/clock.ts";
import { describe } from "../core/errors.ts";
import type { ConnectorId } from "../core/ids.ts";
import type { Logger } from "../core/log.ts";
import type { LostLines } from "../core/log-losses.ts";
import { createScrubber } from "../core/log-redact.ts";
import type { IngressRules } from "../ingress/rules.ts";
import { ConnectorMetrics } from "../ops/connector-metrics.ts";
import { type MetricsAddress, startMetricsServer } from "../ops/metrics-server.ts";
import type { StatusServer } from "../ops/status-server.ts";
import { createRequestTracing } from "../ops/tracing/request-tracer.ts";
import { startTracing, type TracingOptions } from "../ops/tracing/tracing.ts";
import { createFlows } from "../proxy/flows.ts";
import type { EndedRequest, ProxyObserver } from "../proxy/observer.ts";
import { createProxy } from "../proxy/proxy.ts";
import type { EdgeAddress } from "../supervisor/addresses.ts";
import type { SlotEnd } from "../supervisor/model.ts";
import { type Supervisor, startSupervisor } from "../supervisor/runner.ts";
import {
  type DialTarget,
  FEATURE_EDGE_LEAVING,
  FEATURE_HEADER_CASE,
  FEATURE_QUIC_FRAMES,
  type Transport,
} from "../transport/port.ts";
import { LOG_EVENTS } from "../wire/management-events.ts";
import { createConnect } from "./connection.ts";
import type { SetFlag } from "./describe-rules.ts";
import type { FindAddresses } from "./edges.ts";
import { goArch, type TunnelIdentity } from "./identity.ts";
import { LiveConfiguration, type LocalResult } from "./live-configuration.ts";
import { LiveConnections } from "./live-connections.ts";
import type { LiveRoutes } from "./live-routes.ts";
import { type ManagementOptions, withManagement } from "./management/index.ts";

/** Features every connector of ours announces (protocol: section 4.8). */
const FEATURES = [
  "allow_remote_config",
  "serialized_headers",
  "support_quic_eof",
  FEATURE_HEADER_CASE,
  FEATURE_QUIC_FRAMES,
  FEATURE_EDGE_LEAVING,
] as const;

export interface ConnectorOptions {
  readonly identity: TunnelIdentity;
  readonly connectorId: ConnectorId;
  readonly findAddresses: FindAddresses;
  /** How to reach an address that was found. */
  readonly target: (address: EdgeAddress) => DialTarget;
  /** The preferred one first; more than one = falls back and returns. */
  readonly transports: readonly Transport[];
  readonly routes: LiveRoutes;
  /** Native TCP streams at once, whatever the rules say; 0 = no bound. @default what the rules say */
  readonly maxActiveFlows?: number | undefined;
  /** Connections wanted; as many as there are edge addresses at most. */
  readonly haConnections: number;
  /** Fewer, where the edge was given by hand; undefined = no limit. */
  readonly maxConnections: number | undefined;
  /** Cap on the doublings of the wait between attempts. */
  readonly retries: number;
  /** Failures of a connection after which it tries another transport. */
  readonly transportTries: number;
  readonly gracePeriodMs: number;
  readonly rpcTimeoutMs: number;
  /** Where metrics are served; undefined = the known ports, `off` = nowhere. */
  readonly metrics: MetricsAddress | "off" | undefined;
  /** `user:password` that metrics ask for. @default nobody is asked */
  readonly metricsAuth?: string | undefined;
  readonly version: string;
  /** Hostname of a quick tunnel, which tools find through the metrics server. @default none */
  readonly quickTunnelHostname?: string | undefined;
  /** Flags that somebody set, of which an edge is told some. @default none */
  readonly flags?: readonly SetFlag[];
  /** Told how many connections are registered, at each change. @default nobody is */
  readonly onConnections?: (count: number) => void;
  /** What the connector itself answers through the tunnel. @default nothing */
  readonly management?: ManagementOptions | undefined;
  /** Where spans of requests go. @default there are none */
  readonly tracing?: TracingOptions | undefined;
  /** Where the connector runs, as Node spells it. */
  readonly platform: string;
  readonly arch: string;
}

export interface ConnectorDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  /** For what concerns connections to the edge. @default `log` */
  readonly transportLog?: Logger | undefined;
  /** Writes a line for each request. @default there are none */
  readonly requestLog?: ((ended: EndedRequest) => void) | undefined;
  /** What the log lost. @default nobody counts */
  readonly lostLogLines?: () => LostLines;
}

export interface Connector {
  /** Resolves when all is over: undefined after a stop, else why going on would be useless. Never rejects. */
  readonly finished: Promise<SlotEnd | undefined>;
  /** Resolves at the first registration; never when there is none. */
  readonly ready: Promise<void>;
  /** `host:port` of the metrics server; undefined when it is off. */
  readonly metricsAddress: string | undefined;
  /**
   * Puts other rules of this machine to work, all or none, without touching a request that runs. The edge is told of
   * them. Rejects with `stream.limit` when too many changes wait.
   */
  replaceRules(rules: IngressRules): Promise<LocalResult>;
  /** Counts rules that were refused before they could be given to `replaceRules`. */
  rulesRefused(): void;
  /** Unregisters, lets running requests finish, ends. */
  stop(): void;
  /** Ends now. */
  stopNow(): void;
}

/**
 * Starts a connector: services first, so that the first request finds them; then metrics; then the connections.
 * Rejects when a service or the metrics address that was asked for cannot be had.
 */
export async function startConnector(options: ConnectorOptions, deps: ConnectorDeps): Promise<Connector> {
  const { clock, log } = deps;
  const { management, routes } = options;
  const live = new LiveConnections(clock);
  let stopping = false;
  let stoppedAtMs = 0;
  const { connectorId, identity } = options;
  const tracing =
    options.tracing &&
    startTracing(
      options.tracing,
      {
        service: "culvert-connector",
        attributes: [
          ["service.instance.id", connectorId],
          ["culvert.tunnel", identity.tunnelId],
        ],
      },
      deps,
    );
  const metrics = new ConnectorMetrics(
    {
      backends: () => routes.backends(),
      loads: () => routes.loads(),
      services: () => routes.services(),
      flowLimit: () => options.maxActiveFlows ?? routes.privateNetwork?.maxActiveFlows ?? 0,
      connections: () => live.facts(),
      transports: () =>
        options.transports.flatMap(({ name }, index) => {
          const score = supervisor?.plan.scores[index];
          return score === undefined ? [] : [{ name, score }];
        }),
      version: options.version,
      quickTunnelHostname: options.quickTunnelHostname ?? "",
      tracing,
      lostLogLines: deps.lostLogLines,
    },
    clock,
  );
  const ready = Promise.withResolvers<void>();
  const configuration = new LiveConfiguration(routes, { log, observer: metrics.tunnel, flags: options.flags ?? [] });
  await routes.start();

  const [preferred] = options.transports;
  let usual = true;
  const tellProtocol = (protocol: string): void => {
    if (usual === (protocol === preferred?.name)) return;
    usual = !usual;
    if (usual) log.info(`Protocol ${protocol} gets through again`);
    else {
      log.warn(`Switching to fallback protocol ${protocol}: ${preferred?.name} does not get through`, {
        hint: `open UDP to the edge's port; ${preferred?.name} is tried again from time to time`,
      });
    }
  };

  const scrub = createScrubber([]);
  let supervisor: Supervisor | undefined;
  let server: StatusServer | undefined;
  if (options.metrics !== "off") {
    server = await startMetricsServer(
      {
        metrics: (format) => metrics.render(format),
        tunnelId: options.identity.tunnelId,
        connectorId: options.connectorId,
        version: options.version,
        readyConnections: () => live.count,
        connections: () => live.shown(),
        quickTunnelHostname: options.quickTunnelHostname ?? "",
        configuration: () => configuration.describe(),
        flags: Object.fromEntries(
          (options.flags ?? []).filter(({ secret }) => secret !== true).map(({ name, value }) => [name, scrub(value)]),
        ),
        clock,
      },
      { address: options.metrics, auth: options.metricsAuth },
    ).catch((error: unknown) => {
      if (options.metrics !== undefined) throw error;
      log.warn("Metrics are not served", { error: describe(error), hint: "--metrics says where they should be" });
      return undefined;
    });
    if (server !== undefined) log.info(`Starting metrics server on ${server.address}/metrics`);
  }

  let localIp: string | undefined;
  const route =
    management === undefined
      ? routes.route
      : withManagement(routes.route, management, {
          ...{ tunnelId: options.identity.tunnelId, connectorId: options.connectorId, clock, log },
          localIp: () => localIp,
          metrics: () => metrics.render("text"),
        });
  const httpLog = log.with({ event: LOG_EVENTS.indexOf("http") });
  const connect = createConnect({
    transports: options.transports,
    target: options.target,
    identity: options.identity,
    info: {
      connectorId: options.connectorId,
      version: options.version,
      arch: goArch(options.platform, options.arch),
      features: FEATURES,
    },
    clock,
    log,
    transportLog: deps.transportLog,
    rpcTimeoutMs: options.rpcTimeoutMs,
    gracePeriodMs: options.gracePeriodMs,
    proxy: createProxy({
      route,
      flow: createFlows({
        network: () => routes.privateNetwork,
        maxActiveFlows: options.maxActiveFlows,
        clock,
        log: log.with({ event: LOG_EVENTS.indexOf("tcp") }),
        observer: metrics.requests,
      }),
      clock,
      log: httpLog,
      observer: deps.requestLog === undefined ? metrics.requests : withAccessLog(metrics.requests, deps.requestLog),
      tracing: tracing && createRequestTracing(tracing.tracer, tracing.source),
    }),
    configuration,
    observer: {
      registered: (connIndex, location, session) => {
        localIp = session.localIp;
        tellProtocol(session.protocol);
        live.add(connIndex, session);
        metrics.tunnel.registered(connIndex, location);
        options.onConnections?.(live.count);
        ready.resolve();
      },
      unregistered: (connIndex, session) => {
        metrics.tunnel.sessionEnded(connIndex, session.quicStats?.());
        if (!live.remove(connIndex, session)) return;
        metrics.tunnel.unregistered(connIndex);
        options.onConnections?.(live.count);
      },
      registrationFailed: (error) => metrics.tunnel.registrationFailed(error),
      call: (method, run, failed) => metrics.tunnel.call(method, run, failed),
    },
  });
  const running = startSupervisor({
    haConnections: options.haConnections,
    maxConnections: options.maxConnections,
    transports: options.transports.length,
    maxDoublings: options.retries,
    triesEach: options.transportTries,
    discover: options.findAddresses,
    onDiscoveryFailed: (error) => log.error("Cannot find the edge", { error: describe(error) }),
    clock,
    random: deps.random,
    onWait: (slot, delayMs) => {
      log.info(`Retrying connection in ${formatWait(delayMs)}`, { connIndex: slot, event: 0 });
    },
    connect: (request, events) => {
      const transport = options.transports[request.attempt.transport]?.name ?? "";
      metrics.tunnel.attemptStarted(transport);
      return connect(request, {
        ...events,
        onEnd: (end) => {
          metrics.tunnel.attemptEnded(transport, end, stopping);
          events.onEnd(end);
        },
      });
    },
  });
  supervisor = running;

  return {
    ready: ready.promise,
    metricsAddress: server?.address,
    replaceRules: (rules) => configuration.applyLocal(rules),
    rulesRefused: () => metrics.tunnel.configured("refused", undefined),
    stop: () => {
      stopping = true;
      stoppedAtMs = clock.nowMs();
      running.stop();
    },
    stopNow: () => {
      stopping = true;
      running.stopNow();
    },
    finished: running.finished.then(async (end) => {
      metrics.stop();
      await routes.close();
      await tracing?.close(stoppedAtMs + options.gracePeriodMs - clock.nowMs());
      log.info("Tunnel server stopped");
      if (server !== undefined) {
        await server.close();
        log.info("Metrics server stopped");
      }
      return end;
    }),
  };
}

/** Requests are counted, and then told of. */
function withAccessLog(observer: ProxyObserver, log: (ended: EndedRequest) => void): ProxyObserver {
  return {
    tallyOf: (kind, rule) => observer.tallyOf(kind, rule),
    requestStarted: (kind) => observer.requestStarted(kind),
    requestFailed: (code, rule) => observer.requestFailed(code, rule),
    streamOverBudget: () => observer.streamOverBudget(),
    requestEnded: (request) => {
      observer.requestEnded(request);
      log(request);
    },
  };
}

function formatWait(ms: number): string {
  return ms < 1000 ? `${Math.round(ms)}ms` : `${(ms / 1000).toFixed(1)}s`;
}
