import type { TunnelError } from "../core/errors.ts";
import type { ByteChannel, ChannelEvents } from "../net/channel.ts";

/**
 * The connection below a WebSocket, which tells when its peer ended it. A peer that knows half-close says so with a
 * close frame and keeps the connection; cloudflared's end just ends it when either side is done, and means both.
 */
export class EndedCarrier implements ByteChannel {
  readonly #channel: ByteChannel;
  /** Called behind the event, once its owner knows. */
  onEnded: () => void = () => {};

  constructor(channel: ByteChannel) {
    this.#channel = channel;
  }

  write(chunk: Uint8Array): boolean {
    return this.#channel.write(chunk);
  }

  end(): void {
    this.#channel.end();
  }

  abort(error: TunnelError): void {
    this.#channel.abort(error);
  }

  pause(): void {
    this.#channel.pause();
  }

  resume(): void {
    this.#channel.resume();
  }

  listen(events: ChannelEvents): void {
    this.#channel.listen({
      onData: (chunk) => events.onData(chunk),
      onEnd: (trailers) => {
        events.onEnd(trailers);
        this.onEnded();
      },
      onDrain: () => events.onDrain(),
      onClose: (error) => events.onClose(error),
    });
  }
}
