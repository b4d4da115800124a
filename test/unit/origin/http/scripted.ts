import type { CancelTimer, Clock } from "../../../../src/core/clock.ts";
import { TunnelError } from "../../../../src/core/errors.ts";
import type { ByteChannel } from "../../../../src/net/channel.ts";
import { createMemoryChannelPair } from "../../../../src/net/memory-channel.ts";
import type { Connection } from "../../../../src/net/sockets.ts";
import { OriginPool, type OriginPoolOptions } from "../../../../src/origin/http/pool.ts";
import type { OriginEvents, OriginExchange, OriginRequest } from "../../../../src/origin/port.ts";
import type { RawHeaders } from "../../../../src/wire/headers.ts";
import { bytesOf, textOf } from "../../wire/h1/recorder.ts";

/** Time that moves only when told to. */
export class ManualClock implements Clock {
  #nowMs = 1000;
  #timers = new Set<{ atMs: number; callback: () => void }>();

  get timers(): number {
    return this.#timers.size;
  }

  nowMs(): number {
    return this.#nowMs;
  }

  wallMs(): number {
    return this.#nowMs;
  }

  after(ms: number, callback: () => void): CancelTimer {
    const timer = { atMs: this.#nowMs + ms, callback };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  advance(ms: number): void {
    const untilMs = this.#nowMs + ms;
    for (;;) {
      const due = [...this.#timers].filter(({ atMs }) => atMs <= untilMs).sort((a, b) => a.atMs - b.atMs)[0];
      if (due === undefined) break;
      this.#nowMs = due.atMs;
      this.#timers.delete(due);
      due.callback();
    }
    this.#nowMs = untilMs;
  }
}

/** The origin's end of one connection: what it received, and the means to answer. */
export class OriginEnd {
  received = "";
  writes = 0;
  ended = false;
  closed: { error: TunnelError | undefined } | undefined;
  readonly channel: ByteChannel;

  constructor(channel: ByteChannel) {
    this.channel = channel;
    channel.listen({
      onData: (chunk) => {
        this.received += textOf(chunk);
        this.writes += 1;
      },
      onEnd: () => {
        this.ended = true;
      },
      onDrain: () => {},
      onClose: (error) => {
        this.closed = { error };
      },
    });
  }

  send(text: string): void {
    this.channel.write(bytesOf(text));
  }

  end(): void {
    this.channel.end();
  }

  reset(): void {
    this.channel.abort(new TunnelError("aborted", "Origin resets"));
  }
}

/** An origin in memory: each dial gives one more `OriginEnd`. */
export class ScriptedOrigin {
  readonly clock = new ManualClock();
  readonly ends: OriginEnd[] = [];
  readonly signals: AbortSignal[] = [];
  /** While set, dials wait for it. */
  gate: Promise<void> | undefined;
  failure: Error | undefined;

  pool(options: Partial<OriginPoolOptions> = {}): OriginPool {
    return new OriginPool({ dial: ({ signal }) => this.#dial(signal), clock: this.clock, ...options });
  }

  end(index: number): OriginEnd {
    const end = this.ends[index];
    if (end === undefined) throw new Error(`no connection ${index}`);
    return end;
  }

  async #dial(signal: AbortSignal): Promise<Connection> {
    this.signals.push(signal);
    await this.gate;
    if (this.failure !== undefined) throw this.failure;
    if (signal.aborted) throw signal.reason;
    const [ours, theirs] = createMemoryChannelPair();
    this.ends.push(new OriginEnd(theirs));
    return { channel: ours, remoteIp: "127.0.0.1", remotePort: 1, localIp: undefined };
  }
}

/** Records an exchange's events as short lines. */
export class Recorder implements OriginEvents {
  readonly log: string[] = [];
  body = "";
  bodyBytes = 0;
  drains = 0;
  headers: RawHeaders = [];
  upgraded: ByteChannel | undefined;
  error: TunnelError | undefined;
  readonly #done = Promise.withResolvers<void>();
  /** Resolves with the last event. */
  readonly done: Promise<void> = this.#done.promise;

  onInformational(status: number, headers: RawHeaders): void {
    this.log.push(`${status} ${headers.join(",")}`.trimEnd());
  }

  onResponse(status: number, headers: RawHeaders, bodyless: boolean): void {
    this.headers = headers;
    this.log.push(bodyless ? `${status} bodyless` : `${status}`);
  }

  onUpgrade(headers: RawHeaders, channel: ByteChannel): void {
    this.headers = headers;
    this.upgraded = channel;
    this.log.push("upgrade");
    this.#done.resolve();
  }

  onData(chunk: Uint8Array): void {
    this.bodyBytes += chunk.length;
    if (this.bodyBytes < 10_000) this.body += textOf(chunk);
  }

  onEnd(trailers: RawHeaders): void {
    this.log.push(`end ${trailers.join(",")}`.trimEnd());
    this.#done.resolve();
  }

  onDrain(): void {
    this.drains += 1;
  }

  onError(error: TunnelError): void {
    this.error = error;
    this.log.push(error.code);
    this.#done.resolve();
  }
}

export const GET: OriginRequest = { kind: "http", method: "GET", target: "/", headers: ["Host", "a"], body: "none" };

export function post(body: OriginRequest["body"], method = "POST"): OriginRequest {
  return { ...GET, method, body };
}

export function start(pool: OriginPool, request: OriginRequest): { events: Recorder; exchange: OriginExchange } {
  const events = new Recorder();
  return { events, exchange: pool.exchange(request, events) };
}

/** Lets everything that is due in this turn of the loop happen. */
export function turn(): Promise<void> {
  return new Promise((resolve) => void setImmediate(resolve));
}
