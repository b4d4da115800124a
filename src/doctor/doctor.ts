import { bounded } from "../connector/discovery/bounded.ts";
import type { Dns } from "../connector/discovery/dns.ts";
import { createSystemDns } from "../connector/discovery/dns.ts";
import { createFindAddresses, type EdgeSource } from "../connector/edges.ts";
import type { TunnelIdentity } from "../connector/identity.ts";
import { LiveRoutes } from "../connector/live-routes.ts";
import { formatRouteProblem, RoutesError } from "../connector/routes.ts";
import type { Clock, Random } from "../core/clock.ts";
import { describe } from "../core/errors.ts";
import { silentLogger } from "../core/log.ts";
import { findConnectors, type LocalConnector, placesToLook, type StatusAddress } from "../diag/local-status.ts";
import { type IngressRules, NO_RULES } from "../ingress/rules.ts";
import type { EdgeAddress } from "../supervisor/addresses.ts";
import type { DialTarget, Transport } from "../transport/port.ts";
import { type ConfigFacts, checkConfig } from "./config-checks.ts";
import { checkDns, checkMtu, checkNetwork, checkTls, type EdgeWay, type Found } from "./edge-checks.ts";
import { type EdgeProbes, probeEdge } from "./edge-probe.ts";
import { CHECK_ORDER, type CheckId, type CheckResult, type Finding, finding, judged, skipped } from "./finding.ts";
import {
  checkClock,
  checkConnectors,
  checkLimits,
  checkService,
  checkVersion,
  type ForeignTime,
  mtuOf,
} from "./machine.ts";
import { checkOrigins, type ProbedOrigin, probeOrigins } from "./origin-checks.ts";
import { type Report, verdictOf } from "./report.ts";
import { type RulesHere, readRulesHere } from "./rules-here.ts";
import { checkTunnel, type Trial, tryRegistration } from "./trial.ts";

/** Bounds on the steps, in ms. Those towards the edge follow each other; everything else happens at the same time. */
const DNS_MS = 4_000;
const SYSTEM_DNS_MS = 1_500;
const EDGE_MS = 3_000;
const TRIAL_MS = 3_000;
const ORIGIN_MS = 3_000;
const LOCAL_MS = 1_000;

export interface DoctorEdge extends EdgeWay {
  readonly source: EdgeSource;
  readonly target: (address: EdgeAddress) => DialTarget;
  readonly isProxied: (address: { readonly host: string; readonly port: number }) => boolean;
  /** Those that the connector would use, by name; undefined = it would not. */
  readonly quic: Transport | undefined;
  readonly http2: Transport | undefined;
}

export interface DoctorOptions {
  readonly version: string;
  /** When this program was built, in ms since the epoch; NaN = unknown. */
  readonly builtMs: number;
  /** Who the tunnel is, or why that is not known. */
  readonly tunnel: { readonly kind: "known"; readonly identity: TunnelIdentity } | Wrong;
  /** Where the edge is, and how to go there; undefined = nobody says. */
  readonly edge: DoctorEdge | undefined;
  readonly config: { readonly kind: "known"; readonly facts: ConfigFacts } | Wrong;
  /** Where the connector's metrics should be; undefined = the known ports. */
  readonly metrics: StatusAddress | undefined;
  /** `user:password` that the connector's metrics ask for; sent to the address in `metrics` only. */
  readonly metricsAuth: string | undefined;
  /** False = the tunnel is not registered for the try. */
  readonly register: boolean;
  readonly readFile: (path: string) => string;
}

export interface Wrong {
  readonly kind: "wrong";
  readonly findings: readonly Finding[];
}

export interface DoctorDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly signal: AbortSignal;
  /** Told of each check, in their order, as soon as it and those before it are done. */
  readonly onCheck: (id: CheckId, result: CheckResult) => void;
}

/**
 * Finds out why a tunnel does not work. It goes only where the connector would go: to its name servers, edges, proxy and
 * origins, and to metrics servers of this machine. Takes some 10 s at most.
 */
export async function runDoctor(options: DoctorOptions, deps: DoctorDeps): Promise<Report> {
  const { clock } = deps;
  const startMs = clock.nowMs();
  const examination = new Examination(options, deps);
  const pending = examination.start();
  const done: Partial<Record<CheckId, CheckResult>> = {};
  const add = async (id: CheckId): Promise<CheckResult> => {
    const result = await pending[id];
    done[id] = result;
    deps.onCheck(id, result);
    return result;
  };
  const checks = {} as Record<CheckId, CheckResult>;
  for (const id of CHECK_ORDER) checks[id] = await add(id);
  return { version: options.version, ms: clock.nowMs() - startMs, verdict: verdictOf(checks), checks };
}

/** What was seen, each part as soon as what it needs is there. */
class Examination {
  readonly #options: DoctorOptions;
  readonly #deps: DoctorDeps;

  constructor(options: DoctorOptions, deps: DoctorDeps) {
    this.#options = options;
    this.#deps = deps;
  }

  start(): Readonly<Record<CheckId, Promise<CheckResult>>> {
    const { edge, tunnel, metrics, metricsAuth, version } = this.#options;
    const tunnelId = tunnel.kind === "known" ? tunnel.identity.tunnelId : undefined;
    const service = checkService();
    const places = placesToLook(metrics, metricsAuth);
    const passwordKept = metricsAuth !== undefined && places.every(({ auth }) => auth === undefined);
    const connectors = findConnectors(places, LOCAL_MS);
    const here = connectors.then((list) => readRulesHere(list, tunnelId, LOCAL_MS));
    const found = edge === undefined ? undefined : this.#find(edge);
    const probes = edge === undefined || found === undefined ? undefined : this.#probe(edge, found);
    const trial = edge === undefined || probes === undefined ? undefined : this.#try(edge, probes, here);
    const rules = this.#rules(trial, here);
    const origins = rules.then((facts) => (facts === undefined ? [] : this.#origins(facts.rules)));
    return {
      clock: this.#clock(probes, origins),
      dns: this.#edgeCheck(found, (seen, { source }) => checkDns(seen, source.kind)),
      network: this.#probeCheck(probes, checkNetwork),
      tls: this.#probeCheck(probes, checkTls),
      mtu: this.#probeCheck(probes, (seen) => checkMtu(seen, mtuOf)),
      tunnel: this.#tunnel(trial),
      connectors: Promise.all([connectors, service]).then(([list, { status }]) =>
        checkConnectors(list, tunnelId, { haveService: status !== "skip", passwordKept }),
      ),
      config: rules.then((facts) => this.#config(facts)),
      origins: origins.then(checkOrigins),
      limits: connectors.then((list) => checkLimits(list)),
      service,
      version: connectors.then((list: readonly LocalConnector[]) => checkVersion(list, version)),
    };
  }

  async #clock(
    probes: Promise<EdgeProbes | undefined> | undefined,
    origins: Promise<readonly ProbedOrigin[]>,
  ): Promise<CheckResult> {
    const { clock } = this.#deps;
    const [seen, probed] = await Promise.all([probes, origins]);
    const certificates = (seen?.tcp ?? []).flatMap(({ certificate }) => certificate ?? []);
    return checkClock({
      nowMs: clock.wallMs(),
      builtMs: this.#options.builtMs,
      certificates,
      foreign: probed.flatMap(foreignTime),
    });
  }

  async #find(edge: DoctorEdge): Promise<Found> {
    const { clock, random, signal } = this.#deps;
    let systemFailure: string | undefined;
    const dns = quickDns(clock, (why) => {
      systemFailure ??= why;
    });
    try {
      const { isProxied } = edge;
      const find = createFindAddresses(edge.source, { clock, random, log: silentLogger, dns, isProxied });
      const addresses = await bounded(find, { ms: DNS_MS, clock, signal });
      return { kind: "found", addresses, systemFailure };
    } catch (error) {
      const why = describe(error);
      return {
        kind: "failed",
        why: systemFailure === undefined || why.includes(systemFailure) ? why : `${why}: ${systemFailure}`,
      };
    }
  }

  async #probe(edge: DoctorEdge, finding: Promise<Found>): Promise<EdgeProbes | undefined> {
    const found = await finding;
    if (found.kind === "failed") return undefined;
    const { clock, signal } = this.#deps;
    const { target, tlsServerName, quic } = edge;
    return await probeEdge(found.addresses, { target, tlsServerName, quic, timeoutMs: EDGE_MS, clock, signal });
  }

  /** Over what works. */
  async #try(
    edge: DoctorEdge,
    probing: Promise<EdgeProbes | undefined>,
    asking: Promise<RulesHere | undefined>,
  ): Promise<Trial | undefined> {
    const probes = await probing;
    const { config, readFile, register, tunnel, version } = this.#options;
    if (probes === undefined || tunnel.kind !== "known" || !register) return undefined;
    const overUdp = probes.udp.find(({ end }) => end === "reached");
    const overTcp = probes.tcp.find(({ end, certificate }) => end === "reached" && certificate?.distrust === undefined);
    const way =
      overUdp === undefined ? { transport: edge.http2, probe: overTcp } : { transport: edge.quic, probe: overUdp };
    if (way.transport === undefined || way.probe === undefined) return undefined;
    const configured = config.kind === "known" && config.facts.configured ? config.facts.rules : undefined;
    // Visitors may come through the trial: they find what the connector that runs here would show them.
    const served = configured ?? (await asking)?.rules ?? NO_RULES;
    return await tryRegistration({
      identity: tunnel.identity,
      address: way.probe.address,
      transport: way.transport,
      target: edge.target,
      rules: this.#routeProblems(served).length === 0 ? served : NO_RULES,
      awaitsRules: config.kind === "known" && configured === undefined,
      readFile,
      version,
      timeoutMs: TRIAL_MS,
      clock: this.#deps.clock,
    });
  }

  async #tunnel(trying: Promise<Trial | undefined> | undefined): Promise<CheckResult> {
    const { tunnel, register } = this.#options;
    if (tunnel.kind === "wrong") {
      return tunnel.findings.length > 0 ? judged(tunnel.findings, "") : skipped("the configuration cannot be read");
    }
    const trial = await trying;
    if (trial !== undefined) return checkTunnel(trial, tunnel.identity.tunnelId);
    return skipped(register ? "the edge was not reached" : "not asked for (--no-register)");
  }

  /**
   * The rules in force: those that were given; where there are none, what the edge pushes, or what the connector that
   * runs here says that it serves by.
   */
  async #rules(
    trying: Promise<Trial | undefined> | undefined,
    asking: Promise<RulesHere | undefined>,
  ): Promise<ConfigFacts | undefined> {
    const { config } = this.#options;
    if (config.kind === "wrong") return undefined;
    const { facts } = config;
    if (facts.configured) return facts;
    const trial = await trying;
    if (trial?.pushed !== undefined) return { ...facts, rules: trial.pushed, from: "the edge", configured: true };
    const here = await asking;
    if (here?.rules !== undefined) return { ...facts, rules: here.rules, from: here.from, running: here };
    return trial?.end === "registered" ? { ...facts, running: here } : undefined;
  }

  #config(facts: ConfigFacts | undefined): CheckResult {
    const { config } = this.#options;
    if (config.kind === "wrong") return judged(config.findings, "");
    if (facts === undefined) return skipped("there are no rules here, and the edge could not be asked for some");
    // What runs could be started.
    const problems = facts.running?.rules === undefined ? this.#routeProblems(facts.rules) : [];
    if (problems.length > 0) {
      const todo = "Correct the rule: the connector does not start with it";
      return judged(
        problems.map((text) => finding("C-401", text, todo)),
        "",
      );
    }
    return checkConfig(facts);
  }

  /** Why these rules cannot be served, such as a caPool that cannot be read. */
  #routeProblems(rules: IngressRules): readonly string[] {
    const { readFile } = this.#options;
    try {
      void new LiveRoutes(rules, { clock: this.#deps.clock, tags: [], readFile }).close();
      return [];
    } catch (error) {
      return error instanceof RoutesError ? error.problems.map(formatRouteProblem) : [describe(error)];
    }
  }

  async #origins(rules: IngressRules): Promise<readonly ProbedOrigin[]> {
    const { clock, signal } = this.#deps;
    return await probeOrigins(rules, { clock, signal, readFile: this.#options.readFile, timeoutMs: ORIGIN_MS });
  }

  async #edgeCheck<T>(
    pending: Promise<T> | undefined,
    check: (seen: T, edge: DoctorEdge) => CheckResult,
  ): Promise<CheckResult> {
    const { edge } = this.#options;
    if (edge === undefined || pending === undefined) return skipped("it is not known which edge: see the token");
    return check(await pending, edge);
  }

  async #probeCheck(
    probes: Promise<EdgeProbes | undefined> | undefined,
    check: (seen: EdgeProbes, way: EdgeWay) => CheckResult,
  ): Promise<CheckResult> {
    return await this.#edgeCheck(probes, (seen, edge) =>
      seen === undefined ? skipped("the edge was not found") : check(seen, edge),
    );
  }
}

function foreignTime({ spec, probe }: ProbedOrigin): readonly ForeignTime[] {
  const { end } = probe;
  if (end.kind !== "answered" || end.dateMs === undefined || !("host" in spec)) return [];
  return [{ origin: spec.host, dateMs: end.dateMs }];
}

/** The system's resolver, given up early, so that there is time for the other one. */
function quickDns(clock: Clock, onFailure: (why: string) => void): Dns {
  const system = createSystemDns();
  const quick = async <T>(ask: (signal: AbortSignal) => Promise<T>, signal: AbortSignal): Promise<T> => {
    try {
      return await bounded(ask, { ms: SYSTEM_DNS_MS, clock, signal });
    } catch (error) {
      onFailure(describe(error));
      throw error;
    }
  };
  return {
    srv: (name, signal) => quick((given) => system.srv(name, given), signal),
    addresses: (name, signal) => quick((given) => system.addresses(name, given), signal),
  };
}
