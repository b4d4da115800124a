import { TunnelError } from "../core/errors.ts";
import type { RawHeaders } from "../wire/headers.ts";
import { type ByteChannel, type ChannelEvents, NO_TRAILERS } from "./channel.ts";

/** Unread bytes one direction holds before `write` answers false. */
export const MEMORY_CHANNEL_BUFFER_BYTES = 64 * 1024;

/**
 * Two connected channels in this process. Real behaviour kept: delivery is asynchronous and in order, back-pressure,
 * half-close with trailers, and abort seen by the peer as a reset.
 */
export function createMemoryChannelPair(): [ByteChannel, ByteChannel] {
  const first = new MemoryChannel();
  const second = new MemoryChannel();
  first.connect(second);
  second.connect(first);
  return [first, second];
}

class MemoryChannel implements ByteChannel {
  #peer: MemoryChannel | undefined;
  #events: ChannelEvents | undefined;
  #paused = false;
  #scheduled = false;
  #incoming: Uint8Array[] = [];
  #incomingBytes = 0;
  #trailers: RawHeaders | undefined;
  #endDelivered = false;
  #ended = false;
  #closed = false;
  /** Set while the end waits for an owner to be told. */
  #untold: { readonly error: TunnelError | undefined } | undefined;
  #writerWaits = false;

  connect(peer: MemoryChannel): void {
    this.#peer = peer;
  }

  write(chunk: Uint8Array): boolean {
    const peer = this.#peer;
    if (this.#ended || this.#closed || peer === undefined || peer.#closed) return true;
    if (chunk.length > 0) {
      peer.#incoming.push(chunk);
      peer.#incomingBytes += chunk.length;
      peer.#schedule();
    }
    const room = peer.#incomingBytes < MEMORY_CHANNEL_BUFFER_BYTES;
    if (!room) this.#writerWaits = true;
    return room;
  }

  end(trailers: RawHeaders = NO_TRAILERS): void {
    if (this.#ended || this.#closed) return;
    this.#ended = true;
    if (this.#peer !== undefined) {
      this.#peer.#trailers = trailers;
      this.#peer.#schedule();
    }
    this.#schedule();
  }

  abort(error: TunnelError): void {
    if (this.#closed) return;
    this.#close(error);
    const peer = this.#peer;
    if (peer === undefined) return;
    queueMicrotask(() => peer.#close(new TunnelError("channel.reset", "Connection reset by peer")));
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#schedule();
  }

  listen(events: ChannelEvents): void {
    this.#events = events;
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
    if (events === undefined) return;
    if (this.#untold !== undefined) {
      const { error } = this.#untold;
      this.#untold = undefined;
      events.onClose(error);
      return;
    }
    while (!this.#closed && !this.#paused && this.#incoming.length > 0) {
      const chunk = this.#incoming.shift() as Uint8Array;
      this.#incomingBytes -= chunk.length;
      events.onData(chunk);
    }
    const peer = this.#peer;
    if (this.#closed || peer === undefined) return;
    if (peer.#writerWaits && this.#incomingBytes < MEMORY_CHANNEL_BUFFER_BYTES) {
      peer.#writerWaits = false;
      peer.#events?.onDrain();
    }
    if (!this.#paused && this.#incoming.length === 0 && this.#trailers !== undefined && !this.#endDelivered) {
      this.#endDelivered = true;
      events.onEnd(this.#trailers);
    }
    if (this.#endDelivered && this.#ended && peer.#endDelivered) {
      this.#close(undefined);
      peer.#close(undefined);
    }
  }

  #close(error: TunnelError | undefined): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#incoming = [];
    this.#incomingBytes = 0;
    if (this.#events === undefined) this.#untold = { error };
    else this.#events.onClose(error);
  }
}
