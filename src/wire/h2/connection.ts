import type { RawHeaders } from "../headers.ts";
import {
  DEFAULT_FRAME_BYTES,
  DEFAULT_WINDOW_BYTES,
  FLAG,
  FRAME,
  FRAME_HEADER_BYTES,
  H2_ERROR,
  MAX_WINDOW_BYTES,
  SETTING,
} from "./constants.ts";
import { FrameReader, readU32 } from "./frame-reader.ts";
import { type Allocate, FrameWriter } from "./frame-writer.ts";
import { HpackDecoder } from "./hpack-decoder.ts";
import {
  type H2Limits,
  MAX_SETTINGS_IN_FRAME,
  MAX_STUCK_OUTPUT_BYTES,
  OUTPUT_HIGH_BYTES,
  TUNNEL_LIMITS,
} from "./limits.ts";
import { isInformational, validateRequest, validateResponse, validateTrailers } from "./message-rules.ts";
import { OwnResets } from "./own-resets.ts";
import { H2Stream, type StreamHost } from "./stream.ts";

/** Bytes of one stream sent before the next stream has its turn. */
const TURN_BYTES = 64 * 1024;
/** Longest DATA frame we send, to a peer that takes it. */
const SEND_FRAME_BYTES = 64 * 1024 - FRAME_HEADER_BYTES;

export interface H2Handler {
  /** A request came (server role). Call `stream.listen` during it. */
  onRequest(stream: H2Stream, fields: string[], endStream: boolean): void;
  /** The same for a request whose fields are more than the limit; without this handler its stream is reset. */
  onOversizedRequest?(stream: H2Stream, endStream: boolean): void;
  /** The peer takes no new streams any more. */
  onGoaway(code: number): void;
  onPingAck(payload: Uint8Array): void;
  /** The peer's first SETTINGS came: the connection is up. */
  onReady(): void;
  /** There is output to take, soon. Called once until it was taken. */
  onOutput(): void;
  /** The connection is broken beyond use: take the output (a GOAWAY) and close. */
  onFatal(code: number, reason: string): void;
}

export type H2Role = "client" | "server";

/**
 * One HTTP/2 connection, sans-IO: bytes in by `receive`, bytes out by `takeOutput`, streams between (RFC 9113).
 * Both roles are the same class, since a tunnel turns them round: the edge dials nothing and is the client.
 */
export class H2Connection implements StreamHost {
  readonly #role: H2Role;
  readonly #handler: H2Handler;
  readonly #out: FrameWriter;
  readonly #limits: H2Limits;
  readonly #hpack: HpackDecoder;
  readonly #streams = new Map<number, H2Stream>();
  /** Streams with unsent bytes or a waiting writer, in the order of their turn; not those that lack window. */
  readonly #waiting = new Set<H2Stream>();

  #state: "open" | "failed" = "open";
  #ready = false;
  #announced = false;
  #blocked = false;
  #receiving = false;

  readonly #reader: FrameReader;
  /** Whose DATA frame is being read; undefined = nobody wants it. */
  #dataStream: H2Stream | undefined;
  readonly #ownResets = new OwnResets();

  #nextStreamId = 1;
  #lastPeerStreamId = 0;
  #sendWindow = DEFAULT_WINDOW_BYTES;
  #receiveWindow: number;
  #uncredited = 0;
  #heldBytes = 0;
  #peerInitialWindow = DEFAULT_WINDOW_BYTES;
  #peerMaxStreams = Number.POSITIVE_INFINITY;
  /** How often output was taken: tells whether a stream's head can have left this process. */
  #turns = 0;
  #goawayReceived = false;
  #goawaySent = false;
  #idleControlFrames = 0;

  constructor(role: H2Role, handler: H2Handler, allocate: Allocate, limits: H2Limits = TUNNEL_LIMITS) {
    this.#role = role;
    this.#limits = limits;
    this.#hpack = new HpackDecoder(limits.headerListBytes);
    this.#receiveWindow = limits.connectionWindowBytes;
    this.#handler = handler;
    this.#out = new FrameWriter(allocate);
    this.#reader = new FrameReader(
      { preface: role === "server", frameBytes: limits.frameBytes, headerBlockBytes: limits.headerBlockBytes },
      {
        onData: (streamId, length, padding) => this.#data(streamId, length, padding),
        onDataBytes: (chunk) => this.#dataBytes(chunk),
        onDataEnd: (endStream) => this.#dataEnd(endStream),
        onHeaderBlock: (streamId, endStream, bytes, from, to) =>
          this.#headerBlock(streamId, endStream, bytes, from, to),
        onControl: (type, flags, streamId, bytes, at, length) =>
          this.#control(type, flags, streamId, bytes, at, length),
        onBroken: (code, reason) => this.#fail(code, reason),
      },
    );
    if (role === "client") this.#out.preface();
    this.#out.settings([
      role === "client" ? [SETTING.enablePush, 0] : [SETTING.maxConcurrentStreams, limits.streams],
      [SETTING.initialWindowSize, limits.streamWindowBytes],
      [SETTING.maxFrameSize, limits.frameBytes],
      [SETTING.maxHeaderListSize, limits.headerListBytes],
      ...(limits.connect ? ([[SETTING.enableConnectProtocol, 1]] as const) : []),
    ]);
    this.#out.windowUpdate(0, limits.connectionWindowBytes - DEFAULT_WINDOW_BYTES);
  }

  get streamCount(): number {
    return this.#streams.size;
  }

  /** True while the peer owes the rest of a frame or header block that is only read whole. */
  get midFrame(): boolean {
    return this.#reader.midFrame;
  }

  /** True while new streams may be opened (client role). */
  get canOpen(): boolean {
    return this.#state === "open" && !this.#goawayReceived && this.#streams.size < this.#peerMaxStreams;
  }

  /** Opens a stream (client role); undefined when the peer's limit or its GOAWAY forbids it. */
  open(fields: RawHeaders, end: boolean): H2Stream | undefined {
    if (!this.canOpen || this.#nextStreamId > 0x7fff_ffff) return undefined;
    const stream = this.#newStream(this.#nextStreamId);
    stream.openedInTurn = this.#turns;
    this.#nextStreamId += 2;
    this.sendHeaders(stream, fields, end);
    return stream;
  }

  ping(payload: Uint8Array): void {
    this.#out.ping(payload, false);
    this.#announce();
  }

  /** Tells the peer that we take no new streams; running ones go on. */
  goaway(): void {
    if (this.#goawaySent || this.#state !== "open") return;
    this.#goawaySent = true;
    this.#out.goaway(this.#lastPeerStreamId, H2_ERROR.noError);
    this.#announce();
  }

  /** Ends the connection for what its peer does: a GOAWAY with `code`, every stream over, then `onFatal`. */
  giveUp(code: number, reason: string): void {
    this.#fail(code, reason);
  }

  takeOutput(): Uint8Array[] {
    this.#announced = false;
    this.#turns += 1;
    return this.#out.take();
  }

  /** The output taken last has left (true: nobody holds its bytes any more) or waits below (false). */
  outputSent(gone: boolean): void {
    if (gone) this.#out.recycle();
    else this.#out.release();
  }

  /** The transport below takes no more for now; streams hold back until `unblock`. */
  block(): void {
    this.#blocked = true;
  }

  unblock(): void {
    this.#blocked = false;
    this.#pump();
  }

  /** Lets streams go on after their output was taken. */
  flushed(): void {
    if (!this.#blocked && this.#waiting.size > 0) this.#pump();
  }

  /** The transport is gone: every stream ends. */
  abandon(): void {
    this.#state = "failed";
    this.#reader.stop();
    this.#endAll();
  }

  /** Bytes from the peer, in any portions. Never throws. */
  receive(chunk: Uint8Array): void {
    this.#receiving = true;
    this.#reader.read(chunk);
    this.#receiving = false;
    if (this.#out.pendingBytes > 0) {
      if (this.#blocked && this.#out.pendingBytes > MAX_STUCK_OUTPUT_BYTES) {
        this.#fail(H2_ERROR.enhanceYourCalm, "peer does not read the answers it asks for");
        return;
      }
      this.#announce();
    }
  }

  // ---- StreamHost: what streams ask for ----

  sendHeaders(stream: H2Stream, fields: RawHeaders, end: boolean): void {
    this.#out.headers(stream.id, fields, end);
    this.#announce();
    if (!end) return;
    this.#localEnd(stream);
    this.#ended(stream);
  }

  sendData(stream: H2Stream, chunk: Uint8Array): boolean {
    if (stream.unsent.length > 0) {
      stream.unsent.push(chunk);
      return this.#holdBack(stream);
    }
    const sent = this.#sendSome(stream, chunk, chunk.length);
    if (sent < chunk.length) {
      stream.unsent.push(chunk.subarray(sent));
      return this.#holdBack(stream);
    }
    return this.#out.pendingBytes < OUTPUT_HIGH_BYTES && !this.#blocked ? true : this.#holdBack(stream);
  }

  sendEnd(stream: H2Stream): void {
    const trailers = stream.endWaits ?? [];
    if (trailers.length > 0) this.#out.headers(stream.id, trailers, true);
    else this.#out.endStream(stream.id);
    this.#announce();
    this.#localEnd(stream);
    this.#ended(stream);
  }

  sendReset(stream: H2Stream, code: number): void {
    this.#writeReset(stream.id, code);
    this.#announce();
    this.#forget(stream);
    stream.finish(code, false, true);
  }

  credit(stream: H2Stream, bytes: number): void {
    stream.uncredited += bytes;
    if (stream.remoteEnded || stream.dead || stream.uncredited < stream.windowBytes / 2) return;
    const growth = stream.keepsUp && stream.windowBytes < this.#limits.maxStreamWindowBytes ? stream.windowBytes : 0;
    const granted = stream.uncredited + growth;
    this.#out.windowUpdate(stream.id, granted);
    stream.receiveWindow += granted;
    stream.windowBytes += growth;
    stream.uncredited = 0;
    this.#announce();
  }

  held(bytes: number): void {
    this.#heldBytes += bytes;
    if (bytes < 0) this.#refill();
  }

  // ---- sending ----

  #holdBack(stream: H2Stream): boolean {
    stream.writerWaits = true;
    if (!stalled(stream)) this.#waiting.add(stream);
    return false;
  }

  #sendSome(stream: H2Stream, chunk: Uint8Array, limit: number): number {
    let sent = 0;
    while (sent < limit) {
      const bytes = Math.min(limit - sent, this.#out.maxFrameBytes, stream.sendWindow, this.#sendWindow);
      if (bytes <= 0 || this.#blocked || this.#out.pendingBytes >= OUTPUT_HIGH_BYTES) break;
      this.#out.data(stream.id, chunk, sent, sent + bytes);
      sent += bytes;
      stream.sendWindow -= bytes;
      this.#sendWindow -= bytes;
    }
    if (sent > 0) {
      // A peer that reads answers with window updates, as many as it likes.
      this.#idleControlFrames = 0;
      this.#announce();
    }
    return sent;
  }

  /** Gives every waiting stream its turns until windows, transport or output limit stop it. */
  #pump(): void {
    let progress = true;
    while (progress && this.#waiting.size > 0) {
      progress = false;
      for (const stream of [...this.#waiting]) {
        if (this.#blocked || this.#out.pendingBytes >= OUTPUT_HIGH_BYTES) return;
        if (this.#waiting.has(stream) && this.#turn(stream)) progress = true;
      }
    }
  }

  #turn(stream: H2Stream): boolean {
    const chunk = stream.unsent[0];
    if (chunk !== undefined) {
      const sent = this.#sendSome(stream, chunk, Math.min(chunk.length, TURN_BYTES));
      if (sent === chunk.length) stream.unsent.shift();
      else stream.unsent[0] = chunk.subarray(sent);
      if (stream.unsent.length > 0) {
        this.#waiting.delete(stream);
        if (!stalled(stream)) this.#waiting.add(stream);
        return sent > 0;
      }
    }
    this.#waiting.delete(stream);
    if (stream.endWaits !== undefined && !stream.localEnded) this.sendEnd(stream);
    else if (stream.writerWaits) {
      stream.writerWaits = false;
      stream.events?.onDrain();
    }
    return true;
  }

  #announce(): void {
    if (this.#announced || this.#receiving) return;
    this.#announced = true;
    this.#handler.onOutput();
  }

  // ---- receiving ----

  #control(type: number, flags: number, streamId: number, chunk: Uint8Array, at: number, length: number): void {
    switch (type) {
      case FRAME.priority:
        if (streamId === 0) this.#fail(H2_ERROR.protocolError, "PRIORITY of no stream");
        else if (length !== 5) this.#fail(H2_ERROR.frameSizeError, "PRIORITY length");
        else if ((readU32(chunk, at) & 0x7fff_ffff) === streamId) {
          this.#fail(H2_ERROR.protocolError, "a stream that depends on itself");
        } else this.#controlFrame();
        return;
      case FRAME.rstStream:
        if (streamId === 0) this.#fail(H2_ERROR.protocolError, "RST_STREAM of no stream");
        else if (length !== 4) this.#fail(H2_ERROR.frameSizeError, "RST_STREAM length");
        else if (this.#controlFrame()) this.#onReset(streamId, readU32(chunk, at));
        return;
      case FRAME.settings:
        if (this.#controlFrame()) this.#onSettings(streamId, flags, chunk, at, length);
        return;
      case FRAME.ping:
        if (streamId !== 0) this.#fail(H2_ERROR.protocolError, "PING of a stream");
        else if (length !== 8) this.#fail(H2_ERROR.frameSizeError, "PING length");
        else if ((flags & FLAG.ack) !== 0) this.#handler.onPingAck(chunk.slice(at, at + length));
        else if (this.#controlFrame()) this.#out.ping(chunk.subarray(at, at + length), true);
        return;
      case FRAME.goaway:
        if (streamId !== 0) this.#fail(H2_ERROR.protocolError, "GOAWAY of a stream");
        else if (length < 8) this.#fail(H2_ERROR.frameSizeError, "GOAWAY length");
        else this.#onGoaway(readU32(chunk, at) & 0x7fff_ffff, readU32(chunk, at + 4));
        return;
      case FRAME.windowUpdate:
        if (length !== 4) this.#fail(H2_ERROR.frameSizeError, "WINDOW_UPDATE length");
        else if (this.#controlFrame()) this.#onWindowUpdate(streamId, readU32(chunk, at) & 0x7fff_ffff);
        return;
      case FRAME.pushPromise:
        this.#fail(H2_ERROR.protocolError, "PUSH_PROMISE");
        return;
      default:
        // Unknown frame types are ignored (RFC 9113 section 4.1), but not without end.
        this.#controlFrame();
    }
  }

  /** Counts frames that carry no message; a peer that sends nothing else is not working but flooding. */
  #controlFrame(): boolean {
    this.#idleControlFrames += 1;
    if (this.#idleControlFrames <= this.#limits.idleControlFrames) return true;
    this.#fail(H2_ERROR.enhanceYourCalm, "flood of control frames");
    return false;
  }

  #data(streamId: number, length: number, padding: number): void {
    if (streamId === 0 || this.#isIdle(streamId)) {
      this.#fail(H2_ERROR.protocolError, "DATA on an idle stream");
      return;
    }
    this.#receiveWindow -= length;
    if (this.#receiveWindow < 0) {
      this.#fail(H2_ERROR.flowControlError, "connection window overrun");
      return;
    }
    this.#uncredited += length;
    this.#refill();
    this.#dataStream = undefined;
    const stream = this.#streams.get(streamId);
    const expected = stream !== undefined || this.#mayBeLate(streamId);
    if (expected && length > 0) this.#idleControlFrames = 0;
    else if (!this.#controlFrame()) return;
    if (!expected) this.#out.rstStream(streamId, H2_ERROR.streamClosed);
    if (stream === undefined) return;
    if (stream.remoteEnded || !stream.headReceived) {
      this.#resetStream(stream, stream.remoteEnded ? H2_ERROR.streamClosed : H2_ERROR.protocolError);
      return;
    }
    stream.receiveWindow -= length;
    if (stream.receiveWindow < 0) {
      this.#resetStream(stream, H2_ERROR.flowControlError);
      return;
    }
    if (padding > 0) this.credit(stream, padding);
    this.#dataStream = stream;
  }

  #dataBytes(chunk: Uint8Array): void {
    const stream = this.#dataStream;
    if (stream !== undefined && !stream.dead) stream.receive(chunk);
  }

  #dataEnd(endStream: boolean): void {
    const stream = this.#dataStream;
    this.#dataStream = undefined;
    if (endStream && stream !== undefined && !stream.dead) this.#remoteEnd(stream, []);
  }

  #headerBlock(streamId: number, endStream: boolean, block: Uint8Array, from: number, to: number): void {
    this.#idleControlFrames = 0;
    if (streamId % 2 === 0 || (this.#role === "client" && this.#isIdle(streamId))) {
      this.#fail(H2_ERROR.protocolError, "HEADERS on a stream that nobody opened");
      return;
    }
    // Every block is decoded, even one that is then refused: the table must stay in step.
    const result = this.#hpack.decode(block, from, to);
    if (result.kind === "malformed") {
      this.#fail(H2_ERROR.compressionError, result.reason);
      return;
    }
    const known = this.#streams.get(streamId);
    if (known !== undefined) {
      if (result.kind === "too-large") this.#resetStream(known, H2_ERROR.enhanceYourCalm);
      else this.#laterHeaders(known, result.fields, endStream);
    } else if (this.#role === "server" && streamId > this.#lastPeerStreamId) {
      this.#lastPeerStreamId = streamId;
      this.#request(streamId, result.kind === "too-large" ? undefined : result.fields, endStream);
    } else if (!this.#mayBeLate(streamId)) {
      // The newest stream has been open. An older one may have been passed over, which is what RFC 9113 section 5.1.1
      // forbids to go back to.
      const code = streamId === this.#lastPeerStreamId ? H2_ERROR.streamClosed : H2_ERROR.protocolError;
      this.#fail(code, "HEADERS on a stream that is over");
    }
  }

  /** A frame for a stream that is gone: true when the peer may have sent it in good faith. */
  #mayBeLate(streamId: number): boolean {
    return this.#role === "client" || this.#ownResets.mayHold(streamId);
  }

  /** `fields` undefined: they were more than the limit. */
  #request(streamId: number, fields: string[] | undefined, endStream: boolean): void {
    if (this.#goawaySent || this.#streams.size >= this.#limits.streams) {
      this.#writeReset(streamId, H2_ERROR.refusedStream);
      return;
    }
    if (fields === undefined && this.#handler.onOversizedRequest === undefined) {
      this.#writeReset(streamId, H2_ERROR.enhanceYourCalm);
      return;
    }
    if (fields !== undefined && !validateRequest(fields, this.#limits.connect)) {
      this.#writeReset(streamId, H2_ERROR.protocolError);
      return;
    }
    const stream = this.#newStream(streamId);
    stream.headReceived = true;
    if (fields === undefined) this.#handler.onOversizedRequest?.(stream, endStream);
    else this.#handler.onRequest(stream, fields, endStream);
    if (endStream) this.#remoteEnd(stream, []);
  }

  #laterHeaders(stream: H2Stream, fields: string[], endStream: boolean): void {
    if (stream.remoteEnded) {
      this.#resetStream(stream, H2_ERROR.streamClosed);
    } else if (stream.headReceived) {
      if (endStream && validateTrailers(fields)) this.#remoteEnd(stream, fields);
      else this.#resetStream(stream, H2_ERROR.protocolError);
    } else if (!validateResponse(fields)) {
      this.#resetStream(stream, H2_ERROR.protocolError);
    } else if (isInformational(fields)) {
      if (endStream) this.#resetStream(stream, H2_ERROR.protocolError);
      else stream.events?.onInformational(fields);
    } else {
      stream.headReceived = true;
      stream.events?.onHead(fields, endStream);
      if (endStream && !stream.dead) this.#remoteEnd(stream, []);
    }
  }

  #onReset(streamId: number, code: number): void {
    if (this.#isIdle(streamId)) {
      this.#fail(H2_ERROR.protocolError, "RST_STREAM on an idle stream");
      return;
    }
    const stream = this.#streams.get(streamId);
    if (stream === undefined) return;
    this.#forget(stream);
    // RFC 9113 section 8.1: a server that answered in full resets what it did not read of the request; the answer holds.
    if (code === H2_ERROR.noError && this.#role === "client" && stream.remoteEnded) stream.stopSending();
    else stream.finish(code, true, code !== H2_ERROR.refusedStream);
  }

  #onSettings(streamId: number, flags: number, chunk: Uint8Array, at: number, length: number): void {
    const ack = (flags & FLAG.ack) !== 0;
    if (streamId !== 0) {
      this.#fail(H2_ERROR.protocolError, "SETTINGS of a stream");
      return;
    }
    if (ack ? length !== 0 : length % 6 !== 0) {
      this.#fail(H2_ERROR.frameSizeError, "SETTINGS length");
      return;
    }
    if (ack) return;
    if (length > MAX_SETTINGS_IN_FRAME * 6) {
      this.#fail(H2_ERROR.enhanceYourCalm, "too many settings");
      return;
    }
    for (let i = at; i < at + length; i += 6) {
      const id = ((chunk[i] as number) << 8) | (chunk[i + 1] as number);
      if (!this.#setting(id, readU32(chunk, i + 2))) return;
    }
    this.#out.settingsAck();
    if (!this.#ready) {
      this.#ready = true;
      this.#handler.onReady();
    }
    this.#pump();
  }

  #setting(id: number, value: number): boolean {
    switch (id) {
      case SETTING.initialWindowSize: {
        if (value > MAX_WINDOW_BYTES) {
          this.#fail(H2_ERROR.flowControlError, "initial window too large");
          return false;
        }
        const change = value - this.#peerInitialWindow;
        this.#peerInitialWindow = value;
        for (const stream of this.#streams.values()) {
          stream.sendWindow += change;
          // RFC 9113 section 6.9.2: also the windows that a new setting changes stay within the largest.
          if (stream.sendWindow > MAX_WINDOW_BYTES) {
            this.#fail(H2_ERROR.flowControlError, "a stream's window too large");
            return false;
          }
          if (stream.unsent.length > 0) this.#waiting.add(stream);
        }
        return true;
      }
      case SETTING.enablePush:
        if (value <= 1) return true;
        this.#fail(H2_ERROR.protocolError, "push setting");
        return false;
      case SETTING.maxFrameSize:
        if (value < DEFAULT_FRAME_BYTES || value > 0xff_ffff) {
          this.#fail(H2_ERROR.protocolError, "frame size setting");
          return false;
        }
        this.#out.maxFrameBytes = Math.min(value, SEND_FRAME_BYTES);
        return true;
      case SETTING.maxConcurrentStreams:
        this.#peerMaxStreams = value;
        return true;
      default:
        return true;
    }
  }

  #onGoaway(lastStreamId: number, code: number): void {
    this.#goawayReceived = true;
    if (this.#role === "client") {
      for (const stream of [...this.#streams.values()]) {
        if (stream.id <= lastStreamId) continue;
        this.#forget(stream);
        stream.finish(H2_ERROR.refusedStream, true, false);
      }
    }
    this.#handler.onGoaway(code);
  }

  #onWindowUpdate(streamId: number, bytes: number): void {
    if (streamId === 0) {
      this.#sendWindow += bytes;
      if (bytes === 0 || this.#sendWindow > MAX_WINDOW_BYTES) {
        this.#fail(windowError(bytes), "connection window");
        return;
      }
      this.#pump();
      return;
    }
    const stream = this.#streams.get(streamId);
    if (stream === undefined) {
      if (this.#isIdle(streamId)) this.#fail(H2_ERROR.protocolError, "WINDOW_UPDATE on an idle stream");
      return;
    }
    stream.sendWindow += bytes;
    if (bytes === 0 || stream.sendWindow > MAX_WINDOW_BYTES) this.#resetStream(stream, windowError(bytes));
    else if (stream.unsent.length > 0) {
      this.#waiting.add(stream);
      this.#turn(stream);
    }
  }

  // ---- streams and the connection's life ----

  #newStream(id: number): H2Stream {
    const stream = new H2Stream(id, this, { send: this.#peerInitialWindow, receive: this.#limits.streamWindowBytes });
    this.#streams.set(id, stream);
    return stream;
  }

  #isIdle(streamId: number): boolean {
    return this.#role === "client" ? streamId >= this.#nextStreamId : streamId > this.#lastPeerStreamId;
  }

  #localEnd(stream: H2Stream): void {
    stream.localEnded = true;
    this.#waiting.delete(stream);
    if (stream.remoteEnded) this.#forget(stream);
  }

  /** Our end of a stream was sent. */
  #ended(stream: H2Stream): void {
    if (stream.stopsPeer && !stream.remoteEnded) this.sendReset(stream, H2_ERROR.noError);
    else stream.complete();
  }

  #remoteEnd(stream: H2Stream, trailers: RawHeaders): void {
    if (stream.localEnded) this.#forget(stream);
    stream.receiveEnd(trailers);
  }

  #resetStream(stream: H2Stream, code: number): void {
    this.#writeReset(stream.id, code);
    this.#forget(stream);
    stream.finish(code, false, true);
  }

  #writeReset(streamId: number, code: number): void {
    this.#out.rstStream(streamId, code);
    if (this.#role === "server") this.#ownResets.add(streamId);
  }

  #forget(stream: H2Stream): void {
    this.#streams.delete(stream.id);
    this.#waiting.delete(stream);
  }

  /** Gives the connection window back as long as paused streams hold less than their budget. */
  #refill(): void {
    const { connectionWindowBytes, heldBudgetBytes } = this.#limits;
    if (this.#uncredited < connectionWindowBytes / 2 || this.#heldBytes > heldBudgetBytes) return;
    this.#out.windowUpdate(0, this.#uncredited);
    this.#receiveWindow += this.#uncredited;
    this.#uncredited = 0;
    this.#announce();
  }

  #fail(code: number, reason: string): void {
    if (this.#state === "failed") return;
    this.#state = "failed";
    this.#reader.stop();
    this.#out.goaway(this.#lastPeerStreamId, code);
    this.#endAll();
    this.#handler.onFatal(code, reason);
  }

  #endAll(): void {
    const streams = [...this.#streams.values()];
    this.#streams.clear();
    this.#waiting.clear();
    for (const stream of streams) stream.finish(H2_ERROR.internalError, false, stream.openedInTurn !== this.#turns);
  }
}

/** RFC 9113 section 6.9: an update by nothing breaks the protocol, one beyond the largest window breaks flow control. */
function windowError(bytes: number): number {
  return bytes === 0 ? H2_ERROR.protocolError : H2_ERROR.flowControlError;
}

/** True when only a WINDOW_UPDATE for this stream can let it go on. */
function stalled(stream: H2Stream): boolean {
  return stream.unsent.length > 0 && stream.sendWindow <= 0;
}
