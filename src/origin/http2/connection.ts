import { setImmediate } from "node:timers";
import type { Clock } from "../../core/clock.ts";
import { TunnelError } from "../../core/errors.ts";
import type { ByteChannel, ChannelEvents } from "../../net/channel.ts";
import { H2Connection } from "../../wire/h2/connection.ts";
import { type H2Limits, TUNNEL_LIMITS } from "../../wire/h2/limits.ts";
import type { H2Stream } from "../../wire/h2/stream.ts";
import type { RawHeaders } from "../../wire/headers.ts";

/** How long an origin may take to end its side of a connection that we ended, in ms. */
export const CLOSE_LINGER_MS = 5_000;

/**
 * Least time between two pings, in ms. Servers of gRPC take more frequent ones, on streams that are quiet for long, for
 * an attack and hang up: by default five minutes.
 */
export const PING_INTERVAL_MS = 310_000;

/** How long an origin may take to answer a ping, in ms. */
export const PING_ANSWER_MS = 15_000;

/**
 * An origin is near, so small windows do; and the less each stalled visitor may put aside, the more of them it takes to
 * hold back the others on the connection.
 */
const ORIGIN_LIMITS: H2Limits = {
  ...TUNNEL_LIMITS,
  streamWindowBytes: 256 * 1024,
  maxStreamWindowBytes: 2 * 1024 * 1024,
  heldBudgetBytes: 256 * 1024 * 1024,
  headerListBytes: 320 * 1024,
  headerBlockBytes: 512 * 1024,
};

const PING_PAYLOAD = new Uint8Array(8);

/** Who keeps the connections of an origin. */
export interface Http2ConnectionOwner {
  /** The origin's SETTINGS came: it speaks HTTP/2, and its limits are known. */
  onReady(connection: Http2OriginConnection): void;
  /** Something came or a stream ended: there may be room for more streams now, or nothing left to wait for. */
  onMoved(connection: Http2OriginConnection): void;
  /** Of no more use; its streams have been told. */
  onGone(connection: Http2OriginConnection, error: TunnelError): void;
}

/** Runs one HTTP/2 connection to an origin on a byte channel: one write a turn of the loop, and back-pressure. */
export class Http2OriginConnection implements ChannelEvents {
  readonly #channel: ByteChannel;
  readonly #owner: Http2ConnectionOwner;
  readonly #clock: Clock;
  readonly #h2: H2Connection;
  #ready = false;
  #draining = false;
  #gone = false;
  #failure: TunnelError | undefined;
  #scheduled = false;
  #opened = 0;
  #lastReceivedAtMs: number;
  #lastBusyAtMs: number;
  #pingSentAtMs = Number.NEGATIVE_INFINITY;

  constructor(channel: ByteChannel, owner: Http2ConnectionOwner, clock: Clock) {
    this.#channel = channel;
    this.#owner = owner;
    this.#clock = clock;
    this.#lastReceivedAtMs = clock.nowMs();
    this.#lastBusyAtMs = clock.nowMs();
    this.#h2 = new H2Connection(
      "client",
      {
        onRequest: () => {},
        onGoaway: () => {
          this.#draining = true;
        },
        onPingAck: () => {},
        onReady: () => {
          this.#ready = true;
          owner.onReady(this);
        },
        onOutput: () => this.#schedule(),
        onFatal: (_code, reason) => this.#onFatal(reason),
      },
      allocate,
      ORIGIN_LIMITS,
    );
    channel.listen(this);
    this.#flush();
  }

  /** Why the connection is gone; undefined while it is not. */
  get failure(): TunnelError | undefined {
    return this.#failure;
  }

  get gone(): boolean {
    return this.#gone;
  }

  get streamCount(): number {
    return this.#h2.streamCount;
  }

  /** How many streams it has carried, the running ones included. */
  get openedCount(): number {
    return this.#opened;
  }

  /** True while a stream may be opened. */
  get hasRoom(): boolean {
    return this.#ready && !this.#draining && !this.#gone && this.#h2.canOpen;
  }

  /** True when no stream may be opened though none runs: the origin's limit is 0 for now. */
  get shut(): boolean {
    return this.#ready && !this.#draining && !this.#gone && this.streamCount === 0 && !this.#h2.canOpen;
  }

  /** True once no more streams are to be opened: it ends with its last stream. */
  get draining(): boolean {
    return this.#draining;
  }

  /** Undefined when there is no room; `end` = there is no body. */
  open(fields: RawHeaders, end: boolean): H2Stream | undefined {
    const stream = this.hasRoom ? this.#h2.open(fields, end) : undefined;
    if (stream === undefined) {
      // Identifiers are used up: nothing but another connection helps.
      if (this.hasRoom) this.#draining = true;
      return undefined;
    }
    this.#opened += 1;
    this.#lastBusyAtMs = this.#clock.nowMs();
    return stream;
  }

  /** Opens no more streams; ends with its last one. */
  drain(): void {
    this.#draining = true;
    if (this.streamCount === 0) this.close();
  }

  /** A stream ended on our side. */
  settled(): void {
    this.#lastBusyAtMs = this.#clock.nowMs();
    this.#moved();
  }

  /** Looks at the time: how long nothing was asked, and how long nothing came although something was. Times in ms. */
  check(idleTimeoutMs: number, pingAfterMs: number): void {
    const nowMs = this.#clock.nowMs();
    if (this.streamCount === 0) {
      if (this.#draining || nowMs - this.#lastBusyAtMs >= idleTimeoutMs) this.close();
      return;
    }
    this.#lastBusyAtMs = nowMs;
    const pinged = this.#pingSentAtMs > this.#lastReceivedAtMs;
    if (pinged && nowMs - this.#pingSentAtMs >= PING_ANSWER_MS) {
      this.abort(new TunnelError("origin.timeout", "Origin does not answer on its HTTP/2 connection"));
    } else if (nowMs - this.#lastReceivedAtMs >= pingAfterMs && nowMs - this.#pingSentAtMs >= PING_INTERVAL_MS) {
      this.#pingSentAtMs = nowMs;
      this.#h2.ping(PING_PAYLOAD);
    }
  }

  /** Says good-bye and ends; running streams are cut. */
  close(): void {
    if (this.#gone) return;
    this.#h2.goaway();
    this.#flush();
    this.#end(new TunnelError("origin.reset", "HTTP/2 connection to the origin was closed by us"));
  }

  /** Cuts it now; streams hear of it. */
  abort(error: TunnelError): void {
    if (this.#gone) return;
    this.#leave(error);
    this.#channel.abort(error);
  }

  onData(chunk: Uint8Array): void {
    if (this.#gone) return;
    this.#lastReceivedAtMs = this.#clock.nowMs();
    if (this.streamCount > 0) this.#lastBusyAtMs = this.#lastReceivedAtMs;
    this.#h2.receive(chunk);
    this.#flush();
    this.#moved();
  }

  onDrain(): void {
    this.#h2.unblock();
    this.#flush();
  }

  onEnd(): void {
    if (this.#gone) return;
    this.#end(new TunnelError("origin.reset", `Origin closed the HTTP/2 connection${this.#ready ? "" : " at once"}`));
  }

  onClose(error: TunnelError | undefined): void {
    this.#leave(new TunnelError("origin.reset", "HTTP/2 connection to the origin was lost", { cause: error }));
  }

  #onFatal(reason: string): void {
    this.#flush();
    this.#end(
      this.#ready
        ? new TunnelError("origin.malformed", `Origin broke the rules of HTTP/2 (${reason})`)
        : new TunnelError("origin.malformed", "Origin does not speak HTTP/2: its first bytes are no such frame"),
    );
  }

  #moved(): void {
    if (this.#gone) return;
    if (this.#draining && this.streamCount === 0) this.close();
    else this.#owner.onMoved(this);
  }

  #end(error: TunnelError): void {
    if (this.#gone) return;
    this.#leave(error);
    this.#channel.resume();
    this.#channel.end();
    this.#clock.after(CLOSE_LINGER_MS, () => this.#channel.abort(error), { background: true });
  }

  #leave(error: TunnelError): void {
    if (this.#gone) return;
    this.#gone = true;
    this.#failure = error;
    this.#h2.abandon();
    this.#owner.onGone(this, error);
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#flush();
    });
  }

  #flush(): void {
    while (!this.#gone) {
      const segments = this.#h2.takeOutput();
      if (segments.length === 0) return;
      let room = true;
      for (const segment of segments) room = this.#channel.write(segment) && room;
      this.#h2.outputSent(room && this.#channel.writesAtOnce === true);
      if (!room) {
        this.#h2.block();
        return;
      }
      this.#h2.flushed();
    }
  }
}

/** Slabs need no zeroing: every byte is written before it is sent. */
function allocate(bytes: number): Uint8Array {
  return typeof Buffer === "undefined" ? new Uint8Array(bytes) : Buffer.allocUnsafeSlow(bytes);
}
