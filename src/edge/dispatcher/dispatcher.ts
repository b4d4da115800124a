import type { Clock } from "../../core/clock.ts";
import { describe, TunnelError } from "../../core/errors.ts";
import type { TunnelId } from "../../core/ids.ts";
import type { Logger } from "../../core/log.ts";
import type { ByteChannel } from "../../net/channel.ts";
import type { RequestEvents, StreamRequest, StreamResponse } from "../../transport/port.ts";
import type { RawHeaders } from "../../wire/headers.ts";
import type { LiveConnection, Registry } from "../registry.ts";
import type { Store } from "../store/port.ts";
import { Absences } from "./absences.ts";
import { MAX_REPLAY_BYTES, ReplayBudget, ReplayBuffer } from "./replay-buffer.ts";
import { SilenceWatch, type Waiting } from "./silence-watch.ts";

/** Connections one request is offered to. */
export const MAX_TRIES = 4;

const NO_BYTES = new Uint8Array(0);
const NO_ROOM = new TunnelError("stream.limit", "Too many requests wait for their tunnels");
const ABSENT = new TunnelError("stream.refused", "The tunnel has no connection", { retry: "elsewhere" });
const SILENCE = new TunnelError("session.lost", "The connector is silent");

/** Methods whose repetition changes nothing (RFC 9110 section 9.2.2). */
const IDEMPOTENT: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"]);

export type Destination =
  | { readonly kind: "tunnel"; readonly tunnelId: TunnelId }
  /** No tunnel has this hostname. */
  | { readonly kind: "unknown-hostname" }
  /** The tunnel has no connection that takes requests. */
  | { readonly kind: "no-connection"; readonly tunnelId: TunnelId }
  /** The routes cannot be read; the log says why. */
  | { readonly kind: "store-failed" };

/** A visitor's request on its way: the request body goes in here, the answer comes by the events given. */
export interface Dispatch {
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
  readonly #registry: Registry;
  readonly #log: Logger;
  readonly #watch: SilenceWatch;
  readonly #absences: Absences;
  readonly #budget = new ReplayBudget();

  /** `startGraceMs`: how long after now tunnels that never connected are waited for. @default 0 */
  constructor(deps: { store: Store; registry: Registry; clock: Clock; log: Logger; startGraceMs?: number }) {
    this.#absences = new Absences({ clock: deps.clock, startGraceMs: deps.startGraceMs ?? 0 });
    deps.registry.watch(this.#absences);
    this.#watch = new SilenceWatch(deps);
    this.#store = deps.store;
    this.#registry = deps.registry;
    this.#log = deps.log;
  }

  /** `hostname`: lower case, without port. */
  find(hostname: string): Destination {
    let tunnelId: TunnelId | undefined;
    try {
      tunnelId = this.#store.tunnelForHostname(hostname);
    } catch (error) {
      this.#log.error("Cannot look up a hostname", { error: describe(error) });
      return { kind: "store-failed" };
    }
    if (tunnelId === undefined) return { kind: "unknown-hostname" };
    const mayCome = this.#registry.serves(tunnelId) || this.#absences.expects(tunnelId);
    return { kind: mayCome ? "tunnel" : "no-connection", tunnelId };
  }

  /**
   * Opens the request on the connection with the fewest running ones. When that fails and nothing of the request can
   * have reached the origin, or repeating it is harmless and its body is still here, another connection gets it. When
   * there is none, the request waits for a tunnel that was here a moment ago. Fails through `onClose` at last.
   */
  open(tunnelId: TunnelId, request: StreamRequest, events: DispatchEvents): Dispatch {
    const attempt = new Attempt(
      { registry: this.#registry, watch: this.#watch, absences: this.#absences, budget: this.#budget },
      tunnelId,
      request,
      events,
    );
    attempt.next(undefined);
    return attempt;
  }
}

class Attempt implements Dispatch, RequestEvents, Waiting {
  readonly #registry: Registry;
  readonly #watch: SilenceWatch;
  readonly #absences: Absences;
  readonly #tunnelId: TunnelId;
  readonly #request: StreamRequest;
  readonly #events: DispatchEvents;
  readonly #tried: LiveConnection[] = [];
  #channel: ByteChannel | undefined;
  /** What was written so far, for another connection; undefined once it is too much. */
  #kept: ReplayBuffer | undefined;
  #ended: RawHeaders | undefined;
  #answered = false;
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
    },
    tunnelId: TunnelId,
    request: StreamRequest,
    events: DispatchEvents,
  ) {
    this.#registry = deps.registry;
    this.#watch = deps.watch;
    this.#absences = deps.absences;
    this.#kept = new ReplayBuffer(deps.budget);
    this.#tunnelId = tunnelId;
    this.#request = request;
    this.#events = events;
  }

  /** Tries the next connection; `failure` is why the one before did not take the request. */
  next(failure: TunnelError | undefined): void {
    const careful = !IDEMPOTENT.has(this.#request.method) || this.#request.kind !== "http";
    const live =
      this.#tried.length < MAX_TRIES ? this.#registry.choose(this.#tunnelId, this.#tried, careful) : undefined;
    if (live === undefined) {
      this.#waitOrFail(failure);
      return;
    }
    if (failure !== undefined) {
      this.#mayBeHeld = true;
      this.#events.onRetry();
    }
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

  #waitOrFail(failure: TunnelError | undefined): void {
    this.#channel = undefined;
    const fail = (): void => {
      this.#over = true;
      this.#forgetBody();
      this.#events.onClose(failure ?? ABSENT);
    };
    this.#stopWaiting =
      this.#tried.length < MAX_TRIES && !this.#registry.serves(this.#tunnelId)
        ? this.#absences.wait(this.#tunnelId, (returned) => {
            this.#stopWaiting = undefined;
            if (returned) this.next(failure);
            else fail();
          })
        : undefined;
    if (this.#stopWaiting === undefined) queueMicrotask(fail);
    else this.#mayBeHeld = true;
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
    this.#answered = true;
    const live = this.#tried.at(-1);
    if (live !== undefined) {
      live.failures = 0;
      this.#watch.remove(live, this);
    }
    this.#forgetBody();
    this.#events.onResponse(response);
  }

  onData(chunk: Uint8Array): void {
    this.#events.onData(chunk);
  }

  onEnd(trailers: RawHeaders): void {
    this.#events.onEnd(trailers);
  }

  onDrain(): void {
    this.#events.onDrain();
  }

  /** The connection may be dead or only slow, so only what may be done twice goes to another one. */
  onSilence(): void {
    if (this.#over || !this.#mayRepeat(SILENCE)) return;
    const other = this.#registry.choose(this.#tunnelId, this.#tried);
    if (other === undefined || this.#tried.length >= MAX_TRIES) return;
    this.#forget();
    this.#channel?.abort(SILENCE);
  }

  onClose(error: TunnelError | undefined): void {
    this.#forget();
    const live = this.#tried.at(-1);
    // What the visitor gave up says nothing about the connection.
    if (error !== undefined && !this.#answered && !this.#over && live !== undefined) live.failures += 1;
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
    return error.code === "session.lost" && IDEMPOTENT.has(this.#request.method) && this.#request.kind === "http";
  }
}
