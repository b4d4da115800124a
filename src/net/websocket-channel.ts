import { type CancelTimer, type Clock, systemClock } from "../core/clock.ts";
import { TunnelError } from "../core/errors.ts";
import { CLOSE, MASK_BYTES, OPCODE } from "../wire/websocket/frame.ts";
import { type WebSocketHandler, WebSocketReader } from "../wire/websocket/reader.ts";
import { encodeClose, encodeFrame, encodeMessages } from "../wire/websocket/writer.ts";
import { type ByteChannel, type ChannelEvents, NO_TRAILERS } from "./channel.ts";

/**
 * Bytes of one message we send. What cloudflared's connector sends and, more to the point, the most that it reads: it
 * drops the rest of a longer message (surface: section 13).
 */
export const MAX_MESSAGE_BYTES = 16 * 1024;

/** How long the peer may take to close its connection once there is nothing more to say, in ms. */
const LINGER_MS = 5_000;
const MASK_POOL_BYTES = 4 * 1024;

export interface WebSocketChannelOptions {
  /** The client masks; the server drops text messages, as cloudflared does (protocol: section 2.8). */
  readonly role: "server" | "client";
  /** Time between our own pings in ms, which show a dead peer to both sides. @default 0, none */
  readonly pingEveryMs?: number;
  /** @default the system's clock */
  readonly clock?: Clock;
}

/**
 * Bytes inside binary messages of a WebSocket, after its handshake (RFC 6455). Message borders mean nothing. `carrier`
 * has the WebSocket's own bytes and belongs to this channel from here on.
 *
 * Half-close: our end is a close frame, behind which the peer may go on; its close frame, or the end of the carrier, is
 * its end. A cut in the middle of a frame is a failure.
 */
export class WebSocketChannel implements ByteChannel {
  readonly #carrier: ByteChannel;
  readonly #clock: Clock;
  readonly #client: boolean;
  readonly #reader: WebSocketReader;
  readonly #nextMask: (() => Uint8Array) | undefined;
  readonly #pingEveryMs: number;
  #events: ChannelEvents | undefined;
  #paused = true;
  /** What one read of the carrier held. */
  #parts: Uint8Array[] = [];
  /** Read, but not to be told yet: never more than one read of the carrier, which is held back with us. */
  #held: Uint8Array[] = [];
  #peerEnded = false;
  /** The peer ended with a close frame: how its connection goes away afterwards does not matter any more. */
  #peerClosed = false;
  #endDelivered = false;
  #ended = false;
  #carrierFull = false;
  #writerWaits = false;
  /** The newest ping that could not be answered yet: older ones need no answer (RFC 6455 section 5.5.3). */
  #pong: Uint8Array | undefined;
  #closing: { readonly error: TunnelError | undefined } | undefined;
  #told = false;
  #scheduled = false;
  #carrierGone = false;
  #cancelPing: CancelTimer = () => {};
  #cancelLinger: CancelTimer | undefined;

  constructor(carrier: ByteChannel, options: WebSocketChannelOptions) {
    this.#carrier = carrier;
    this.#clock = options.clock ?? systemClock;
    this.#client = options.role === "client";
    this.#reader = new WebSocketReader({ masked: !this.#client });
    this.#nextMask = this.#client ? createMasks() : undefined;
    this.#pingEveryMs = options.pingEveryMs ?? 0;
    carrier.listen(this.#carrierEvents());
    carrier.pause();
    this.#armPing();
  }

  write(chunk: Uint8Array): boolean {
    if (this.#ended || this.#closing !== undefined || chunk.length === 0) return true;
    if (this.#send(encodeMessages(chunk, MAX_MESSAGE_BYTES, this.#nextMask))) return true;
    this.#writerWaits = true;
    return false;
  }

  end(): void {
    if (this.#ended || this.#closing !== undefined) return;
    this.#ended = true;
    this.#send(encodeClose(CLOSE.normal, "", this.#nextMask?.()));
    if (this.#peerEnded) this.#finish();
  }

  abort(error: TunnelError): void {
    if (this.#closing !== undefined) return;
    this.#close(error);
    this.#carrier.abort(error);
  }

  pause(): void {
    if (this.#paused) return;
    this.#paused = true;
    if (!this.#peerEnded) this.#carrier.pause();
  }

  resume(): void {
    if (!this.#paused || this.#events === undefined) return;
    this.#paused = false;
    if (this.#held.length > 0 || this.#peerEnded || this.#closing !== undefined) this.#schedule();
    else this.#carrier.resume();
  }

  listen(events: ChannelEvents): void {
    this.#events = events;
    this.resume();
    if (this.#closing !== undefined) this.#schedule();
  }

  // ---- from the carrier ----

  #carrierEvents(): ChannelEvents {
    return {
      onData: (chunk) => this.#received(chunk),
      onEnd: () => this.#carrierEnded(),
      onDrain: () => this.#drained(),
      onClose: (error) => this.#carrierClosed(error),
    };
  }

  #received(chunk: Uint8Array): void {
    if (this.#reader.done) return;
    this.#reader.receive(chunk, this.#frames);
    const parts = this.#parts;
    if (parts.length > 0) {
      this.#parts = [];
      // Many small messages that came together go on together.
      this.#held.push(parts.length === 1 ? (parts[0] as Uint8Array) : concat(parts));
    }
    // Once the peer has ended, its carrier is read on so that its close is seen; there is nothing to hold back.
    if (this.#peerEnded) this.#carrier.resume();
    if (!this.#paused) this.#deliver();
  }

  readonly #frames: WebSocketHandler = {
    onData: (bytes, text) => {
      if (this.#client || !text) this.#parts.push(bytes);
    },
    onMessageEnd: () => {},
    onPing: (payload) => this.#answerPing(payload),
    onPong: () => {},
    onClose: (code) => {
      this.#peerClosed = true;
      // Any other code says that what came is not all there was to come.
      if (code === CLOSE.normal || code === CLOSE.goingAway || code === CLOSE.noStatus) this.#peerIsDone();
      else this.#gaveUp(new TunnelError("channel.reset", `The WebSocket peer gave up with code ${code}`));
    },
    onMalformed: (reason, code) => this.#fail(reason, code),
  };

  #carrierEnded(): void {
    if (this.#peerEnded || this.#closing !== undefined) return;
    if (!this.#reader.atBoundary) {
      const error = new TunnelError("channel.lost", "The WebSocket ended in the middle of a message");
      this.#close(error);
      this.#carrier.abort(error);
      return;
    }
    this.#peerIsDone();
    this.#schedule();
  }

  #drained(): void {
    this.#carrierFull = false;
    if (this.#pong !== undefined) {
      const payload = this.#pong;
      this.#pong = undefined;
      this.#answerPing(payload);
    }
    if (!this.#writerWaits || this.#carrierFull || this.#closing !== undefined) return;
    this.#writerWaits = false;
    this.#events?.onDrain();
  }

  #carrierClosed(error: TunnelError | undefined): void {
    this.#carrierGone = true;
    this.#cancelLinger?.();
    this.#cancelPing();
    if (this.#closing !== undefined) return;
    const proper = this.#ended && (error === undefined || this.#peerClosed);
    if (proper) this.#close(undefined);
    else this.#close(error ?? new TunnelError("channel.lost", "The WebSocket closed before both sides had finished"));
  }

  // ---- inside ----

  /** True when there is room for more. */
  #send(frames: Uint8Array): boolean {
    if (!this.#carrier.write(frames)) this.#carrierFull = true;
    return !this.#carrierFull;
  }

  #answerPing(payload: Uint8Array): void {
    if (this.#closing !== undefined || (this.#ended && this.#peerEnded)) return;
    if (this.#carrierFull) this.#pong = payload;
    else this.#send(encodeFrame(OPCODE.pong, payload, { mask: this.#nextMask?.() }));
  }

  #armPing(): void {
    if (this.#pingEveryMs === 0) return;
    this.#cancelPing = this.#clock.after(
      this.#pingEveryMs,
      () => {
        if (!this.#carrierFull) this.#send(encodeFrame(OPCODE.ping, new Uint8Array(0), { mask: this.#nextMask?.() }));
        this.#armPing();
      },
      { background: true },
    );
  }

  #peerIsDone(): void {
    this.#peerEnded = true;
    if (this.#ended) this.#finish();
  }

  /** Both sides have said their last: closes the connection under them. */
  #finish(): void {
    this.#cancelPing();
    this.#carrier.end();
    this.#carrier.resume();
    this.#linger(undefined);
  }

  #gaveUp(error: TunnelError): void {
    this.#parts = [];
    this.#close(error);
    this.#carrier.end();
    this.#carrier.resume();
    this.#linger(error);
  }

  /** The peer broke the protocol: it is told so, if it still reads. */
  #fail(reason: string, code: number): void {
    const error = new TunnelError("stream.protocol", `The WebSocket peer broke the protocol: ${reason}`);
    if (!this.#ended) this.#send(encodeClose(code, reason, this.#nextMask?.()));
    this.#gaveUp(error);
  }

  #linger(error: TunnelError | undefined): void {
    if (this.#carrierGone || this.#cancelLinger !== undefined) return;
    this.#cancelLinger = this.#clock.after(
      LINGER_MS,
      () => {
        this.#close(error);
        this.#carrier.abort(error ?? new TunnelError("timeout", "The WebSocket peer did not close its connection"));
      },
      { background: true },
    );
  }

  #close(error: TunnelError | undefined): void {
    if (this.#closing !== undefined) return;
    this.#closing = { error };
    this.#cancelPing();
    this.#pong = undefined;
    if (error !== undefined) this.#held = [];
    this.#schedule();
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      this.#deliver();
    });
  }

  #deliver(): void {
    const events = this.#events;
    if (events === undefined || this.#told) return;
    while (!this.#paused && this.#held.length > 0) events.onData(this.#held.shift() as Uint8Array);
    const drained = this.#held.length === 0;
    if (!this.#paused && drained && this.#closing?.error === undefined) {
      if (this.#peerEnded && !this.#endDelivered) {
        this.#endDelivered = true;
        events.onEnd(NO_TRAILERS);
      } else if (!this.#peerEnded) this.#carrier.resume();
    }
    const closing = this.#closing;
    if (closing === undefined || this.#told) return;
    // A proper close waits until the owner has read everything; a failure does not.
    if (closing.error === undefined && !this.#endDelivered) return;
    this.#told = true;
    events.onClose(closing.error);
  }
}

/** Masks from a pool of random bytes: one call of the system for a thousand frames. */
function createMasks(): () => Uint8Array {
  const pool = new Uint8Array(MASK_POOL_BYTES);
  let at = pool.length;
  return () => {
    if (at === pool.length) {
      crypto.getRandomValues(pool);
      at = 0;
    }
    at += MASK_BYTES;
    return pool.subarray(at - MASK_BYTES, at);
  };
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
