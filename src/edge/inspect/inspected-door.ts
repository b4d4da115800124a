import type { Clock } from "../../core/clock.ts";
import type { TunnelError } from "../../core/errors.ts";
import type { TunnelId } from "../../core/ids.ts";
import type { StreamRequest, StreamResponse } from "../../transport/port.ts";
import type { RawHeaders } from "../../wire/headers.ts";
import type { Dispatch, DispatchEvents } from "../dispatcher/dispatcher.ts";
import type { BalancedRoute } from "../dispatcher/route.ts";
import type { FrontDoor } from "../site/own-site.ts";
import { boundedHead, type Recording, type Recordings } from "./recording.ts";

/** A front door that keeps a copy of what goes through it to some tunnels. */
export interface InspectedDoor extends FrontDoor {
  /** As `open`, for a request that repeats another one. */
  replay(
    tunnelId: TunnelId,
    request: StreamRequest,
    events: DispatchEvents,
    replayOf: number,
  ): { readonly dispatch: Dispatch; readonly recording: Recording };
}

/** `inspects`: whether requests to this tunnel are kept. */
export function inspectedDoor(
  door: FrontDoor,
  deps: { readonly recordings: Recordings; readonly clock: Clock; readonly inspects: (tunnelId: TunnelId) => boolean },
): InspectedDoor {
  const { recordings, clock, inspects } = deps;
  const record = (
    tunnelId: TunnelId,
    request: StreamRequest,
    events: DispatchEvents,
    route: BalancedRoute | undefined,
    replayOf?: number,
  ): { readonly dispatch: Dispatch; readonly recording: Recording } => {
    const recording = recordings.begin(tunnelId, request, clock.wallMs(), replayOf);
    const copy = new CopiedDispatch(recording, events, clock);
    copy.carrier = door.open(tunnelId, request, copy, route);
    return { dispatch: copy, recording };
  };
  return {
    find: (...args) => door.find(...args),
    open: (tunnelId, request, events, route) =>
      inspects(tunnelId)
        ? record(tunnelId, request, events, route).dispatch
        : door.open(tunnelId, request, events, route),
    replay: (tunnelId, request, events, replayOf) => record(tunnelId, request, events, undefined, replayOf),
  };
}

/** Stands between visitor and tunnel, and writes down what passes. */
class CopiedDispatch implements Dispatch, DispatchEvents {
  readonly #recording: Recording;
  readonly #events: DispatchEvents;
  readonly #clock: Clock;
  readonly #startedAtMs: number;
  /** Set at once, before anything is reported. */
  carrier: Dispatch | undefined;

  constructor(recording: Recording, events: DispatchEvents, clock: Clock) {
    this.#recording = recording;
    this.#events = events;
    this.#clock = clock;
    this.#startedAtMs = clock.nowMs();
  }

  get tunnelId(): Dispatch["tunnelId"] {
    return this.carrier?.tunnelId;
  }

  get connectorId(): Dispatch["connectorId"] {
    return this.carrier?.connectorId;
  }

  write(chunk: Uint8Array): boolean {
    this.#recording.requestBody.add(chunk);
    return this.carrier?.write(chunk) ?? true;
  }

  end(trailers: RawHeaders): void {
    this.#recording.requestEnded = true;
    this.carrier?.end(trailers);
  }

  abort(error: TunnelError): void {
    this.#finish(error.message);
    this.carrier?.abort(error);
  }

  pause(): void {
    this.carrier?.pause();
  }

  resume(): void {
    this.carrier?.resume();
  }

  onRetry(): void {
    this.#recording.retries += 1;
    this.#events.onRetry();
  }

  onInformational(status: number, headers: RawHeaders): void {
    this.#events.onInformational(status, headers);
  }

  onResponse(response: StreamResponse): void {
    const recording = this.#recording;
    recording.status = response.status;
    recording.answeredBy = response.source === "origin" ? "origin" : "connector";
    recording.headers = boundedHead(response.headers);
    recording.firstByteMs = this.#clock.nowMs() - this.#startedAtMs;
    recording.connectorId = this.carrier?.connectorId;
    this.#events.onResponse(response);
  }

  onData(chunk: Uint8Array): void {
    this.#recording.body.add(chunk);
    this.#events.onData(chunk);
  }

  onEnd(trailers: RawHeaders): void {
    this.#recording.trailers = boundedHead(trailers);
    // An upgraded connection goes on in the other direction.
    if (this.#recording.request.kind === "http") this.#finish(undefined);
    this.#events.onEnd(trailers);
  }

  onDrain(): void {
    this.#events.onDrain();
  }

  onClose(error: TunnelError | undefined): void {
    this.#finish(error?.message);
    this.#events.onClose(error);
  }

  #finish(error: string | undefined): void {
    const recording = this.#recording;
    if (recording.durationMs !== undefined) return;
    recording.durationMs = this.#clock.nowMs() - this.#startedAtMs;
    recording.error = error;
    recording.connectorId = this.carrier?.connectorId ?? recording.connectorId;
  }
}
