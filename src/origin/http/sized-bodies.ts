import { TunnelError } from "../../core/errors.ts";
import type { RawHeaders } from "../../wire/headers.ts";
import type { OriginEvents, OriginExchange, OriginRequest } from "../port.ts";

/** The longest body of unknown length that is gathered, in bytes; a longer one is refused with 413. */
export const MAX_SIZED_BODY_BYTES = 4 * 1024 * 1024;

/** All bodies of one service that are being gathered, in bytes. */
export const MAX_GATHERED_BYTES = 64 * 1024 * 1024;

type StartExchange = (request: OriginRequest, events: OriginEvents) => OriginExchange;

/**
 * `disableChunkedEncoding`: for services that cannot read a body whose length is not announced (WSGI). Such a body is
 * gathered, within bounds, and sent with its length; its trailers, which have no place then, are dropped.
 */
export function withSizedBodies(exchange: StartExchange): StartExchange {
  const budget = { leftBytes: MAX_GATHERED_BYTES };
  return (request, events) =>
    request.body === "chunked" ? new GatheringExchange(request, events, exchange, budget) : exchange(request, events);
}

class GatheringExchange implements OriginExchange {
  readonly #request: OriginRequest;
  readonly #events: OriginEvents;
  readonly #exchange: StartExchange;
  readonly #budget: { leftBytes: number };
  #body: Uint8Array[] = [];
  #bodyBytes = 0;
  #inner: OriginExchange | undefined;
  #paused = false;
  #over = false;

  constructor(request: OriginRequest, events: OriginEvents, exchange: StartExchange, budget: { leftBytes: number }) {
    this.#request = request;
    this.#events = events;
    this.#exchange = exchange;
    this.#budget = budget;
  }

  write(chunk: Uint8Array): boolean {
    if (this.#over || this.#inner !== undefined) return true;
    if (this.#bodyBytes + chunk.length > MAX_SIZED_BODY_BYTES || chunk.length > this.#budget.leftBytes) {
      this.#giveUp();
      const error = new TunnelError("request.too-large", "Request body without a length is too long to be gathered");
      queueMicrotask(() => this.#events.onError(error));
      return true;
    }
    this.#body.push(chunk);
    this.#bodyBytes += chunk.length;
    this.#budget.leftBytes -= chunk.length;
    return true;
  }

  end(_trailers: RawHeaders): void {
    if (this.#over || this.#inner !== undefined) return;
    const body = this.#body;
    const inner = this.#exchange({ ...this.#request, body: this.#bodyBytes }, this.#events);
    this.#giveUp();
    this.#over = false;
    this.#inner = inner;
    if (this.#paused) inner.pause();
    for (const chunk of body) inner.write(chunk);
  }

  pause(): void {
    this.#paused = true;
    this.#inner?.pause();
  }

  resume(): void {
    this.#paused = false;
    this.#inner?.resume();
  }

  abort(): void {
    this.#giveUp();
    this.#inner?.abort();
  }

  /** From here on the bytes are somebody else's, or nobody's. */
  #giveUp(): void {
    this.#over = true;
    this.#body = [];
    this.#budget.leftBytes += this.#bodyBytes;
    this.#bodyBytes = 0;
  }
}
