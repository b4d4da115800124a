import type { Clock } from "../../core/clock.ts";
import { TunnelError } from "../../core/errors.ts";
import type { StreamRequest } from "../../transport/port.ts";
import type { DispatchEvents } from "../dispatcher/dispatcher.ts";
import type { InspectedDoor } from "./inspected-door.ts";
import { isReplayable, type Recording } from "./recording.ts";

/** Bound on one repetition, in ms: some answers never end. */
const MAX_REPLAY_MS = 60_000;
const MAX_REPLAYS = 16;

/** Sends recorded requests again, through the tunnel that had them. */
export class Replays {
  readonly #deps: { readonly door: InspectedDoor; readonly clock: Clock; readonly nextRay: () => string };
  #running = 0;

  constructor(deps: { readonly door: InspectedDoor; readonly clock: Clock; readonly nextRay: () => string }) {
    this.#deps = deps;
  }

  /**
   * Sends it again, byte for byte but with a ray id of its own, and returns the new recording at once. Throws
   * `config.invalid` for what cannot be repeated: handshakes, and bodies that were not kept as a whole; `stream.limit`
   * when too many repetitions run.
   */
  start(recording: Recording): Recording {
    const { door, clock, nextRay } = this.#deps;
    if (!isReplayable(recording)) throw new TunnelError("config.invalid", "This request was not kept as a whole");
    if (this.#running >= MAX_REPLAYS) throw new TunnelError("stream.limit", "Too many repetitions run at once");
    const request: StreamRequest = { ...recording.request, headers: withRay(recording.request.headers, nextRay()) };
    this.#running += 1;
    let over = false;
    const done = (): void => {
      if (over) return;
      over = true;
      this.#running -= 1;
      cancel();
    };
    const events: DispatchEvents = {
      onRetry: () => {},
      onInformational: () => {},
      onResponse: () => {},
      onData: () => {},
      onEnd: done,
      onDrain: () => {},
      onClose: done,
    };
    const cancel = clock.after(MAX_REPLAY_MS, () => {
      done();
      sent.dispatch.abort(new TunnelError("timeout", `The answer was not over within ${MAX_REPLAY_MS / 1_000} s`));
    });
    const sent = door.replay(recording.tunnelId, request, events, recording.id);
    if (!request.bodyless) {
      const body = recording.requestBody.bytes;
      if (body.length > 0) sent.dispatch.write(body);
      sent.dispatch.end([]);
    }
    return sent.recording;
  }
}

function withRay(headers: readonly string[], ray: string): string[] {
  return headers.map((text, i) => (i % 2 === 1 && headers[i - 1]?.toLowerCase() === "cf-ray" ? ray : text));
}
