import type { CancelTimer, Clock } from "../../../core/clock.ts";
import { TunnelError } from "../../../core/errors.ts";
import type { QuicStats } from "../../port.ts";
import type { QuicClose, QuicConnection, QuicConnectionEvents, QuicStream } from "../engine.ts";
import { lossOf } from "../loss.ts";
import type { PacketList } from "../udp.ts";
import { AckDelay } from "./ack-delay.ts";
import type { Address, NativeConnection } from "./quiche-addon.ts";
import { maxPacketBytes } from "./quiche-config.ts";
import { QuicheStream, READ_BYTES, type StreamOwner } from "./quiche-stream.ts";
import { isAlive, StreamReaper } from "./stream-reaper.ts";

/** What a connection needs from the socket it shares. */
export interface Endpoint {
  readonly clock: Clock;
  readonly localPort: number;
  /** Views to write packets into, valid until `send`, one behind another in memory. */
  slots(packetBytes: number): readonly Uint8Array[];
  /** False while the socket is full; `unblocked` of the connection is called afterwards. */
  readonly writable: boolean;
  send(packets: PacketList): void;
  /** Calls `turn` of the connection soon, once. */
  schedule(connection: QuicheConnection): void;
  /** The connection's packets need not be routed any more. */
  release(connection: QuicheConnection): void;
}

/** Reads go into slabs of this size, so that a chunk needs no copy. */
const SLAB_BYTES = 256 * 1024;
/** How often streams without anything to write are asked whether the peer stopped them, in ms. */
const SWEEP_MS = 250;
/** Streams remembered so that their last bytes are not cut off by our own close. */
const MAX_RECENT = 1_024;
/** Bound on sending what is still queued and waiting for its acknowledgement, in ms; a dead peer is noticed sooner. */
const CLOSE_GENTLY_MS = 30_000;
const MAX_PENDING_PINGS = 8;
/** Blocked streams tried in one turn, so that thousands of slow readers do not slow down a fast one. */
const RETRIES_PER_TURN = 64;

const NO_BYTES = new Uint8Array(0);

/**
 * One connection of the quiche engine: feeds packets in, takes packets out, and moves bytes between the library's
 * streams and ours, once per turn of the event loop. The library sees one network path only; whether the peer's port
 * changed is decided here (see DECISIONS.md).
 */
export class QuicheConnection implements QuicConnection, StreamOwner {
  readonly native: NativeConnection;
  readonly remoteIp: string;
  remotePort: number;
  lastReceivedAtMs: number;
  /** Called when the connection ends before anybody listens to it. */
  onEarlyClose: ((close: QuicClose) => void) | undefined;

  readonly #endpoint: Endpoint;
  readonly #info: { readonly from: Address; readonly to: Address };
  readonly #isServer: boolean;
  readonly #packetBytes: number;
  readonly #onEstablished: () => void;
  #events: QuicConnectionEvents | undefined;
  readonly #streams = new Map<number, QuicheStream>();
  #busy = new Set<QuicheStream>();
  readonly #acks: AckDelay;
  /** Something came, or somebody reads again: streams are to be read. */
  #readDue = true;
  /** A new stream of the peer, which is read as soon as its owner knows of it. */
  #introduced: QuicheStream | undefined;
  /** More than acknowledgements may be waiting in the library. */
  #sendDue = true;
  /** What is woken now is seen by the turn that runs. */
  #inTurn = false;
  /** Streams with something to write that the peer gave no credit for, the one that waited longest first. */
  readonly #blocked = new Set<QuicheStream>();
  /** How many of them to try since the last packet, which may have brought credit. */
  #toRetry = 0;
  #afterPackets: (() => void)[] = [];
  #nextId: number;
  #slab = new Uint8Array(SLAB_BYTES);
  #slabUsed = 0;
  #established = false;
  #closed: QuicClose | undefined;
  #told = false;
  #timer: { readonly atMs: number; readonly cancel: CancelTimer } | undefined;
  #sweepTimer: CancelTimer | undefined;
  #keepAliveTimer: CancelTimer | undefined;
  #receivedSinceSweep = false;
  readonly #reaper: StreamReaper;
  readonly #recent: number[] = [];
  #recentAt = 0;
  #gentleUntilMs: number | undefined;
  #pingsSent = 0;
  #datagramsSent = 0;
  #datagramsReceived = 0;
  #pings: { readonly sentAtMs: number; resolve: (ms: number) => void; reject: (error: TunnelError) => void }[] = [];

  constructor(
    endpoint: Endpoint,
    native: NativeConnection,
    ends: { readonly local: Address; readonly remote: Address; readonly isServer: boolean },
    onEstablished: () => void,
  ) {
    this.#endpoint = endpoint;
    this.native = native;
    this.remoteIp = ends.remote.host;
    this.remotePort = ends.remote.port;
    this.#info = { from: ends.remote, to: ends.local };
    this.#isServer = ends.isServer;
    this.#packetBytes = maxPacketBytes(ends.remote.host);
    this.#onEstablished = onEstablished;
    this.#nextId = ends.isServer ? 1 : 0;
    this.lastReceivedAtMs = endpoint.clock.nowMs();
    this.#reaper = new StreamReaper(native, endpoint.clock);
    this.#acks = new AckDelay(endpoint.clock, () => this.#schedule());
  }

  // ---- QuicConnection ----

  get localPort(): number {
    return this.#endpoint.localPort;
  }

  get maxDatagramBytes(): number {
    return this.native.dgramMaxWritableLen() ?? 0;
  }

  listen(events: QuicConnectionEvents): void {
    this.#events = events;
    this.#schedule();
  }

  get takesStreams(): boolean {
    return this.#closed === undefined && this.native.peerStreamsLeftBidi() > 0;
  }

  openStream(): QuicStream | undefined {
    if (!this.takesStreams) return undefined;
    try {
      // The library counts a stream against the peer's limit once it has heard of it.
      this.native.streamSend(this.#nextId, NO_BYTES, false);
    } catch {
      return undefined;
    }
    const stream = new QuicheStream(this, this.#nextId, false);
    this.#nextId += 4;
    this.#streams.set(stream.id, stream);
    return stream;
  }

  expectStream(id: number): QuicStream {
    const stream = new QuicheStream(this, id, true);
    this.#streams.set(id, stream);
    return stream;
  }

  sendDatagram(bytes: Uint8Array): boolean {
    if (this.#closed !== undefined || bytes.length > this.maxDatagramBytes) return false;
    try {
      if (this.native.dgramSend(bytes) === null) return false;
    } catch {
      return false;
    }
    this.#datagramsSent += 1;
    this.#schedule();
    return true;
  }

  stats(): QuicStats {
    const { lost, sentBytes, recvBytes, peerMaxUdpPayloadSize } = this.native.stats();
    const paths = [...this.native.pathStats()];
    const path = paths.find(({ active }) => active) ?? paths[0];
    return {
      smoothedRttMs: path?.rtt ?? 0,
      congestionWindowBytes: path?.cwnd ?? 0,
      mtuBytes: path?.pmtu ?? 0,
      maxUdpPayloadBytes: peerMaxUdpPayloadSize,
      sentBytes,
      receivedBytes: recvBytes,
      lostPackets: lost,
      pingsSent: this.#pingsSent,
      datagramsSent: this.#datagramsSent,
      datagramsReceived: this.#datagramsReceived,
    };
  }

  ping(): Promise<number> {
    if (this.#closed !== undefined) return Promise.reject(lossOf(this.#closed));
    if (this.#pings.length >= MAX_PENDING_PINGS) {
      return Promise.reject(new TunnelError("edge.silent", "Earlier pings are still unanswered"));
    }
    return new Promise((resolve, reject) => {
      this.#pings.push({ sentAtMs: this.#endpoint.clock.nowMs(), resolve, reject });
      this.#pingsSent += 1;
      this.native.sendAckEliciting();
      this.#schedule();
    });
  }

  closeGently(): void {
    if (this.#closed !== undefined || this.#gentleUntilMs !== undefined) return;
    this.#gentleUntilMs = this.#endpoint.clock.nowMs() + CLOSE_GENTLY_MS;
    this.#sweepSoon();
    this.#schedule();
  }

  close(code: number, reason: string): void {
    if (this.#closed !== undefined) return;
    this.#flushWrites();
    this.native.close(true, code, new TextEncoder().encode(reason));
    this.#closed = { kind: "local" };
    this.#schedule();
  }

  // ---- StreamOwner ----

  wake(stream: QuicheStream): void {
    this.#busy.add(stream);
    this.#schedule();
  }

  wakeReader(stream: QuicheStream): void {
    if (stream === this.#introduced) return;
    this.#readDue = true;
    this.#schedule();
  }

  wrote(): void {
    this.#schedule();
  }

  forget(stream: QuicheStream, abandoned: boolean): void {
    this.#streams.delete(stream.id);
    this.#blocked.delete(stream);
    if (abandoned) {
      this.#reaper.add(stream.id);
      this.#sweepSoon();
    }
    this.#recent[this.#recentAt] = stream.id;
    this.#recentAt = (this.#recentAt + 1) % MAX_RECENT;
  }

  sendNow(): void {
    if (this.#closed === undefined) this.#writePackets();
  }

  afterPackets(action: () => void): void {
    this.#afterPackets.push(action);
    this.#schedule();
  }

  readSpace(): Uint8Array {
    if (this.#slab.length - this.#slabUsed < READ_BYTES) {
      this.#slab = new Uint8Array(SLAB_BYTES);
      this.#slabUsed = 0;
    }
    return this.#slab.subarray(this.#slabUsed, this.#slabUsed + READ_BYTES);
  }

  readUsed(bytes: number): void {
    this.#slabUsed += bytes;
  }

  // ---- for the endpoint ----

  get established(): boolean {
    return this.#established;
  }

  /** Takes a packet for this connection; decrypts in place. */
  receive(packet: Uint8Array, port: number): void {
    const moved = port !== this.remotePort;
    const before = moved ? this.native.stats().recv : 0;
    try {
      this.native.recv(packet, this.#info);
    } catch {
      // The library has closed the connection and says why in `localError`.
      this.#sendDue = true;
    }
    // Only a packet with the right keys proves that the peer is behind another port now.
    if (moved) {
      if (this.native.stats().recv === before) return;
      this.remotePort = port;
    }
    this.lastReceivedAtMs = this.#endpoint.clock.nowMs();
    this.#receivedSinceSweep = true;
    this.#toRetry = this.#blocked.size;
    this.#readDue = true;
    this.#acks.received(packet.length);
    this.#endpoint.schedule(this);
  }

  /** Keeps the path and the peer's idle timer alive. */
  keepAlive(everyMs: number): void {
    this.#keepAliveTimer = this.#endpoint.clock.after(
      everyMs,
      () => {
        if (this.#closed !== undefined) return;
        if (this.#endpoint.clock.nowMs() - this.lastReceivedAtMs >= everyMs - 1) {
          this.#pingsSent += 1;
          this.native.sendAckEliciting();
          this.#schedule();
        }
        this.keepAlive(everyMs);
      },
      { background: true },
    );
  }

  /** Everything that is due: reads, writes, packets, timers, the end. */
  turn(): void {
    if (this.#told) return;
    this.#inTurn = true;
    try {
      this.#exchange();
    } finally {
      this.#inTurn = false;
    }
    if (!this.#mayWait()) this.#sendPackets();
    this.#notice();
    if (this.#events !== undefined && this.#established && (this.#readDue || this.#busy.size > 0)) this.#schedule();
    this.#arm();
  }

  /** Ends without a word to the peer. */
  abandonAll(): void {
    this.#closed ??= { kind: "idle" };
    this.#tell();
  }

  /** Whatever the next turn is for, it also sends. */
  #schedule(): void {
    this.#sendDue = true;
    if (!this.#inTurn) this.#endpoint.schedule(this);
  }

  #mayWait(): boolean {
    if (this.#sendDue || this.#closed !== undefined || !this.#established) return false;
    return this.#acks.mayWait(this.native.stats().lost);
  }

  /** Moves bytes between the library's streams and ours. */
  #exchange(): void {
    if (!this.#established && this.native.isEstablished()) {
      this.#established = true;
      this.#sendDue = true;
      this.#onEstablished();
    }
    if (!this.#established || this.#closed !== undefined || this.#events === undefined) return;
    if (this.#readDue) {
      this.#readDue = false;
      this.#readStreams();
      this.#readDatagrams();
    }
    this.#flushWrites();
    if (this.#pings.length > 0) this.#settlePings();
    // The control stream alone needs no look.
    if (this.#receivedSinceSweep && this.#streams.size > 1) this.#sweepSoon();
    if (this.#gentleUntilMs !== undefined) this.#closeWhenAcknowledged();
  }

  #readStreams(): void {
    for (const id of this.native.readable()) {
      let stream = this.#streams.get(id);
      if (stream === undefined) {
        if ((id & 1) === (this.#isServer ? 1 : 0) || (id & 2) !== 0) continue;
        stream = new QuicheStream(this, id, false);
        this.#streams.set(id, stream);
        this.#introduced = stream;
        this.#events?.onStream(stream);
        this.#introduced = undefined;
      } else {
        stream.opened();
      }
      if (!stream.held && stream.read()) this.#readDue = true;
    }
  }

  #readDatagrams(): void {
    if (this.native.dgramRecvQueueLen() === 0) return;
    for (let bytes = this.native.dgramRecvVec(); bytes !== null; bytes = this.native.dgramRecvVec()) {
      this.#datagramsReceived += 1;
      this.#events?.onDatagram(bytes);
    }
  }

  #flushWrites(): void {
    if (this.#busy.size > 0) {
      const busy = this.#busy;
      this.#busy = new Set();
      for (const stream of busy) this.#flush(stream);
    }
    let left = Math.min(this.#toRetry, RETRIES_PER_TURN);
    this.#toRetry -= left;
    for (const stream of this.#blocked) {
      if (left === 0) break;
      left -= 1;
      this.#flush(stream);
    }
    if (this.#toRetry > 0) this.#endpoint.schedule(this);
  }

  #flush(stream: QuicheStream): void {
    this.#blocked.delete(stream);
    if (stream.flush()) this.#blocked.add(stream);
  }

  #sendPackets(): void {
    if (!this.#endpoint.writable) return;
    if (this.#writePackets()) {
      this.#schedule();
      return;
    }
    this.#sendDue = false;
    this.#packetsWereSent();
  }

  /** True = there may be more to send. */
  #writePackets(): boolean {
    if (!this.#endpoint.writable) return true;
    const slots = this.#endpoint.slots(this.#packetBytes);
    const packets: PacketList = [];
    for (const slot of slots) {
      const sent = this.#nextPacket(slot);
      if (sent === 0) break;
      packets.push(sent === slot.length ? slot : slot.subarray(0, sent), this.remotePort, this.remoteIp);
    }
    if (packets.length > 0) this.#endpoint.send(packets);
    this.#acks.sent();
    return packets.length === slots.length * 3;
  }

  #packetsWereSent(): void {
    if (this.#afterPackets.length === 0) return;
    const actions = this.#afterPackets;
    this.#afterPackets = [];
    if (this.#closed === undefined) for (const action of actions) action();
  }

  #nextPacket(slot: Uint8Array): number {
    try {
      return this.native.send(slot)?.[0] ?? 0;
    } catch {
      // The library has closed the connection and says why in `localError`.
      return 0;
    }
  }

  #notice(): void {
    const { native } = this;
    if (native.isClosed()) {
      this.#closed ??= this.#readClose();
      this.#tell();
      return;
    }
    if (this.#closed === undefined && native.isDraining()) this.#closed = this.#readClose();
    if (this.#closed !== undefined) this.#tellStreams(this.#closed);
  }

  #readClose(): QuicClose {
    const peer = this.native.peerError();
    if (peer !== null) {
      const reason = new TextDecoder().decode(peer.reason.subarray(0, 256));
      return { kind: "peer", application: peer.isApp, code: peer.errorCode, reason };
    }
    const own = this.native.localError();
    if (own === null) {
      if (this.native.isTimedOut()) return { kind: "idle" };
      return { kind: "failed", tls: false, detail: "the other side does not know it any more" };
    }
    // TLS alerts are 0x100 to 0x1ff (RFC 9001 section 4.8).
    const tls = !own.isApp && own.errorCode >= 0x100 && own.errorCode < 0x200;
    return { kind: "failed", tls, detail: tls ? `TLS alert ${own.errorCode - 0x100}` : `QUIC error ${own.errorCode}` };
  }

  /** Tells everybody at once; the library may still have to say good-bye to the peer. */
  #tellStreams(close: QuicClose): void {
    const events = this.#events;
    if (events === undefined) {
      const early = this.onEarlyClose;
      this.onEarlyClose = undefined;
      if (!this.#established) early?.(close);
      return;
    }
    this.#events = undefined;
    const error = lossOf(close);
    for (const stream of this.#streams.values()) stream.lose(error);
    this.#streams.clear();
    this.#busy.clear();
    this.#blocked.clear();
    for (const ping of this.#pings) ping.reject(error);
    this.#pings = [];
    events.onClosed(close);
  }

  #tell(): void {
    if (this.#told) return;
    this.#told = true;
    this.#timer?.cancel();
    this.#sweepTimer?.();
    this.#acks.stop();
    this.#keepAliveTimer?.();
    if (this.#closed !== undefined) this.#tellStreams(this.#closed);
    this.#endpoint.release(this);
  }

  #arm(): void {
    if (this.#told) return;
    const leftMs = this.native.timeout();
    if (leftMs === null) return;
    const { clock } = this.#endpoint;
    const atMs = clock.nowMs() + Math.max(leftMs, 1);
    // A timer that comes too early only looks again; setting one for each packet would cost more.
    if (this.#timer !== undefined && this.#timer.atMs <= atMs + 1) return;
    this.#timer?.cancel();
    const cancel = clock.after(Math.max(leftMs, 1), () => this.#onTimer());
    this.#timer = { atMs, cancel };
  }

  #onTimer(): void {
    this.#timer = undefined;
    if (this.native.timeout() === 0) {
      this.native.onTimeout();
      this.#sendDue = true;
    }
    this.#toRetry = this.#blocked.size;
    this.turn();
  }

  #settlePings(): void {
    const waiting = this.#pings;
    this.#pings = [];
    for (const ping of waiting) {
      if (this.lastReceivedAtMs >= ping.sentAtMs) ping.resolve(this.lastReceivedAtMs - ping.sentAtMs);
      else this.#pings.push(ping);
    }
  }

  // ---- what the library does not tell by itself ----

  #sweepSoon(): void {
    if (this.#sweepTimer !== undefined || this.#told) return;
    this.#sweepTimer = this.#endpoint.clock.after(
      SWEEP_MS,
      () => {
        this.#sweepTimer = undefined;
        if (this.#closed !== undefined) return;
        this.#sweep();
        this.#schedule();
      },
      { background: true },
    );
  }

  #sweep(): void {
    if (this.#receivedSinceSweep) {
      this.#receivedSinceSweep = false;
      for (const stream of [...this.#streams.values()]) if (stream.idleWriter) stream.checkStopped();
    }
    this.#reaper.reap();
    if (!this.#reaper.isEmpty || this.#gentleUntilMs !== undefined) this.#sweepSoon();
  }

  #closeWhenAcknowledged(): void {
    const late = this.#endpoint.clock.nowMs() >= (this.#gentleUntilMs ?? 0);
    if (!late) for (const stream of this.#streams.values()) if (stream.unsent) return;
    while (!late && this.#recent.length > 0) {
      if (isAlive(this.native, this.#recent[this.#recent.length - 1] as number)) return;
      this.#recent.pop();
    }
    this.close(0, "");
  }
}
