import { setImmediate } from "node:timers";
import type { ByteChannel } from "../../../../src/net/channel.ts";
import { createMemoryChannelPair } from "../../../../src/net/memory-channel.ts";
import type { Connection } from "../../../../src/net/sockets.ts";
import { Http2Pool, type Http2PoolOptions } from "../../../../src/origin/http2/pool.ts";
import { H2Connection } from "../../../../src/wire/h2/connection.ts";
import { TUNNEL_LIMITS } from "../../../../src/wire/h2/limits.ts";
import type { H2Stream } from "../../../../src/wire/h2/stream.ts";
import type { RawHeaders } from "../../../../src/wire/headers.ts";
import { textOf } from "../../wire/h1/recorder.ts";
import { ManualClock } from "../http/scripted.ts";

/** A request as the origin got it, and the means to answer. */
export interface SeenRequest {
  readonly stream: H2Stream;
  readonly fields: readonly string[];
  readonly endsWithHead: boolean;
  body: string;
  bodyBytes: number;
  trailers: RawHeaders | undefined;
  /** The code we reset it with. */
  reset: number | undefined;
}

/** The origin's end of one connection: an HTTP/2 server of our own, and raw frames where it would be too well-behaved. */
export class Http2End {
  readonly requests: SeenRequest[] = [];
  readonly channel: ByteChannel;
  goaway = false;
  ended = false;
  pings = 0;
  readonly #h2: H2Connection;
  #silent: boolean;

  /** `silent`: says nothing until `speak`, its SETTINGS neither. */
  constructor(channel: ByteChannel, options: { streams: number; silent: boolean }) {
    this.channel = channel;
    this.#silent = options.silent;
    this.#h2 = new H2Connection(
      "server",
      {
        onRequest: (stream, fields, endStream) => this.#onRequest(stream, fields, endStream),
        onGoaway: () => {
          this.goaway = true;
        },
        onPingAck: () => {},
        onReady: () => {},
        onOutput: () => void setImmediate(() => this.flush()),
        onFatal: (_code, reason) => {
          throw new Error(`connector broke HTTP/2: ${reason}`);
        },
      },
      (bytes) => new Uint8Array(bytes),
      { ...TUNNEL_LIMITS, streams: options.streams },
    );
    channel.listen({
      onData: (chunk) => {
        if (chunk[3] === 6 && chunk.length === 17) this.pings += 1;
        this.#h2.receive(chunk);
        this.flush();
      },
      onEnd: () => {
        this.ended = true;
        channel.end();
      },
      onDrain: () => {},
      onClose: () => {
        this.ended = true;
      },
    });
    this.flush();
  }

  request(index: number): SeenRequest {
    const request = this.requests[index];
    if (request === undefined) throw new Error(`no request ${index}`);
    return request;
  }

  speak(): void {
    this.#silent = false;
    this.flush();
  }

  fall(): void {
    this.#silent = true;
  }

  flush(): void {
    if (this.#silent) return;
    for (const segment of this.#h2.takeOutput()) this.channel.write(segment.slice());
    this.#h2.outputSent(true);
  }

  /** A frame as it is; `words` = its payload as 32-bit numbers. */
  frame(type: number, streamId: number, words: readonly number[]): void {
    const bytes = new Uint8Array(9 + words.length * 4);
    const view = new DataView(bytes.buffer);
    view.setUint16(1, words.length * 4);
    bytes[3] = type;
    view.setUint32(5, streamId);
    words.forEach((word, i) => void view.setUint32(9 + i * 4, word));
    this.flush();
    this.channel.write(bytes);
  }

  resetStream(streamId: number, code: number): void {
    this.frame(3, streamId, [code]);
  }

  sayGoaway(lastStreamId: number): void {
    this.frame(7, 0, [lastStreamId, 0]);
  }

  /** A whole answer to a request. */
  answer(index: number, body = "ok", trailers: RawHeaders = []): void {
    const { stream } = this.request(index);
    stream.sendHeaders([":status", "200"], false);
    stream.write(new TextEncoder().encode(body));
    stream.end(trailers);
    this.flush();
  }

  #onRequest(stream: H2Stream, fields: string[], endStream: boolean): void {
    const seen: SeenRequest = {
      stream,
      fields,
      endsWithHead: endStream,
      body: "",
      bodyBytes: 0,
      trailers: undefined,
      reset: undefined,
    };
    this.requests.push(seen);
    stream.listen({
      onInformational: () => {},
      onHead: () => {},
      onData: (chunk) => {
        seen.bodyBytes += chunk.length;
        if (seen.bodyBytes < 1000) seen.body += textOf(chunk);
      },
      onEnd: (trailers) => {
        seen.trailers = trailers;
      },
      onDrain: () => {},
      onReset: (code) => {
        seen.reset = code;
      },
      onComplete: () => {},
    });
  }
}

/** An HTTP/2 origin in memory: each dial gives one more `Http2End`. */
export class ScriptedHttp2Origin {
  readonly clock = new ManualClock();
  readonly ends: Http2End[] = [];
  dials = 0;
  failure: Error | undefined;
  streams = 100;
  silent = false;
  alpn: string | undefined;

  pool(options: Partial<Http2PoolOptions> = {}): Http2Pool {
    return new Http2Pool({
      dial: () => this.#dial(),
      clock: this.clock,
      scheme: "http",
      connectTimeoutMs: 10_000,
      maxIdle: 100,
      idleTimeoutMs: 90_000,
      ...options,
    });
  }

  end(index: number): Http2End {
    const end = this.ends[index];
    if (end === undefined) throw new Error(`no connection ${index}`);
    return end;
  }

  #dial(): Promise<Connection> {
    this.dials += 1;
    if (this.failure !== undefined) return Promise.reject(this.failure);
    const [ours, theirs] = createMemoryChannelPair();
    this.ends.push(new Http2End(theirs, { streams: this.streams, silent: this.silent }));
    return Promise.resolve({
      channel: ours,
      remoteIp: "127.0.0.1",
      remotePort: 1,
      localIp: undefined,
      alpn: this.alpn,
    });
  }
}

/** Lets everything that is due in the next turns of the loop happen: each hop of a frame takes one. */
export async function turns(count = 8): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise<void>((resolve) => void setImmediate(resolve));
}
