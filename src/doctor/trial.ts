import { createConnect } from "../connector/connection.ts";
import { type ConnectorInfo, goArch, type TunnelIdentity } from "../connector/identity.ts";
import { LiveConfiguration } from "../connector/live-configuration.ts";
import { LiveRoutes } from "../connector/live-routes.ts";
import { type Clock, delay } from "../core/clock.ts";
import { newConnectorId } from "../core/ids.ts";
import { type LogFields, type Logger, silentLogger } from "../core/log.ts";
import type { IngressRules } from "../ingress/rules.ts";
import { RequestMetrics } from "../ops/request-metrics.ts";
import { createFlows } from "../proxy/flows.ts";
import { createProxy } from "../proxy/proxy.ts";
import type { EdgeAddress } from "../supervisor/addresses.ts";
import type { SlotEnd } from "../supervisor/model.ts";
import type { DialTarget, Transport } from "../transport/port.ts";
import { type CheckResult, finding, judged } from "./finding.ts";

/** How long an edge may take to push rules of its own, in ms; it does so at once. */
const PUSH_MS = 400;
/** How long requests that came in the meantime may take, in ms. */
const GRACE_MS = 1_500;
/** Slot 0 would report this machine's rules to the edge. */
const CONN_INDEX = 1;

export interface TrialOptions {
  readonly identity: TunnelIdentity;
  readonly address: EdgeAddress;
  readonly transport: Transport;
  readonly target: (address: EdgeAddress) => DialTarget;
  readonly rules: IngressRules;
  /** True = nobody gave rules here, so the edge's are waited for. */
  readonly awaitsRules: boolean;
  readonly readFile: (path: string) => string;
  readonly version: string;
  readonly timeoutMs: number;
  readonly clock: Clock;
}

export interface Trial {
  readonly end: "registered" | SlotEnd["kind"] | "late";
  readonly why: "duplicate" | "unauthorized" | "other" | undefined;
  /** The edge's words, or the error's. */
  readonly detail: string;
  readonly location: string;
  /** The rules that the edge pushed; undefined = none came. */
  readonly pushed: IngressRules | undefined;
}

/**
 * Registers one more connector of the tunnel and takes it back at once: only the edge knows whether a secret is right.
 * What visitors send meanwhile is served by the rules. Never rejects.
 */
export async function tryRegistration(options: TrialOptions): Promise<Trial> {
  const { clock } = options;
  const connectorId = newConnectorId();
  const deps = { clock, tags: [["ID", connectorId]] as const, readFile: options.readFile };
  const routes = new LiveRoutes(options.rules, deps);
  let detail = "";
  const log = watchErrors((text) => {
    detail = text;
  });
  const pushed = Promise.withResolvers<void>();
  // Everything below wants somebody to count for.
  const metrics = new RequestMetrics(() => clock.wallMs());
  const configuration = new LiveConfiguration(routes, {
    log: silentLogger,
    observer: { configured: () => pushed.resolve() },
  });
  const info: ConnectorInfo = {
    connectorId,
    version: options.version,
    arch: goArch(process.platform, process.arch),
    features: ["allow_remote_config", "serialized_headers", "support_quic_eof"],
  };
  let location = "";
  const registered = Promise.withResolvers<void>();
  const connect = createConnect({
    transports: [options.transport],
    target: options.target,
    identity: options.identity,
    info,
    clock,
    log,
    rpcTimeoutMs: options.timeoutMs,
    gracePeriodMs: GRACE_MS,
    proxy: createProxy({
      route: routes.route,
      flow: createFlows({
        network: () => routes.privateNetwork,
        maxActiveFlows: undefined,
        clock,
        log: silentLogger,
        observer: metrics,
      }),
      clock,
      log: silentLogger,
      observer: metrics,
    }),
    configuration,
    observer: {
      registered: (_index, at) => {
        location = at;
        registered.resolve();
      },
      unregistered: () => {},
      registrationFailed: () => {},
      call: (_method, run) => run(),
    },
  });
  try {
    await routes.start();
    const ended = Promise.withResolvers<SlotEnd>();
    const attempt = { id: 1, connIndex: CONN_INDEX, transport: 0, address: options.address };
    const life = connect(
      { slot: CONN_INDEX, attempt, previousAttempts: 0 },
      { onRegistered: () => {}, onLeaving: () => {}, onEnd: ended.resolve },
    );
    const late = new AbortController();
    const first = await Promise.race([
      registered.promise.then((): "registered" => "registered"),
      ended.promise,
      delay(clock, options.timeoutMs, late.signal).then((): "late" => "late"),
    ]);
    late.abort();
    if (first === "late") {
      life.cancel();
      return { end: "late", why: undefined, detail, location, pushed: undefined };
    }
    if (first !== "registered") {
      const why = first.kind === "refused" ? first.why : undefined;
      return { end: first.kind, why, detail, location, pushed: undefined };
    }
    if (options.awaitsRules) await Promise.race([pushed.promise, delay(clock, PUSH_MS)]);
    life.unregister();
    await Promise.race([ended.promise, delay(clock, GRACE_MS)]);
    const theirs = configuration.describeLocal() === undefined ? routes.rules : undefined;
    return { end: "registered", why: undefined, detail: "", location, pushed: theirs };
  } finally {
    await routes.close();
  }
}

/** What went wrong is in the log only: the errors' text, for people. */
function watchErrors(onError: (text: string) => void): Logger {
  const tell = (message: string, fields?: LogFields): void => {
    const error = fields?.["error"];
    onError(error === undefined ? message : String(error));
  };
  const log: Logger = { ...silentLogger, error: tell, warn: () => {}, with: () => log };
  return log;
}

export function checkTunnel(trial: Trial, tunnelId: string): CheckResult {
  const said = trial.detail === "" ? "" : ` (${trial.detail})`;
  if (trial.end === "registered") {
    return judged([], `the edge takes tunnel ${tunnelId}${trial.location === "" ? "" : ` at ${trial.location}`}`);
  }
  if (trial.end === "refused" && trial.why === "unauthorized") {
    return judged(
      [
        finding(
          "C-303",
          `The edge does not accept the secret of tunnel ${tunnelId}${said}`,
          "Copy the token again, whole; if it is right, the tunnel was deleted or belongs to another edge: make a new one",
        ),
      ],
      "",
    );
  }
  if (trial.end === "refused") {
    return judged(
      [finding("C-304", `The edge refuses tunnel ${tunnelId}${said}`, "Do what the edge says, or ask who runs it")],
      "",
    );
  }
  return judged(
    [
      finding(
        "C-305",
        `The edge was reached and did not register tunnel ${tunnelId} in time${said}`,
        "Look into the edge's log; if it is not an edge that answers there, correct --edge",
      ),
    ],
    "",
  );
}
