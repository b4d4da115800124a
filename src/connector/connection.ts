import { RegistrationClient } from "../control/registration-client.ts";
import { type Clock, delay } from "../core/clock.ts";
import { describe, TunnelError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import type { SlotEnd } from "../supervisor/plan.ts";
import type { Connect, SlotConnection } from "../supervisor/runner.ts";
import type { ConnectorSession, DialTarget, IncomingStream, Transport } from "../transport/port.ts";
import type { ConnectorInfo, TunnelIdentity } from "./identity.ts";

/** How long an edge may take to open the control stream after the TLS handshake, in ms. */
const CONTROL_TIMEOUT_MS = 10_000;
/** A link on which nothing was received for this long is asked for a sign of life, in ms. */
const QUIET_MS = 5_000;
/** A link that stays silent this long is given up, in ms: a dead network sends no notice. */
const SILENT_MS = 15_000;

export interface ConnectionDeps {
  readonly transport: Transport;
  readonly targets: readonly DialTarget[];
  readonly identity: TunnelIdentity;
  readonly info: ConnectorInfo;
  readonly clock: Clock;
  readonly log: Logger;
  readonly rpcTimeoutMs: number;
  readonly gracePeriodMs: number;
  /** Serves visitors' streams. */
  readonly proxy: (stream: IncomingStream) => void;
  /** What the edge is told about the local configuration, as JSON; slot 0 reports it. */
  readonly localConfiguration: () => string;
  readonly observer: {
    registered(connIndex: number, location: string): void;
    unregistered(connIndex: number): void;
    registrationFailed(error: string): void;
  };
}

/** Dials, registers, serves and watches one connection after another, as the supervisor asks. */
export function createConnect(deps: ConnectionDeps): Connect {
  return (request, events) => {
    const attempt = new Attempt(deps, request);
    void attempt.run(events.onRegistered).then(events.onEnd);
    return attempt;
  };
}

/** One connection from dial to end. */
class Attempt implements SlotConnection {
  readonly #deps: ConnectionDeps;
  readonly #slot: number;
  readonly #target: DialTarget;
  readonly #previousAttempts: number;
  readonly #log: Logger;
  readonly #cancelled = new AbortController();
  #session: ConnectorSession | undefined;
  #client: RegistrationClient | undefined;

  constructor(deps: ConnectionDeps, request: { slot: number; address: number; previousAttempts: number }) {
    const target = deps.targets[request.address];
    if (target === undefined) throw new Error(`No edge address ${request.address}`);
    this.#deps = deps;
    this.#slot = request.slot;
    this.#target = target;
    this.#previousAttempts = request.previousAttempts;
    this.#log = deps.log.with({ connIndex: request.slot, event: 0, ip: target.host });
  }

  /** Never rejects. */
  async run(onRegistered: () => void): Promise<SlotEnd> {
    try {
      const signal = this.#cancelled.signal;
      this.#session = await this.#deps.transport.dial(this.#target, { signal });
      return await this.#registerAndServe(this.#session, onRegistered);
    } catch (error) {
      this.#session?.close();
      if (this.#cancelled.signal.aborted) return { kind: "drained" };
      this.#log.error("Unable to establish connection with the edge", {
        edge: `${this.#target.host}:${this.#target.port}`,
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
    void client
      .unregister({
        signal: this.#cancelled.signal,
        timeoutMs: Math.min(this.#deps.gracePeriodMs, this.#deps.rpcTimeoutMs),
      })
      .catch((error: unknown) => this.#log.warn("Unregister failed", { error: describe(error) }))
      .then(() => this.#drainFor(session));
  }

  cancel(): void {
    this.#cancelled.abort();
    this.#session?.close();
  }

  /** Lets running requests finish, for the grace period at most. */
  #drainFor(session: ConnectorSession): void {
    session.drain();
    const cancel = this.#deps.clock.after(this.#deps.gracePeriodMs, () => session.close());
    // A lost connection would be kept in memory for the whole time.
    void session.closed.then(cancel);
  }

  async #registerAndServe(session: ConnectorSession, onRegistered: () => void): Promise<SlotEnd> {
    const { identity, info, rpcTimeoutMs, clock } = this.#deps;
    const client = new RegistrationClient(await this.#controlOf(session), { clock });
    const result = await client.register(
      {
        ...identity,
        ...info,
        connIndex: this.#slot,
        localIp: session.localIp,
        numPreviousAttempts: this.#previousAttempts,
      },
      { signal: this.#cancelled.signal, timeoutMs: rpcTimeoutMs },
    );
    if (result.kind === "refused") {
      session.close();
      this.#deps.observer.registrationFailed(result.code);
      this.#log.error("Register tunnel error from server side", { error: result.cause });
      return { kind: "refused", why: result.code, permanent: !result.shouldRetry };
    }
    this.#client = client;
    this.#log.info("Registered tunnel connection", {
      connection: result.connectionId,
      location: result.location,
      protocol: session.protocol,
    });
    this.#deps.observer.registered(this.#slot, result.location);
    session.serve(this.#deps.proxy);
    onRegistered();
    if (this.#slot === 0 && !result.remotelyManaged) this.#reportConfiguration(client);
    // Without its control stream a connection cannot be told of anything any more.
    void client.closed.then(() => this.#drainFor(session));
    const end = await this.#untilClosed(session);
    this.#deps.observer.unregistered(this.#slot);
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

  #reportConfiguration(client: RegistrationClient): void {
    client
      .updateLocalConfiguration(this.#deps.localConfiguration(), { signal: this.#cancelled.signal })
      .catch((error: unknown) => this.#log.debug("Local configuration was not reported", { error: describe(error) }));
  }

  async #untilClosed(session: ConnectorSession): Promise<SlotEnd> {
    const stopWatching = this.#watchSilence(session);
    const reason = await session.closed;
    stopWatching();
    if (reason.kind === "lost") {
      this.#log.warn("Connection terminated", { error: reason.error.message, code: reason.error.code });
      return { kind: "lost" };
    }
    this.#log.info("Unregistered tunnel connection");
    return reason.kind === "drained" || reason.by === "us" ? { kind: "drained" } : { kind: "lost" };
  }

  /** Pings a quiet link and gives up a silent one. Bytes of any kind count as a sign of life. */
  #watchSilence(session: ConnectorSession): () => void {
    const { clock } = this.#deps;
    let cancel = (): void => {};
    const check = (): void => {
      const quietMs = clock.nowMs() - session.lastReceivedAtMs;
      if (quietMs >= SILENT_MS) {
        this.#log.warn("The edge went silent", { seconds: Math.round(quietMs / 1000) });
        session.close();
        return;
      }
      if (quietMs >= QUIET_MS) session.ping().catch(() => {});
      cancel = clock.after(QUIET_MS, check, { background: true });
    };
    cancel = clock.after(QUIET_MS, check, { background: true });
    return () => cancel();
  }
}
