import { RegistrationClient } from "../control/registration-client.ts";
import { type Clock, delay } from "../core/clock.ts";
import { describe, TunnelError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import type { RpcMethod } from "../ops/tunnel-metrics.ts";
import type { EdgeAddress } from "../supervisor/addresses.ts";
import type { SlotEnd } from "../supervisor/model.ts";
import type { Connect, SlotConnection } from "../supervisor/runner.ts";
import type { CloseReason, ConnectorSession, DialTarget, IncomingStream, Transport } from "../transport/port.ts";
import type { ConnectorInfo, TunnelIdentity } from "./identity.ts";
import type { LiveConfiguration } from "./live-configuration.ts";

/** How long an edge may take to open the control stream after the TLS handshake, in ms. */
const CONTROL_TIMEOUT_MS = 5_000;
/**
 * Bounds on one dial, in ms. Tries in a row are short, since the next one's first packet finds a link that is back sooner
 * than what the system repeats ever more rarely; but a slow network must get through as well, so every sixth takes long.
 */
const FIRST_DIAL_MS = 3_000;
const NEXT_DIAL_MS = 2_000;
const SLOW_DIAL_MS = 15_000;
const SLOW_DIAL_EVERY = 6;
/** How often a link is looked at, in ms. */
const LOOK_MS = 1_000;
/** Looks without anything received after which the edge is asked for a sign of life, at each look. */
const QUIET_LOOKS = 3;
/**
 * Looks without anything received after which a link is given up: a dead network sends no notice. Looks are counted
 * instead of time, so that this process standing still is not taken for silence of the edge.
 */
const SILENT_LOOKS = 8;
/** The same when there is reason to doubt the link, as after sleep. */
const DOUBTED_LOOKS = 3;

/** How long a connection without its control stream serves on, so that its successor is there before it goes, in ms. */
const SUCCESSION_MS = 3_000;

export interface ConnectionDeps {
  /** The preferred one first. */
  readonly transports: readonly Transport[];
  /** How to reach an address. */
  readonly target: (address: EdgeAddress) => DialTarget;
  readonly identity: TunnelIdentity;
  readonly info: ConnectorInfo;
  readonly clock: Clock;
  readonly log: Logger;
  /** For what concerns the transport (`--transport-loglevel`). @default `log` */
  readonly transportLog?: Logger | undefined;
  readonly rpcTimeoutMs: number;
  readonly gracePeriodMs: number;
  /** Serves visitors' streams. */
  readonly proxy: (stream: IncomingStream) => void;
  /** Takes what edges push; slot 0 reports this machine's rules. */
  readonly configuration: LiveConfiguration;
  readonly observer: ConnectionObserver;
}

export interface ConnectionObserver {
  registered(connIndex: number, location: string, session: ConnectorSession): void;
  unregistered(connIndex: number, session: ConnectorSession): void;
  registrationFailed(error: string): void;
  /** Runs a call of registration RPC, and counts and times it. */
  call<T>(method: RpcMethod, run: () => Promise<T>, failed?: (result: T) => boolean): Promise<T>;
}

/** Dials, registers, serves and watches one connection after another, as the supervisor asks. */
export function createConnect(deps: ConnectionDeps): Connect {
  return (request, events) => {
    const life = new ConnectionLife(deps, request);
    void life.run(events.onRegistered, events.onLeaving).then(events.onEnd);
    return life;
  };
}

function dialTimeout(previousAttempts: number): number {
  if (previousAttempts % SLOW_DIAL_EVERY === SLOW_DIAL_EVERY - 1) return SLOW_DIAL_MS;
  return previousAttempts === 0 ? FIRST_DIAL_MS : NEXT_DIAL_MS;
}

/** One connection from dial to end. */
class ConnectionLife implements SlotConnection {
  readonly #deps: ConnectionDeps;
  readonly #connIndex: number;
  readonly #transport: Transport;
  readonly #target: DialTarget;
  readonly #previousAttempts: number;
  readonly #log: Logger;
  readonly #transportLog: Logger;
  readonly #cancelled = new AbortController();
  #session: ConnectorSession | undefined;
  #client: RegistrationClient | undefined;
  #silentLooks = 0;
  #doubted = false;
  #wentSilent = false;

  constructor(deps: ConnectionDeps, request: Parameters<Connect>[0]) {
    const { attempt, previousAttempts } = request;
    const transport = deps.transports[attempt.transport];
    if (transport === undefined) throw new Error(`No transport ${attempt.transport}`);
    this.#deps = deps;
    this.#connIndex = attempt.connIndex;
    this.#transport = transport;
    this.#target = {
      ...deps.target(attempt.address),
      connIndex: attempt.connIndex,
      timeoutMs: dialTimeout(previousAttempts),
    };
    this.#previousAttempts = previousAttempts;
    const names = { connIndex: attempt.connIndex, event: 0, ip: attempt.address.host };
    this.#log = deps.log.with(names);
    this.#transportLog = (deps.transportLog ?? deps.log).with({ ...names, protocol: transport.name });
  }

  /** Never rejects. */
  async run(onRegistered: () => void, onLeaving: () => void): Promise<SlotEnd> {
    try {
      const signal = this.#cancelled.signal;
      const { clock } = this.#deps;
      const startedAtMs = clock.nowMs();
      this.#transportLog.debug("Dialling the edge", { port: this.#target.port, timeoutMs: this.#target.timeoutMs });
      this.#session = await this.#transport.dial(this.#target, { signal });
      this.#transportLog.debug("Connected to the edge", { ms: Math.round(clock.nowMs() - startedAtMs) });
      void this.#session.leaving.then(onLeaving);
      return await this.#registerAndServe(this.#session, onRegistered, onLeaving);
    } catch (error) {
      this.#session?.close();
      if (this.#cancelled.signal.aborted) return { kind: "drained" };
      this.#log.error("Unable to establish connection with the edge", {
        edge: `${this.#target.host}:${this.#target.port}`,
        protocol: this.#transport.name,
        error: describe(error),
      });
      return { kind: "dial-failed" };
    }
  }

  unregister(): void {
    const session = this.#session;
    const client = this.#client;
    if (session === undefined || client === undefined) {
      this.cancel();
      return;
    }
    // The edge answers once it sends nothing new; after that only running requests are left.
    const timeoutMs = Math.min(this.#deps.gracePeriodMs, this.#deps.rpcTimeoutMs);
    void this.#deps.observer
      .call("unregister_connection", () => client.unregister({ signal: this.#cancelled.signal, timeoutMs }))
      .catch((error: unknown) => this.#log.warn("Unregister failed", { error: describe(error) }))
      .then(() => this.#drainFor(session));
  }

  cancel(): void {
    this.#cancelled.abort();
    this.#session?.close();
  }

  probe(): void {
    this.#doubted = true;
    this.#silentLooks = 0;
    this.#session?.ping().catch(() => {});
  }

  /** Lets running requests finish, for the grace period at most. */
  #drainFor(session: ConnectorSession): void {
    session.drain();
    const cancel = this.#deps.clock.after(this.#deps.gracePeriodMs, () => session.close());
    // A lost connection would be kept in memory for the whole time.
    void session.closed.then(cancel);
  }

  async #registerAndServe(
    session: ConnectorSession,
    onRegistered: () => void,
    onLeaving: () => void,
  ): Promise<SlotEnd> {
    const { identity, info, rpcTimeoutMs, clock, observer } = this.#deps;
    session.onConfiguration((update) =>
      observer.call(
        "update_configuration",
        () => this.#deps.configuration.applyRemote(update),
        ({ error }) => error !== "",
      ),
    );
    const client = new RegistrationClient(await this.#controlOf(session), { clock });
    const request = {
      ...identity,
      ...info,
      connIndex: this.#connIndex,
      localIp: session.localIp,
      numPreviousAttempts: this.#previousAttempts,
    };
    const result = await observer.call(
      "register_connection",
      () => client.register(request, { signal: this.#cancelled.signal, timeoutMs: rpcTimeoutMs }),
      ({ kind }) => kind === "refused",
    );
    if (result.kind === "refused") {
      session.close();
      observer.registrationFailed(result.code);
      this.#log.error("Register tunnel error from server side", { error: result.cause });
      return { kind: "refused", why: result.code, permanent: !result.shouldRetry };
    }
    this.#client = client;
    this.#log.info("Registered tunnel connection", {
      connection: result.connectionId,
      location: result.location,
      protocol: session.protocol,
    });
    observer.registered(this.#connIndex, result.location, session);
    session.serve(this.#deps.proxy);
    onRegistered();
    if (this.#connIndex === 0 && !result.remotelyManaged) this.#reportConfigurations(session, client);
    // Without its control stream a connection cannot be told of anything any more: another one takes its place first.
    void client.closed.then(async () => {
      onLeaving();
      await Promise.race([delay(clock, SUCCESSION_MS, this.#cancelled.signal), session.closed]);
      this.#drainFor(session);
    });
    const end = await this.#untilClosed(session);
    observer.unregistered(this.#connIndex, session);
    return end;
  }

  async #controlOf(session: ConnectorSession) {
    const timer = new AbortController();
    const late = delay(this.#deps.clock, CONTROL_TIMEOUT_MS, timer.signal).then((passed): never | Promise<never> => {
      if (passed) throw new TunnelError("edge.silent", "The edge opened no control stream", { retry: "elsewhere" });
      return new Promise<never>(() => {});
    });
    try {
      return await Promise.race([session.control, late]);
    } finally {
      timer.abort();
    }
  }

  /** Once now, and again after each change for as long as the connection lives. */
  #reportConfigurations(session: ConnectorSession, client: RegistrationClient): void {
    let busy = false;
    let again = false;
    const report = async (): Promise<void> => {
      again = true;
      if (busy) return;
      busy = true;
      // Changes that come faster than the edge answers are told in one.
      while (again) {
        again = false;
        await this.#reportConfiguration(client);
      }
      busy = false;
    };
    void report();
    const forget = this.#deps.configuration.onLocalChange(() => void report());
    void session.closed.then(forget);
  }

  async #reportConfiguration(client: RegistrationClient): Promise<void> {
    const config = this.#deps.configuration.describeLocal();
    if (config === undefined) return;
    await this.#deps.observer
      .call("update_local_configuration", () =>
        client.updateLocalConfiguration(config, { signal: this.#cancelled.signal }),
      )
      .catch((error: unknown) => this.#log.debug("Local configuration was not reported", { error: describe(error) }));
  }

  async #untilClosed(session: ConnectorSession): Promise<SlotEnd> {
    const stopWatching = this.#watchSilence(session);
    const reason = await session.closed;
    stopWatching();
    this.#tellClosed(session, reason);
    if (reason.kind === "lost") {
      this.#log.warn("Connection terminated", { error: reason.error.message, code: reason.error.code });
      return { kind: "lost", silent: reason.error.code === "edge.silent" };
    }
    if (this.#wentSilent) return { kind: "lost", silent: true };
    this.#log.info("Unregistered tunnel connection");
    return reason.kind === "drained" || reason.by === "us" ? { kind: "drained" } : { kind: "lost", silent: false };
  }

  #tellClosed(session: ConnectorSession, reason: CloseReason): void {
    if (!this.#transportLog.enabled("debug")) return;
    const { sentBytes, receivedBytes, lostPackets } = session.quicStats?.() ?? {};
    const error = reason.kind === "lost" ? reason.error.message : undefined;
    this.#transportLog.debug("The connection to the edge is over", {
      ...{ reason: reason.kind, error, sentBytes, receivedBytes, lostPackets },
    });
  }

  /** Pings a quiet link and gives up a silent one. Bytes of any kind count as a sign of life. */
  #watchSilence(session: ConnectorSession): () => void {
    const { clock } = this.#deps;
    let seenAtMs = session.lastReceivedAtMs;
    let cancel = (): void => {};
    const look = (): void => {
      const { lastReceivedAtMs } = session;
      this.#silentLooks = lastReceivedAtMs === seenAtMs ? this.#silentLooks + 1 : 0;
      seenAtMs = lastReceivedAtMs;
      if (this.#silentLooks === 0) this.#doubted = false;
      if (this.#silentLooks >= (this.#doubted ? DOUBTED_LOOKS : SILENT_LOOKS)) {
        this.#log.warn("The edge went silent", { seconds: Math.round((this.#silentLooks * LOOK_MS) / 1000) });
        this.#wentSilent = true;
        session.close();
        return;
      }
      if (this.#doubted || this.#silentLooks >= QUIET_LOOKS) session.ping().catch(() => {});
      cancel = clock.after(LOOK_MS, look, { background: true });
    };
    cancel = clock.after(LOOK_MS, look, { background: true });
    return () => cancel();
  }
}
