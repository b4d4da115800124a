import { createHash, timingSafeEqual } from "node:crypto";
import type { Refusal } from "../control/refusal.ts";
import type { Registered } from "../control/registration-client.ts";
import { type RegistrationHandlers, RegistrationServer } from "../control/registration-server.ts";
import { type CancelTimer, type Clock, delay } from "../core/clock.ts";
import { describe } from "../core/errors.ts";
import { newConnectionId } from "../core/ids.ts";
import type { Logger } from "../core/log.ts";
import { type EdgeSession, FEATURE_EDGE_LEAVING } from "../transport/port.ts";
import { ipGroup } from "../wire/ip-bytes.ts";
import type { RegisterConnectionParams } from "../wire/schema/registration-server.ts";
import type { LiveConnection, Registry } from "./registry.ts";
import type { Store } from "./store/port.ts";

/** Time from the TLS handshake to a finished registration, in ms. */
export const REGISTRATION_TIMEOUT_MS = 15_000;
/** How long a refused connector may take to read why, in ms. */
const REFUSAL_LINGER_MS = 2_000;
/** How long a connector that unregistered may keep its control stream open, in ms. */
const UNREGISTER_LINGER_MS = 1_000;
/** How often it is looked whether the requests are over that an answer to unregister waits for, in ms. */
const RUNNING_CHECK_MS = 50;
/** How often a link is looked at, in ms; one that brought nothing since the last time is asked for a sign of life. */
const LIVENESS_CHECK_MS = 2_000;
/**
 * A link that brought nothing this many times in a row is given up, after 8 to 10 s. Looks are counted instead of time,
 * so that this process standing still is not taken for silence of every connector.
 */
const MAX_SILENT_CHECKS = 4;
/** From this many on, requests prefer other connections. */
const SUSPECT_CHECKS = 2;
/** How long a connection whose connector has come back may take to show that it lives, in ms. */
const TAKEOVER_MS = 2_000;
/** Connections that have not registered yet. */
export const MAX_UNREGISTERED = 1_000;
/** The same from one address. */
export const MAX_UNREGISTERED_PER_IP = 100;

/** What an unknown tunnel's secret is compared with, so that it takes as long as a wrong one. */
const NO_SECRET = new Uint8Array(32);

export interface TunnelFrontDeps {
  readonly store: Store;
  readonly registry: Registry;
  readonly clock: Clock;
  readonly log: Logger;
  /** Place name told to connectors, such as `ams01`. */
  readonly location: string;
  /** How long running requests may go on after a connector unregistered, in ms. */
  readonly drainMs: number;
}

/** Takes connections from the tunnel listener, registers them, watches them, and lets them go. */
export class TunnelFront {
  readonly #deps: TunnelFrontDeps;
  readonly #waiting = new Map<string, number>();
  #waitingCount = 0;
  #leaving = false;
  readonly #sessions = new Set<EdgeSession>();
  readonly #endWatch: () => void;

  constructor(deps: TunnelFrontDeps) {
    this.#deps = deps;
    const { store, registry } = deps;
    this.#endWatch = store.watch((change) => {
      if (change.kind === "tunnel") this.#closeDeleted(registry.connections(change.tunnelId));
      else if (change.kind === "unknown") this.#closeDeleted(registry.all());
    });
  }

  /** Called for each accepted connection after its handshake. `ip`: the peer's address. */
  accept(session: EdgeSession, ip: string): void {
    const group = ipGroup(ip);
    const fromIp = this.#waiting.get(group) ?? 0;
    this.#sessions.add(session);
    void session.closed.then(() => this.#sessions.delete(session));
    if (this.#waitingCount >= MAX_UNREGISTERED || fromIp >= MAX_UNREGISTERED_PER_IP) {
      this.#deps.log.warn("Refused a tunnel connection: too many are waiting to register", { ip });
      session.close();
      return;
    }
    this.#waitingCount += 1;
    this.#waiting.set(group, fromIp + 1);
    void new Registration({ ...this.#deps, leaving: () => this.#leaving }, session, ip).run(() => this.#settled(group));
  }

  /** Tells connectors to go elsewhere, as far as they understand it. Nothing else changes. */
  announceLeaving(): void {
    this.#leaving = true;
    for (const session of this.#sessions) session.announceLeaving();
  }

  /** Ends every connection, those that do not end in good order after `limitMs`. */
  async close(limitMs: number): Promise<void> {
    this.#endWatch();
    const sessions = [...this.#sessions];
    for (const session of sessions) session.drain();
    const patience = new AbortController();
    const ended = Promise.all(sessions.map((session) => session.closed));
    await Promise.race([ended, delay(this.#deps.clock, limitMs, patience.signal)]);
    patience.abort();
    for (const session of [...this.#sessions]) session.close();
  }

  /** Whoever deleted the tunnel may be another process, which cannot hang up. */
  #closeDeleted(connections: readonly LiveConnection[]): void {
    const { store, log } = this.#deps;
    for (const [id, own] of Map.groupBy(connections, ({ tunnelId }) => tunnelId)) {
      try {
        const tunnel = store.tunnels.get(id);
        if (tunnel !== undefined && tunnel.deletedAtMs === undefined) continue;
      } catch (error) {
        log.warn("Cannot see whether a tunnel was deleted", { tunnelID: id, error: describe(error) });
        return;
      }
      for (const { session } of own) session.close();
    }
  }

  #settled(group: string): void {
    this.#waitingCount -= 1;
    const left = (this.#waiting.get(group) ?? 1) - 1;
    if (left === 0) this.#waiting.delete(group);
    else this.#waiting.set(group, left);
  }
}

/** One connection from its control stream to its end. */
class Registration implements RegistrationHandlers {
  readonly #deps: TunnelFrontDeps & { readonly leaving: () => boolean };
  readonly #session: EdgeSession;
  readonly #ip: string;
  readonly #log: Logger;
  #live: LiveConnection | undefined;
  #settled = (): void => {};
  #over = false;
  /** Cancelled when the connection is over, or each would keep it in memory until it fires. */
  readonly #timers: CancelTimer[] = [];

  constructor(deps: TunnelFrontDeps & { readonly leaving: () => boolean }, session: EdgeSession, ip: string) {
    this.#deps = deps;
    this.#session = session;
    this.#ip = ip;
    this.#log = deps.log.with({ ip });
  }

  /** Never rejects. `onSettled`: called once, when the connection is no longer waiting to register. */
  async run(onSettled: () => void): Promise<void> {
    this.#settled = () => {
      this.#settled = () => {};
      onSettled();
    };
    const { clock } = this.#deps;
    this.#later(REGISTRATION_TIMEOUT_MS, () => {
      if (this.#live === undefined) this.#session.close();
    });
    const stopWatching = this.#watchSilence();
    try {
      const server = new RegistrationServer(await this.#session.control, this, { clock });
      const end = await Promise.race([server.ended, this.#session.closed]);
      if (end.kind === "refused") {
        // The connector waits for us to close (protocol: section 2.3); its refusal must reach it first.
        this.#later(REFUSAL_LINGER_MS, () => this.#session.close());
      } else if (end.kind === "silent") {
        this.#session.close();
      } else if (end.kind === "closed" && "reason" in end) {
        // A connector without its control stream can neither be told nor tell anything: let it finish and go.
        this.#drain();
      }
      const reason = await this.#session.closed;
      this.#ended(reason.kind === "lost" ? reason.error.message : undefined);
    } catch (error) {
      // A probe that shakes hands and leaves (protocol: section 1.9), or something that is no connector.
      this.#log.debug("Tunnel connection ended before it registered", { error: describe(error) });
    } finally {
      this.#over = true;
      for (const cancel of this.#timers) cancel();
      stopWatching();
      this.#settled();
    }
  }

  async register(params: RegisterConnectionParams): Promise<Registered | Refusal> {
    try {
      return this.#decide(params);
    } catch (error) {
      this.#log.error("Cannot decide on a registration", { tunnelID: params.tunnelId, error: describe(error) });
      throw error;
    } finally {
      this.#settled();
    }
  }

  async unregister(): Promise<void> {
    const { registry, clock, drainMs } = this.#deps;
    this.#log.info("Tunnel connection unregistered", this.#names());
    if (this.#live !== undefined) registry.drain(this.#live);
    if (this.#hangsUpWhenAnswered) {
      this.#later(drainMs, () => this.#session.close());
      while (this.#session.streamCount > 0 && !this.#over) await delay(clock, RUNNING_CHECK_MS);
    }
    if (this.#over) return;
    // The connector reads the answer and then ends its control stream, which lets the rest go; if not, time does.
    this.#later(UNREGISTER_LINGER_MS, () => this.#drain());
  }

  /** Older cloudflared closes a QUIC connection with the answer, whatever runs on it (protocol: section 7). */
  get #hangsUpWhenAnswered(): boolean {
    return this.#session.protocol === "quic" && this.#live?.features.includes(FEATURE_EDGE_LEAVING) === false;
  }

  updateLocalConfiguration(config: Uint8Array): Promise<void> {
    this.#log.debug("Connector reported its configuration", { ...this.#names(), bytes: config.length });
    return Promise.resolve();
  }

  #decide(params: RegisterConnectionParams): Registered | Refusal {
    const { store, registry, clock, location } = this.#deps;
    const { client } = params.options;
    const known = store.tunnels.credentials(params.tunnelId);
    const secretMatches = sameSecret(known?.secret ?? NO_SECRET, params.auth.tunnelSecret);
    const { accountTag } = params.auth;
    const tagMatches = known?.tunnel.accountTag === accountTag || known?.formerAccountTag === accountTag;
    if (known === undefined || !secretMatches || !tagMatches) {
      this.#log.warn("Refused a registration: unknown tunnel or wrong secret", { tunnelID: params.tunnelId });
      return refusal("unauthorized", "Unauthorized: Invalid tunnel secret", false);
    }
    const { expiresAtMs } = known.tunnel;
    if (expiresAtMs !== undefined && expiresAtMs <= clock.wallMs()) {
      this.#log.warn("Refused a registration: the tunnel is over", { tunnelID: params.tunnelId });
      return refusal("unauthorized", "Unauthorized: This tunnel is over", false);
    }
    if (this.#deps.leaving()) return refusal("other", "this edge is stopping", true);
    if (!this.#session.takesStreams) {
      this.#log.warn("Refused a registration: the connection takes no streams", { tunnelID: params.tunnelId });
      return refusal("other", "this connection takes no streams of visitors: use --protocol http2", true);
    }
    const live: LiveConnection = {
      connectionId: newConnectionId(),
      tunnelId: params.tunnelId,
      connectorId: client.clientId,
      connIndex: params.connIndex,
      session: this.#session,
      remoteIp: this.#ip,
      version: client.version,
      arch: client.arch,
      features: client.features,
      registeredAtMs: clock.wallMs(),
      draining: false,
      suspectedAtMs: undefined,
      failures: 0,
      rttMs: undefined,
    };
    // Before anything can be sent on it.
    this.#session.usePeerFeatures(client.features);
    const admission = registry.admit(live);
    if (admission.kind === "duplicate") {
      this.#log.info("Sent a connector to another edge address", {
        tunnelID: params.tunnelId,
        connIndex: params.connIndex,
      });
      return refusal("duplicate", "EDUPCONN", true);
    }
    if (admission.kind === "full") {
      this.#log.warn(`Refused a registration: the tunnel has too many ${admission.what}`, {
        tunnelID: params.tunnelId,
      });
      return refusal("other", `too many ${admission.what} for this tunnel`, true);
    }
    this.#live = live;
    this.#log.info("Tunnel connection registered", {
      ...this.#names(),
      tunnel: known.tunnel.name,
      location,
      protocol: this.#session.protocol,
      version: client.version,
      arch: client.arch,
    });
    if (admission.replaced !== undefined) this.#takeOver(admission.replaced);
    this.#measure();
    const remotelyManaged = known.tunnel.configSource === "remote";
    return { kind: "registered", connectionId: live.connectionId, location, remotelyManaged };
  }

  /** Requests go to the new connection at once. The old one is mostly dead; if it lives, its requests finish. */
  #takeOver(replaced: LiveConnection): void {
    const { session } = replaced;
    this.#deps.registry.drain(replaced);
    const cancel = this.#deps.clock.after(TAKEOVER_MS, () => session.close(), { background: true });
    session.ping().then(
      () => {
        cancel();
        session.drain();
      },
      () => {},
    );
    void session.closed.then(cancel);
  }

  /** The round trip tells near connectors from far ones. */
  #measure(): void {
    const live = this.#live;
    this.#session.ping().then(
      (ms) => {
        if (live !== undefined) live.rttMs = ms;
      },
      () => {},
    );
  }

  #drain(): void {
    if (this.#live !== undefined) this.#deps.registry.drain(this.#live);
    this.#session.drain();
    this.#later(this.#deps.drainMs, () => this.#session.close());
  }

  #later(ms: number, work: () => void): void {
    this.#timers.push(this.#deps.clock.after(ms, work, { background: true }));
  }

  #ended(error: string | undefined): void {
    const live = this.#live;
    if (live === undefined) return;
    this.#deps.registry.remove(live);
    if (error === undefined) this.#log.info("Tunnel connection ended", this.#names());
    else this.#log.warn("Tunnel connection lost", { ...this.#names(), error });
  }

  /** Pings a quiet link and gives up a silent one. Bytes of any kind count as a sign of life. */
  #watchSilence(): () => void {
    const { clock } = this.#deps;
    let cancel: CancelTimer = () => {};
    let seenAtMs = Number.NaN;
    let silentChecks = 0;
    const check = (): void => {
      const { lastReceivedAtMs } = this.#session;
      silentChecks = lastReceivedAtMs === seenAtMs ? silentChecks + 1 : 0;
      seenAtMs = lastReceivedAtMs;
      if (silentChecks >= MAX_SILENT_CHECKS) {
        this.#log.warn("Tunnel connection went silent", this.#names());
        this.#session.close();
        return;
      }
      if (this.#live !== undefined) {
        if (silentChecks >= SUSPECT_CHECKS) this.#live.suspectedAtMs = clock.nowMs();
        // It lives: what failed gets another chance.
        else if (silentChecks === 0) this.#live.failures = 0;
      }
      if (silentChecks > 0) this.#measure();
      cancel = clock.after(LIVENESS_CHECK_MS, check, { background: true });
    };
    cancel = clock.after(LIVENESS_CHECK_MS, check, { background: true });
    return () => cancel();
  }

  #names() {
    const live = this.#live;
    return live === undefined
      ? {}
      : {
          tunnelID: live.tunnelId,
          connector: live.connectorId,
          connIndex: live.connIndex,
          connection: live.connectionId,
        };
  }
}

function refusal(code: Refusal["code"], cause: string, shouldRetry: boolean): Refusal {
  return { kind: "refused", code, cause, retryAfterMs: 0, shouldRetry };
}

/** Compares in constant time, whatever the lengths. */
function sameSecret(expected: Uint8Array, given: Uint8Array): boolean {
  const digest = (bytes: Uint8Array): Uint8Array => createHash("sha256").update(bytes).digest();
  return timingSafeEqual(digest(expected), digest(given));
}
