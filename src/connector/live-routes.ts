import { delay } from "../core/clock.ts";
import { describe, TunnelError } from "../core/errors.ts";
import type { IngressRules } from "../ingress/rules.ts";
import type { BackendStatus, OriginLoad, OriginService } from "../origin/port.ts";
import type { PrivateNetwork } from "../origin/tcp/private-network.ts";
import type { Router } from "../proxy/proxy.ts";
import { createRoutes, type RouteDeps, type RouteProblem, RoutesError, type RouteTable } from "./routes.ts";

/** Time a service has to start, in ms: less than an edge waits for the answer to a configuration that it pushes. */
const START_TIMEOUT_MS = 4_000;

/**
 * Rules at work that can be exchanged while requests run. A request stays with the service it began with, and what is
 * the same in old and new rules goes on as it is, connections included. One exchange after the other: the caller waits.
 */
export class LiveRoutes {
  readonly #deps: RouteDeps;
  #table: RouteTable;

  /** Throws a {@link RoutesError} for rules that cannot be served. */
  constructor(rules: IngressRules, deps: RouteDeps) {
    this.#deps = deps;
    this.#table = createRoutes(rules, deps);
  }

  readonly route: Router = (host, path) => this.#table.route(host, path);

  /** What streams without a rule may reach now; undefined = nothing. */
  get privateNetwork(): PrivateNetwork | undefined {
    return this.#table.privateNetwork;
  }

  /** Of each rule with several services how they are, the rules by their number from 0. */
  backends(): ReadonlyMap<number, readonly BackendStatus[]> {
    const services = [...this.#table.services.values()];
    return new Map(
      services.flatMap(({ ruleIndex, service }) => {
        const backends = service.backends?.();
        return backends === undefined ? [] : [[ruleIndex, backends] as const];
      }),
    );
  }

  /** Of each rule whose connections have a bound how they are used, the rules by their number from 0. */
  loads(): ReadonlyMap<number, OriginLoad> {
    const services = [...this.#table.services.values()];
    return new Map(
      services.flatMap(({ ruleIndex, service }) => {
        const load = service.load?.();
        return load === undefined ? [] : [[ruleIndex, load] as const];
      }),
    );
  }

  /** What each rule's service is called, in the order of the rules. */
  services(): readonly string[] {
    return [...this.#table.services.values()]
      .sort((a, b) => a.ruleIndex - b.ruleIndex)
      .map(({ service }) => service.label);
  }

  get rules(): IngressRules {
    return this.#table.rules;
  }

  /** Starts the services; once, before the first request. Rejects with a {@link RoutesError}. */
  async start(): Promise<void> {
    await this.#start(this.#table, new Set());
    this.#tellOfNetwork(undefined);
  }

  /**
   * Puts other rules in the place of these, all at once: their services start, requests go to them from one moment to
   * the next, and services that nobody names any more let go of what idles. Rejects with a {@link RoutesError}; then
   * everything stays as it was.
   */
  async replace(rules: IngressRules): Promise<void> {
    const before = this.#table;
    const next = createRoutes(rules, this.#deps, before);
    const running = servicesOf(before);
    await this.#start(next, running);
    this.#table = next;
    this.#tellOfNetwork(before);
    const named = servicesOf(next);
    await closeAll([...running].filter((service) => !named.has(service)));
  }

  async close(): Promise<void> {
    await closeAll(servicesOf(this.#table));
  }

  /** At the start, and when something of it has changed. */
  #tellOfNetwork(before: RouteTable | undefined): void {
    const { privateNetwork, rules } = this.#table;
    if (JSON.stringify(rules.privateNetwork) === JSON.stringify(before?.rules.privateNetwork)) return;
    const { log } = this.#deps;
    if (privateNetwork === undefined) log?.info("The private network is closed to the edge again");
    else if (!privateNetwork.open) log?.info("The edge may reach what the ipRules of warp-routing allow");
    else {
      log?.warn(
        "warp-routing has no ipRules: the edge may reach every address of this network but loopback, link-local and cloud metadata",
      );
    }
  }

  async #start(table: RouteTable, running: ReadonlySet<OriginService>): Promise<void> {
    const fresh = [...table.services.values()].filter(({ service }) => !running.has(service));
    const problems: RouteProblem[] = [];
    await Promise.all(
      fresh.map(async ({ service, ruleIndex }) => {
        await this.#inTime(service.start()).catch((error: unknown) => {
          problems.push({ ruleIndex, message: `${service.label} does not start: ${describe(error)}` });
        });
      }),
    );
    if (problems.length === 0) return;
    await closeAll(fresh.map(({ service }) => service));
    throw new RoutesError(problems.sort((a, b) => a.ruleIndex - b.ruleIndex));
  }

  async #inTime(started: Promise<void>): Promise<void> {
    const patience = new AbortController();
    const late = delay(this.#deps.clock, START_TIMEOUT_MS, patience.signal).then((passed) => {
      if (passed) throw new TunnelError("timeout", `not within ${START_TIMEOUT_MS} ms`);
    });
    try {
      await Promise.race([started, late]);
    } finally {
      patience.abort();
    }
  }
}

function servicesOf(table: RouteTable): Set<OriginService> {
  return new Set([...table.services.values()].map(({ service }) => service));
}

/** A service that cannot be closed in order must not keep the others open. */
async function closeAll(services: Iterable<OriginService>): Promise<void> {
  await Promise.allSettled([...services].map((service) => service.close()));
}
