import { TunnelError } from "../../core/errors.ts";
import { type ByteChannel, type ChannelEvents, NO_TRAILERS } from "../../net/channel.ts";
import type { RawHeaders } from "../../wire/headers.ts";
import { BodyFrameDecoder, encodeBodyEnd, encodeFrameStart } from "../../wire/quic/body-frames.ts";
import { type StreamHead, StreamHeadDecoder } from "../../wire/quic/stream-head.ts";
import type { QuicStream, QuicStreamEvents } from "./engine.ts";

/** What a reset says: QUIC tunnels use code 0 for everything (protocol: section 4.7). */
export const RESET_CODE = 0;
/**
 * Between our own ends: this stream was not looked at and may go elsewhere. Only sent where the edge asked for framed
 * bodies, since others take every reset for a failed request.
 */
export const REFUSED_CODE = 0x43;

/** A write shorter than this is copied behind its frame's length instead of being sent on its own. */
const JOIN_BELOW_BYTES = 4 * 1024;

type Reading = "head" | "raw" | "frames" | "over";
/** Something for the owner: bytes, or the end of the peer's direction. */
type Item = { readonly chunk: Uint8Array } | { readonly trailers: RawHeaders };

/**
 * A QUIC stream as a byte channel: the heads in front of the body are read here and given to the two ends' own
 * classes; behind them come raw bytes or frames.
 */
export abstract class StreamChannel<Events extends ChannelEvents> implements ByteChannel, QuicStreamEvents {
  protected readonly stream: QuicStream;
  protected events: Events | undefined;
  readonly #onGone: () => void;
  #reading: Reading;
  #head: StreamHeadDecoder | undefined;
  #body: BodyFrameDecoder | undefined;
  #framesOut = false;
  #sendOver = false;
  #receiveOver = false;
  #aborted: TunnelError | undefined;
  #gone = false;
  #paused = false;
  /** What was decoded and may not be told yet: the rest of one read, since a held stream reads no further. */
  #held: Item[] = [];
  #heldTimer = false;
  /** Set while the end waits for an owner to be told. */
  #untold: { readonly error: TunnelError | undefined } | undefined;

  /** `reading`: what comes first. `onGone`: called once when the stream is over. */
  constructor(stream: QuicStream, reading: "head" | "raw", onGone: () => void) {
    this.stream = stream;
    this.#reading = reading;
    this.#onGone = onGone;
    if (reading === "head") this.#head = new StreamHeadDecoder();
  }

  /** A message of the head. Calls `startBody` when the body follows it; else another message is read. */
  protected abstract onHead(head: Extract<StreamHead, { kind: "data" | "rpc" | "leaving" }>): void;
  /** The peer asked to stop writing; true = the whole stream is over with it. */
  protected abstract stopEndsStream(): boolean;

  /** What is read from here on. */
  protected startBody(kind: "raw" | "frames"): void {
    this.#reading = kind;
    if (kind === "frames") this.#body = new BodyFrameDecoder();
  }

  protected set framesOut(frames: boolean) {
    this.#framesOut = frames;
  }

  /** Sends bytes that are no body; `last` = our direction ends with them. */
  protected sendHead(bytes: Uint8Array, last: boolean): void {
    if (this.#sendOver || this.#gone) return;
    if (!last) {
      this.stream.write(bytes);
      return;
    }
    this.#sendOver = true;
    this.stream.end(bytes);
    this.#completeSoon();
  }

  protected get isGone(): boolean {
    return this.#gone;
  }

  write(chunk: Uint8Array): boolean {
    if (this.#sendOver || this.#gone || chunk.length === 0) return true;
    if (!this.#framesOut) return this.stream.write(chunk);
    const start = encodeFrameStart(chunk.length);
    if (chunk.length < JOIN_BELOW_BYTES) {
      const joined = new Uint8Array(start.length + chunk.length);
      joined.set(start);
      joined.set(chunk, start.length);
      return this.stream.write(joined);
    }
    this.stream.write(start);
    return this.stream.write(chunk);
  }

  end(trailers: RawHeaders = NO_TRAILERS): void {
    if (this.#sendOver || this.#gone) return;
    this.#sendOver = true;
    this.stream.end(this.#framesOut ? encodeBodyEnd(trailers) : undefined);
    this.#completeSoon();
  }

  abort(error: TunnelError): void {
    this.abortWith(error, RESET_CODE);
  }

  protected abortWith(error: TunnelError, code: number): void {
    if (this.#gone || this.#aborted !== undefined) return;
    this.#aborted = error;
    this.stream.abandon(code);
    // The owner is told after this call, as with every other channel.
    queueMicrotask(() => this.#close(error));
  }

  pause(): void {
    this.#paused = true;
    this.stream.pause();
  }

  resume(): void {
    this.#paused = false;
    if (this.#held.length === 0) this.stream.resume();
    else this.#tellHeldSoon();
  }

  listen(events: Events): void {
    this.events = events;
    const untold = this.#untold;
    this.#untold = undefined;
    if (untold !== undefined) queueMicrotask(() => events.onClose(untold.error));
    else this.resume();
  }

  onData(chunk: Uint8Array): void {
    if (this.#aborted !== undefined || this.#reading === "over") return;
    switch (this.#reading) {
      case "head":
        this.#readHead(chunk);
        return;
      case "raw":
        this.#tell({ chunk });
        return;
      case "frames":
        this.#readFrames(chunk);
        return;
    }
  }

  onEnd(): void {
    if (this.#aborted !== undefined) return;
    if (this.#reading === "raw") {
      this.#endReceiving(NO_TRAILERS);
      return;
    }
    if (this.#reading === "over") return;
    // FIN in front of the head, or inside a framed body.
    this.abort(new TunnelError("stream.protocol", "The stream ended too early"));
  }

  onDrain(): void {
    this.events?.onDrain();
  }

  onReset(code: number): void {
    if (this.#aborted !== undefined) return;
    const error =
      code === REFUSED_CODE
        ? new TunnelError("stream.refused", "The connection took no new stream", { retry: "elsewhere" })
        : new TunnelError("stream.reset", "Cancelled by the other side of the tunnel");
    this.stream.abandon(RESET_CODE);
    this.#close(error);
  }

  onStopped(): void {
    if (this.#aborted !== undefined) return;
    if (this.stopEndsStream()) {
      this.stream.abandon(RESET_CODE);
      this.#close(new TunnelError("stream.reset", "Cancelled by the other side of the tunnel"));
      return;
    }
    const wasOpen = !this.#sendOver;
    this.#sendOver = true;
    // Whoever waits for room would wait for ever.
    if (wasOpen) this.events?.onDrain();
    this.#complete();
  }

  onLost(error: TunnelError): void {
    if (this.#aborted === undefined) this.#close(error);
  }

  #readHead(chunk: Uint8Array): void {
    const decoder = this.#head as StreamHeadDecoder;
    decoder.push(chunk);
    while (this.#reading === "head" && this.#aborted === undefined && !this.#gone) {
      const head = decoder.next();
      if (head.kind === "need") return;
      if (head.kind === "malformed") {
        this.abort(new TunnelError("stream.protocol", `Unreadable stream head: ${head.reason}`));
        return;
      }
      this.onHead(head);
    }
    this.#head = undefined;
    const rest = decoder.takeRest();
    if (rest.length > 0) this.onData(rest);
    else if (this.events === undefined) this.stream.pause();
  }

  #readFrames(chunk: Uint8Array): void {
    const problem = (this.#body as BodyFrameDecoder).receive(chunk, {
      onData: (bytes) => this.#tell({ chunk: bytes }),
      onBodyEnd: (trailers) => this.#endReceiving(trailers),
    });
    if (problem !== undefined) this.abort(new TunnelError("stream.protocol", `Unreadable body: ${problem.reason}`));
  }

  /** The body is complete. With frames FIN is still to come, and nothing is owed to it. */
  #endReceiving(trailers: RawHeaders): void {
    if (this.#reading === "over") return;
    this.#reading = "over";
    this.#tell({ trailers });
  }

  #tell(item: Item): void {
    if (this.#paused || this.events === undefined || this.#held.length > 0) {
      this.#held.push(item);
      this.stream.pause();
    } else {
      this.#tellNow(item);
    }
  }

  #tellNow(item: Item): void {
    if (this.#aborted !== undefined || this.#gone) return;
    if ("chunk" in item) {
      this.events?.onData(item.chunk);
      return;
    }
    this.#receiveOver = true;
    this.events?.onEnd(item.trailers);
    this.#complete();
  }

  /** Nothing is told during the call that resumes. */
  #tellHeldSoon(): void {
    if (this.#heldTimer) return;
    this.#heldTimer = true;
    queueMicrotask(() => {
      this.#heldTimer = false;
      while (!this.#paused && this.#held.length > 0) this.#tellNow(this.#held.shift() as Item);
      if (!this.#paused) this.stream.resume();
    });
  }

  #completeSoon(): void {
    if (this.#receiveOver) queueMicrotask(() => this.#complete());
  }

  #complete(): void {
    if (this.#sendOver && this.#receiveOver) this.#close(undefined);
  }

  #close(error: TunnelError | undefined): void {
    if (this.#gone) return;
    this.#gone = true;
    this.#onGone();
    if (this.events === undefined) this.#untold = { error };
    else this.events.onClose(error);
  }
}
