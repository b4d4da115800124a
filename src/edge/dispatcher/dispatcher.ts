import type { Clock } from "../../core/clock.ts";
import { describe, TunnelError } from "../../core/errors.ts";
import { type ConnectorId, parseTunnelId, type TunnelId } from "../../core/ids.ts";
import type { Logger } from "../../core/log.ts";
import type { ByteChannel } from "../../net/channel.ts";
import type { RequestEvents, StreamRequest, StreamResponse } from "../../transport/port.ts";
import type { RawHeaders } from "../../wire/headers.ts";
import { isDoubtful, type LiveConnection, type Registry } from "../registry.ts";
import type { Store, Target } from "../store/port.ts";
import { Absences } from "./absences.ts";
import { type DispatchCounters, newDispatchCounters } from "./counters.ts";
import { MAX_REPLAY_BYTES, ReplayBudget, ReplayBuffer } from "./replay-buffer.ts";
import type { Balance, BalancedRoute, Visitor } from "./route.ts";
import { SilenceWatch, type Waiting } from "./silence-watch.ts";

/** Connections one request is offered to. */
export const MAX_TRIES = 4;

const NO_BYTES = new Uint8Array(0);
const NO_ROOM = new TunnelError("stream.limit", "Too many requests wait for their tunnels");
const ABSENT = new TunnelError("stream.refused", "The tunnel has no connection", { retry: "elsewhere" });
const BAD_GATEWAY = new TunnelError("origin.dial", "Nobody answers behind the connector");
const SILENCE = new TunnelError("session.lost", "The connector is silent");

/** Tunnels of a load balancer that one request waits for. */
const MAX_AWAITED = 8;

/** Methods whose repetition changes nothing (RFC 9110 section 9.2.2). */
const IDEMPOTENT: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"]);

export type Destination =
  /** `route`: where else the request may go, behind a load balancer. */
  | { readonly kind: "tunnel"; readonly tunnelId: TunnelId; readonly route?: BalancedRoute }
  /** No tunnel has this hostname. */
  | { readonly kind: "unknown-hostname" }
  /** The tunnel, or every tunnel of the balancer, has no connection that takes requests. */
  | { readonly kind: "no-connection"; readonly target: Target }
  /** The routes cannot be read; the log says why. */
  | { readonly kind: "store-failed" };

/** A visitor's request on its way: the request body goes in here, the answer comes by the events given. */
export interface Dispatch {
  /** The tunnel that has the request, or had it last; undefined = none had it, or it went to no tunnel at all. */
  readonly tunnelId?: TunnelId | undefined;
  /** Whose connection has the request, or had it last. */
  readonly connectorId: ConnectorId | undefined;
  write(chunk: Uint8Array): boolean;
  end(trailers: RawHeaders): void;
  abort(error: TunnelError): void;
  pause(): void;
  resume(): void;
}

export interface DispatchEvents extends RequestEvents {
  /** The request was taken back from a connection and given to another. */
  onRetry(): void;
}

/** From a hostname to a live connection. */
export class Dispatcher {
  readonly #store: Store;
  readonly #balance: Balance;
  readonly #directSuffix: string | undefined;
  readonly #registry: Registry;
  readonly #log: Logger;
  readonly #watch: SilenceWatch;
  readonly #absences: Absences;
  readonly #budget = new ReplayBudget();
  readonly counters: DispatchCounters = newDispatchCounters();

  /**
   * `startGraceMs`: how long after now tunnels that never connected are waited for. @default 0
   * `balance`: without it no balancer has a tunnel.
   * `directDomain`: `TUNNEL-ID.` in front of this name reaches the tunnel, whatever is routed. Lower case.
   */
  constructor(deps: {
    store: Store;
    registry: Registry;
    clock: Clock;
    log: Logger;
    startGraceMs?: number;
    balance?: Balance;
    directDomain?: string | undefined;
  }) {
    this.#absences = new Absences({ clock: deps.clock, startGraceMs: deps.startGraceMs ?? 0 });
    deps.registry.watch(this.#absences);
    this.#watch = new SilenceWatch(deps);
    this.#store = deps.store;
    this.#balance = deps.balance ?? (() => undefined);
    this.#directSuffix = deps.directDomain === undefined ? undefined : `.${deps.directDomain}`;
    this.#registry = deps.registry;
    this.#log = deps.log;
  }

  /**
   * `hostname`: lower case, without port.
   * `visitor`: whoever asks; without it the hostname of a load balancer is known, but leads nowhere.
   */
  find(hostname: string, visitor?: () => Visitor): Destination {
    const found = this.#find(hostname, visitor);
    this.counters.lookups[found.kind] += 1;
    return found;
  }

  #find(hostname: string, visitor: (() => Visitor) | undefined): Destination {
    let target: Target | undefined;
    try {
      target = this.#direct(hostname) ?? this.#store.hostnames.lookUp(hostname);
    } catch (error) {
      this.#log.error("Cannot look up a hostname", { error: describe(error) });
      return { kind: "store-failed" };
    }
    if (target === undefined) return { kind: "unknown-hostname" };
    if (target.kind === "balancer") {
      const chosen =
        visitor === undefined
          ? undefined
          : this.#balance(target.balancerId, visitor(), (tunnelId) => this.#mayCome(tunnelId));
      return chosen === undefined ? { kind: "no-connection", target } : { kind: "tunnel", ...chosen };
    }
    const { tunnelId } = target;
    return this.#mayCome(tunnelId) ? { kind: "tunnel", tunnelId } : { kind: "no-connection", target };
  }

  #mayCome(tunnelId: TunnelId): boolean {
    return this.#registry.serves(tunnelId) || this.#absences.expects(tunnelId);
  }

  /** The tunnel whose id stands in front of the edge's own domain. */
  #direct(hostname: string): Target | undefined {
    const suffix = this.#directSuffix;
    if (suffix === undefined || !hostname.endsWith(suffix)) return undefined;
    const tunnelId = parseTunnelId(hostname.slice(0, -suffix.length));
    if (tunnelId === undefined) return undefined;
    if (this.#registry.serves(tunnelId)) return { kind: "tunnel", tunnelId };
    const tunnel = this.#store.tunnels.get(tunnelId);
    return tunnel === undefined || tunnel.deletedAtMs !== undefined ? undefined : { kind: "tunnel", tunnelId };
  }

  /**
   * Opens the request on the connection with the fewest running ones. When that fails and nothing of the request can
   * have reached the origin, or repeating it is harmless and its body is still here, another connection gets it. When
   * there is none, the request waits for a tunnel that was here a moment ago. Fails through `onClose` at last.
   * `route`: other tunnels that may get the request instead, by the same rules.
   */
  open(tunnelId: TunnelId, request: StreamRequest, events: DispatchEvents, route?: BalancedRoute): Dispatch {
    const attempt = new Attempt(
      {
        ...{ registry: this.#registry, watch: this.#watch, absences: this.#absences, budget: this.#budget },
        counters: this.counters,
      },
      tunnelId,
      request,
      events,
      route,
    );
    attempt.next(undefined);
    return attempt;
  }
}

class Attempt implements Dispatch, RequestEvents, Waiting {
  readonly #registry: Registry;
  readonly #watch: SilenceWatch;
  readonly #absences: Absences;
  readonly #counters: DispatchCounters;
  #tunnelId: TunnelId;
  readonly #route: BalancedRoute | undefined;
  readonly #request: StreamRequest;
  readonly #events: DispatchEvents;
  readonly #tried: LiveConnection[] = [];
  #channel: ByteChannel | undefined;
  /** What was written so far, for another connection; undefined once it is too much. */
  #kept: ReplayBuffer | undefined;
  #ended: RawHeaders | undefined;
  #answered = false;
  /** Its connector answered that nobody is there, and another tunnel gets the request. */
  #dropped = false;
  #paused = false;
  #over = false;
  /** The visitor was told to hold back, or may have been. */
  #mayBeHeld = false;
  /** Set while it waits for its tunnel. */
  #stopWaiting: (() => void) | undefined;

  constructor(
    deps: {
      readonly registry: Registry;
      readonly watch: SilenceWatch;
      readonly absences: Absences;
      readonly budget: ReplayBudget;
      readonly counters: DispatchCounters;
    },
    tunnelId: TunnelId,
    request: StreamRequest,
    events: DispatchEvents,
    route: BalancedRoute | undefined,
  ) {
    this.#route = route;
    this.#registry = deps.registry;
    this.#watch = deps.watch;
    this.#absences = deps.absences;
    this.#counters = deps.counters;
    this.#kept = new ReplayBuffer(deps.budget);
    this.#tunnelId = tunnelId;
    this.#request = request;
    this.#events = events;
  }

  get connectorId(): ConnectorId | undefined {
    return this.#tried.at(-1)?.connectorId;
  }

  get tunnelId(): TunnelId | undefined {
    return this.#tried.at(-1)?.tunnelId;
  }

  /** Tries the next connection; `failure` is why the one before did not take the request. */
  next(failure: TunnelError | undefined): void {
    const live = this.#choose();
    if (live === undefined) {
      this.#waitOrFail(failure);
      return;
    }
    if (failure !== undefined) {
      this.#mayBeHeld = true;
      this.#counters.choices.retried += 1;
      this.#events.onRetry();
    }
    const { protocol } = live.session;
    this.#counters.streams[protocol] = (this.#counters.streams[protocol] ?? 0) + 1;
    this.#tried.push(live);
    this.#watch.add(live, this);
    const channel = live.session.open(this.#request, this);
    this.#channel = channel;
    if (this.#paused) channel.pause();
    const kept = this.#kept?.bytes ?? NO_BYTES;
    const room = kept.length === 0 || channel.write(kept);
    if (kept.length > MAX_REPLAY_BYTES) this.#forgetBody();
    if (this.#ended !== undefined) channel.end(this.#ended);
    else if (this.#mayBeHeld && room) this.#events.onDrain();
  }

  /** The tunnel's best connection; another tunnel's where that one is doubtful, and there are others. */
  #choose(): LiveConnection | undefined {
    if (this.#tried.length >= MAX_TRIES) return undefined;
    const careful = !this.#isHarmless;
    const own = this.#dropped ? undefined : this.#registry.choose(this.#tunnelId, this.#tried, careful);
    if (this.#route === undefined || (own !== undefined && !isDoubtful(own))) return own;
    let best = own;
    for (let other = this.#route.another(); other !== undefined; other = this.#route.another()) {
      const live = this.#registry.choose(other, this.#tried, careful);
      best ??= live;
      if (live === undefined || isDoubtful(live)) continue;
      best = live;
      break;
    }
    if (best !== undefined && best.tunnelId !== this.#tunnelId) {
      this.#counters.choices.another_tunnel += 1;
      this.#tunnelId = best.tunnelId;
    }
    return best;
  }

  #waitOrFail(failure: TunnelError | undefined): void {
    this.#channel = undefined;
    const { choices } = this.#counters;
    const fail = (): void => {
      choices.failed += 1;
      this.#over = true;
      this.#forgetBody();
      this.#events.onClose(failure ?? ABSENT);
    };
    this.#stopWaiting = this.#wait((tunnelId) => {
      this.#stopWaiting = undefined;
      if (tunnelId === undefined) fail();
      else {
        choices.waited_served += 1;
        this.#tunnelId = tunnelId;
        this.next(failure);
      }
    });
    if (this.#stopWaiting === undefined) queueMicrotask(fail);
    else {
      choices.waited += 1;
      this.#mayBeHeld = true;
    }
  }

  /**
   * Tells which tunnel is back first, or that none is expected any more. Gives what ends the wait; undefined = there is
   * nothing to wait for.
   */
  #wait(tell: (tunnelId: TunnelId | undefined) => void): (() => void) | undefined {
    const tunnels = this.#route?.tunnels ?? [this.#tunnelId];
    if (this.#tried.length >= MAX_TRIES || tunnels.some((tunnelId) => this.#registry.serves(tunnelId)))
      return undefined;
    const waits = new Map<TunnelId, () => void>();
    const stop = (): void => {
      for (const cancel of waits.values()) cancel();
      waits.clear();
    };
    for (const tunnelId of tunnels.slice(0, MAX_AWAITED)) {
      const cancel = this.#absences.wait(tunnelId, (returned) => {
        if (!waits.delete(tunnelId)) return;
        if (!returned && waits.size > 0) return;
        stop();
        tell(returned ? tunnelId : undefined);
      });
      if (cancel !== undefined) waits.set(tunnelId, cancel);
    }
    return waits.size === 0 ? undefined : stop;
  }

  write(chunk: Uint8Array): boolean {
    if (this.#channel === undefined) return this.#keepWhileWaiting(chunk);
    if (this.#kept?.append(chunk) === false) this.#forgetBody();
    return this.#channel.write(chunk);
  }

  /** Without a connection the buffer is the only place for it; one chunk more than the limit may be under way. */
  #keepWhileWaiting(chunk: Uint8Array): boolean {
    if (this.#over || this.#kept === undefined) return true;
    if (this.#kept.append(chunk, this.#kept.length <= MAX_REPLAY_BYTES)) return this.#kept.length <= MAX_REPLAY_BYTES;
    this.#over = true;
    this.#stopWaiting?.();
    this.#forgetBody();
    queueMicrotask(() => this.#events.onClose(NO_ROOM));
    return true;
  }

  end(trailers: RawHeaders): void {
    if (this.#ended !== undefined) return;
    this.#ended = trailers;
    if (!this.#request.bodyless) this.#channel?.end(trailers);
  }

  abort(error: TunnelError): void {
    this.#over = true;
    this.#stopWaiting?.();
    this.#forgetBody();
    this.#channel?.abort(error);
  }

  pause(): void {
    this.#paused = true;
    this.#channel?.pause();
  }

  resume(): void {
    this.#paused = false;
    this.#channel?.resume();
  }

  onInformational(status: number, headers: RawHeaders): void {
    this.#events.onInformational(status, headers);
  }

  onResponse(response: StreamResponse): void {
    const live = this.#tried.at(-1);
    if (live !== undefined) {
      live.failures = 0;
      this.#watch.remove(live, this);
    }
    this.#route?.answered(this.#tunnelId, response.status);
    if (this.#isWorthless(response)) {
      this.#dropped = true;
      this.#channel?.abort(BAD_GATEWAY);
      return;
    }
    this.#answered = true;
    this.#forgetBody();
    const added = this.#route?.answerFields(this.#tunnelId) ?? [];
    this.#events.onResponse(added.length === 0 ? response : { ...response, headers: [...response.headers, ...added] });
  }

  /** The connector found nobody behind it, and another tunnel may do better with what may be done twice. */
  #isWorthless({ source, status }: StreamResponse): boolean {
    if (source !== "cloudflared" || status !== 502 || this.#over || this.#kept === undefined) return false;
    return this.#route?.hasMore === true && this.#tried.length < MAX_TRIES && this.#isHarmless;
  }

  onData(chunk: Uint8Array): void {
    if (!this.#dropped) this.#events.onData(chunk);
  }

  onEnd(trailers: RawHeaders): void {
    if (!this.#dropped) this.#events.onEnd(trailers);
  }

  onDrain(): void {
    if (!this.#dropped) this.#events.onDrain();
  }

  /** The connection may be dead or only slow, so only what may be done twice goes to another one. */
  onSilence(): void {
    if (this.#over || !this.#mayRepeat(SILENCE)) return;
    const other = this.#registry.choose(this.#tunnelId, this.#tried);
    if ((other === undefined && this.#route?.hasMore !== true) || this.#tried.length >= MAX_TRIES) return;
    this.#forget();
    this.#channel?.abort(SILENCE);
  }

  onClose(error: TunnelError | undefined): void {
    this.#forget();
    if (this.#dropped && !this.#over) {
      this.next(BAD_GATEWAY);
      this.#dropped = false;
      return;
    }
    const live = this.#tried.at(-1);
    // What the visitor gave up says nothing about the connection.
    if (error !== undefined && !this.#answered && !this.#over && live !== undefined) {
      live.failures += 1;
      this.#route?.failed(this.#tunnelId, error);
    }
    if (error !== undefined && !this.#over && this.#mayRepeat(error)) this.next(error);
    else {
      this.#forgetBody();
      this.#events.onClose(error);
    }
  }

  #forgetBody(): void {
    this.#kept?.release();
    this.#kept = undefined;
  }

  #forget(): void {
    const live = this.#tried.at(-1);
    if (live !== undefined) this.#watch.remove(live, this);
  }

  #mayRepeat(error: TunnelError): boolean {
    if (this.#answered || this.#kept === undefined) return false;
    if (error.retry === "elsewhere") return true;
    return error.code === "session.lost" && this.#isHarmless;
  }

  /** The request may be sent twice. */
  get #isHarmless(): boolean {
    return IDEMPOTENT.has(this.#request.method) && this.#request.kind === "http";
  }
}
