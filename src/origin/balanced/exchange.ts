import type { TunnelError } from "../../core/errors.ts";
import type { ByteChannel, ChannelEvents } from "../../net/channel.ts";
import { owned } from "../../net/owned.ts";
import type { RawHeaders } from "../../wire/headers.ts";
import { isRepeatable } from "../http/exchange.ts";
import type { OriginEvents, OriginExchange, OriginRequest } from "../port.ts";
import type { Backend } from "./backend.ts";

/** Body bytes kept for another backend; a request with more of them has one attempt. */
export const MAX_KEPT_BYTES = 256 * 1024;

export interface BalancedExchangeOptions {
  readonly request: OriginRequest;
  readonly events: OriginEvents;
  /** The next backend for this request; undefined = there is none left. */
  readonly choose: (tried: ReadonlySet<Backend>) => Backend | undefined;
  /** Fields to add to the answer of this backend. */
  readonly answerFields: (backend: Backend) => RawHeaders;
}

/**
 * One request over several backends: the next one is asked when nothing of the request can have reached the last one, or
 * when asking twice does no harm, as long as nothing of an answer has come and the body is still at hand.
 */
export class BalancedExchange implements OriginExchange, OriginEvents {
  readonly #options: BalancedExchangeOptions;
  readonly #tried = new Set<Backend>();
  #backend: Backend | undefined;
  #inner: OriginExchange | undefined;
  #kept: Uint8Array[] | undefined = [];
  #keptBytes = 0;
  #ended: RawHeaders | undefined;
  #paused = false;
  #writerWaits = false;

  /** `first`: the backend that begins. */
  constructor(options: BalancedExchangeOptions, first: Backend) {
    this.#options = options;
    this.#ask(first);
  }

  write(chunk: Uint8Array): boolean {
    if (this.#kept !== undefined) {
      this.#keptBytes += chunk.length;
      if (this.#keptBytes > MAX_KEPT_BYTES) this.#kept = undefined;
      else this.#kept.push(owned(chunk));
    }
    const room = this.#inner?.write(chunk) ?? true;
    if (!room) this.#writerWaits = true;
    return room;
  }

  end(trailers: RawHeaders): void {
    this.#ended = trailers;
    this.#inner?.end(trailers);
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
    const inner = this.#inner;
    this.#leave();
    inner?.abort();
  }

  onInformational(status: number, headers: RawHeaders): void {
    this.#kept = undefined;
    this.#options.events.onInformational(status, headers);
  }

  onResponse(status: number, headers: RawHeaders, bodyless: boolean): void {
    this.#kept = undefined;
    this.#backend?.answered();
    this.#options.events.onResponse(status, this.#withFields(headers), bodyless);
  }

  onUpgrade(headers: RawHeaders, channel: ByteChannel): void {
    const backend = this.#backend;
    backend?.answered();
    // It stays the backend's work for as long as it lives.
    this.#backend = undefined;
    const answer = backend === undefined ? headers : [...headers, ...this.#options.answerFields(backend)];
    this.#options.events.onUpgrade(
      answer,
      watched(channel, () => {
        if (backend !== undefined) backend.pending -= 1;
      }),
    );
  }

  onData(chunk: Uint8Array): void {
    this.#options.events.onData(chunk);
  }

  onEnd(trailers: RawHeaders): void {
    this.#leave();
    this.#options.events.onEnd(trailers);
  }

  onDrain(): void {
    this.#writerWaits = false;
    this.#options.events.onDrain();
  }

  onError(error: TunnelError): void {
    const backend = this.#backend;
    backend?.failed(error);
    this.#leave();
    const harmless =
      error.retry === "elsewhere" || (error.code === "origin.reset" && isRepeatable(this.#options.request));
    const next = this.#kept !== undefined && harmless ? this.#options.choose(this.#tried) : undefined;
    if (next === undefined) this.#options.events.onError(error);
    else this.#ask(next);
  }

  #ask(backend: Backend): void {
    this.#tried.add(backend);
    this.#backend = backend;
    backend.pending += 1;
    const inner = backend.service.exchange(this.#options.request, this);
    this.#inner = inner;
    if (this.#paused) inner.pause();
    let room = true;
    for (const chunk of this.#kept ?? []) room = inner.write(chunk);
    if (this.#ended !== undefined) inner.end(this.#ended);
    if (room && this.#writerWaits) this.onDrain();
  }

  #withFields(headers: RawHeaders): RawHeaders {
    const added = this.#backend === undefined ? [] : this.#options.answerFields(this.#backend);
    return added.length === 0 ? headers : [...headers, ...added];
  }

  #leave(): void {
    if (this.#backend !== undefined) this.#backend.pending -= 1;
    this.#backend = undefined;
    this.#inner = undefined;
  }
}

/** The same channel; `onClosed` is called when it is over, whoever owns it then. */
function watched(channel: ByteChannel, onClosed: () => void): ByteChannel {
  let owner: ChannelEvents | undefined;
  const events: ChannelEvents = {
    onData: (chunk) => owner?.onData(chunk),
    onEnd: (trailers) => owner?.onEnd(trailers),
    onDrain: () => owner?.onDrain(),
    onClose: (error) => {
      onClosed();
      owner?.onClose(error);
    },
  };
  return {
    writesAtOnce: channel.writesAtOnce === true,
    write: (chunk) => channel.write(chunk),
    end: (trailers) => channel.end(trailers),
    abort: (error) => channel.abort(error),
    pause: () => channel.pause(),
    resume: () => channel.resume(),
    listen: (next) => {
      const first = owner === undefined;
      owner = next;
      if (first) channel.listen(events);
      else channel.resume();
    },
  };
}
