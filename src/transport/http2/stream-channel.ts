import { TunnelError } from "../../core/errors.ts";
import { type ByteChannel, type ChannelEvents, NO_TRAILERS } from "../../net/channel.ts";
import { H2_ERROR } from "../../wire/h2/constants.ts";
import type { H2Stream, H2StreamEvents } from "../../wire/h2/stream.ts";
import type { RawHeaders } from "../../wire/headers.ts";
import { trailerFields } from "./messages.ts";

/** An HTTP/2 stream as a byte channel. What comes before the body is left to the two ends' own classes. */
export abstract class StreamChannel<Events extends ChannelEvents> implements ByteChannel, H2StreamEvents {
  protected readonly stream: H2Stream;
  protected events: Events | undefined;
  readonly #resetCode: number;
  readonly #onGone: () => void;
  #aborted: TunnelError | undefined;
  #gone = false;
  /** Set while the end waits for an owner to be told. */
  #untold: { readonly error: TunnelError | undefined } | undefined;

  /** `resetCode`: what the peer reads when we abort. `onGone`: called once when the stream is over. */
  constructor(stream: H2Stream, resetCode: number, onGone: () => void) {
    this.stream = stream;
    this.#resetCode = resetCode;
    this.#onGone = onGone;
  }

  abstract onInformational(fields: string[]): void;
  abstract onHead(fields: string[]): void;

  write(chunk: Uint8Array): boolean {
    return this.stream.write(chunk);
  }

  end(trailers: RawHeaders = NO_TRAILERS): void {
    this.stream.end(trailerFields(trailers));
  }

  abort(error: TunnelError): void {
    if (this.#gone || this.#aborted !== undefined) return;
    this.#aborted = error;
    // The owner is told after this call, as with every other channel.
    queueMicrotask(() => this.#close(error));
    this.stream.reset(this.#resetCode);
  }

  pause(): void {
    this.stream.pause();
  }

  resume(): void {
    this.stream.resume();
  }

  listen(events: Events): void {
    this.events = events;
    const untold = this.#untold;
    this.#untold = undefined;
    if (untold !== undefined) queueMicrotask(() => events.onClose(untold.error));
    else this.stream.resume();
  }

  onData(chunk: Uint8Array): void {
    this.events?.onData(chunk);
  }

  onEnd(trailers: RawHeaders): void {
    this.events?.onEnd(trailers);
  }

  onDrain(): void {
    this.events?.onDrain();
  }

  onComplete(): void {
    this.#close(undefined);
  }

  onReset(code: number, byPeer: boolean, processed: boolean): void {
    if (this.#aborted !== undefined) return;
    this.#close(resetError(code, byPeer, processed));
  }

  #close(error: TunnelError | undefined): void {
    if (this.#gone) return;
    this.#gone = true;
    this.#onGone();
    if (this.events === undefined) this.#untold = { error };
    else this.events.onClose(error);
  }
}

function resetError(code: number, byPeer: boolean, processed: boolean): TunnelError {
  if (!processed) {
    return new TunnelError("stream.refused", "The connection took no new stream", { retry: "elsewhere" });
  }
  if (!byPeer) return new TunnelError("session.lost", "The tunnel connection was lost");
  return code === H2_ERROR.cancel || code === H2_ERROR.noError
    ? new TunnelError("stream.reset", "Cancelled by the other side of the tunnel")
    : new TunnelError("stream.reset", `Stream reset by the other side of the tunnel (HTTP/2 code ${code})`);
}
