import { setImmediate } from "node:timers";
import type { Clock } from "../../core/clock.ts";
import { TunnelError } from "../../core/errors.ts";
import type { ByteChannel } from "../../net/channel.ts";
import { formatAddress } from "../../net/socket-errors.ts";
import type { Connection } from "../../net/sockets.ts";
import { H2Connection, type H2Role } from "../../wire/h2/connection.ts";
import type { H2Stream } from "../../wire/h2/stream.ts";
import type { CloseReason } from "../port.ts";

/** Pings on their way at once; asking more often than the peer answers tells nothing new. */
const MAX_PENDING_PINGS = 8;

/** What the session above a link decides. */
export interface LinkOwner {
  onRequest(stream: H2Stream, fields: string[], endStream: boolean): void;
  /** The peer takes no new streams: stop opening, finish what runs. */
  onGoaway(): void;
  /** The link is down; every stream has been told. */
  onDown(reason: CloseReason): void;
}

/**
 * Runs an HTTP/2 connection on a byte channel: one write per turn of the event loop, back-pressure from the socket,
 * timed pings, and one reason for the end.
 */
export class Http2Link {
  readonly remoteAddress: string;
  readonly localIp: string | undefined;
  readonly h2: H2Connection;
  /** Resolves when the peer's SETTINGS came; rejects when the connection ends before. */
  readonly ready: Promise<void>;
  lastReceivedAtMs: number;

  readonly #clock: Clock;
  readonly #channel: ByteChannel;
  readonly #owner: LinkOwner;
  readonly #pings = new Map<number, { sentAtMs: number; resolve: (ms: number) => void; reject: (e: Error) => void }>();
  #nextPing = 1;
  #scheduled = false;
  #down = false;
  #asked: CloseReason | undefined;

  constructor(role: H2Role, connection: Connection, owner: LinkOwner, clock: Clock) {
    this.#clock = clock;
    this.#channel = connection.channel;
    this.#owner = owner;
    this.remoteAddress = formatAddress({ host: connection.remoteIp, port: connection.remotePort });
    this.localIp = connection.localIp;
    this.lastReceivedAtMs = clock.nowMs();
    const ready = Promise.withResolvers<void>();
    this.ready = ready.promise;
    this.ready.catch(() => {});
    this.#pings.set(0, { sentAtMs: 0, resolve: () => ready.resolve(), reject: ready.reject });
    this.h2 = new H2Connection(
      role,
      {
        onRequest: (stream, fields, endStream) => owner.onRequest(stream, fields, endStream),
        onGoaway: () => owner.onGoaway(),
        onPingAck: (payload) => this.#settlePing(pingNumber(payload)),
        onReady: () => this.#settlePing(0),
        onOutput: () => this.#schedule(),
        onFatal: (_code, reason) => this.#fail(reason),
      },
      allocate,
    );
    this.#channel.listen({
      onData: (chunk) => {
        this.lastReceivedAtMs = clock.nowMs();
        this.h2.receive(chunk);
        this.#flush();
      },
      onDrain: () => {
        this.h2.unblock();
        this.#flush();
      },
      onEnd: () => this.#onPeerEnd(),
      onClose: (error) => this.#goDown(error),
    });
    this.#flush();
  }

  ping(): Promise<number> {
    if (this.#down) return Promise.reject(lost(this.#asked));
    if (this.#pings.size >= MAX_PENDING_PINGS) {
      return Promise.reject(new TunnelError("edge.silent", "Earlier pings are still unanswered"));
    }
    return new Promise((resolve, reject) => {
      const number = this.#nextPing++;
      this.#pings.set(number, { sentAtMs: this.#clock.nowMs(), resolve, reject });
      this.h2.ping(pingPayload(number));
    });
  }

  /** Flushes, closes, and reports `reason`. */
  close(reason: CloseReason): void {
    if (this.#down || this.#asked !== undefined) return;
    this.#asked = reason;
    this.h2.goaway();
    this.#flush();
    this.h2.abandon();
    this.#channel.end();
    // The peer's own end is not worth waiting for once we have said good-bye; its silence must not hold the socket.
    this.#clock.after(1_000, () => this.#channel.abort(new TunnelError("session.closed", "Closed by us")), {
      background: true,
    });
    this.#goDown(undefined);
  }

  #fail(reason: string): void {
    const error = new TunnelError("session.protocol", `HTTP/2 error from ${this.remoteAddress}: ${reason}`);
    this.#asked ??= { kind: "lost", error };
    this.#flush();
    this.#channel.end();
    this.#clock.after(1_000, () => this.#channel.abort(error), { background: true });
    this.#goDown(error);
  }

  #onPeerEnd(): void {
    this.#asked ??=
      this.h2.streamCount > 1
        ? { kind: "lost", error: new TunnelError("session.lost", "Peer closed the connection under running requests") }
        : { kind: "closed", by: "peer" };
    this.#channel.end();
    this.#goDown(undefined);
  }

  #goDown(error: TunnelError | undefined): void {
    if (this.#down) return;
    this.#down = true;
    const reason: CloseReason =
      this.#asked ??
      (error === undefined
        ? { kind: "closed", by: "peer" }
        : {
            kind: "lost",
            error: new TunnelError("session.lost", error.message, { retry: "elsewhere", cause: error }),
          });
    this.#asked = reason;
    this.h2.abandon();
    for (const ping of this.#pings.values()) ping.reject(lost(reason));
    this.#pings.clear();
    this.#owner.onDown(reason);
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
    if (this.#down) return;
    for (;;) {
      const segments = this.h2.takeOutput();
      if (segments.length === 0) return;
      let room = true;
      for (const segment of segments) room = this.#channel.write(segment) && room;
      this.h2.outputSent(room && this.#channel.writesAtOnce === true);
      if (!room) {
        this.h2.block();
        return;
      }
      this.h2.flushed();
    }
  }

  #settlePing(number: number): void {
    const ping = this.#pings.get(number);
    if (ping === undefined) return;
    this.#pings.delete(number);
    ping.resolve(this.#clock.nowMs() - ping.sentAtMs);
  }
}

function lost(reason: CloseReason | undefined): TunnelError {
  return reason?.kind === "lost" ? reason.error : new TunnelError("session.closed", "The connection was closed");
}

/** Slabs need no zeroing: every byte is written before it is sent. */
function allocate(bytes: number): Uint8Array {
  return typeof Buffer === "undefined" ? new Uint8Array(bytes) : Buffer.allocUnsafeSlow(bytes);
}

function pingPayload(number: number): Uint8Array {
  const payload = new Uint8Array(8);
  new DataView(payload.buffer).setUint32(4, number);
  return payload;
}

function pingNumber(payload: Uint8Array): number {
  return new DataView(payload.buffer, payload.byteOffset, payload.byteLength).getUint32(4);
}
