import type { RawHeaders } from "../headers.ts";
import { H2_ERROR } from "./constants.ts";

/** What the owner of a stream is told, in order. `onReset` or the two ends (ours and `onEnd`) finish a stream. */
export interface H2StreamEvents {
  /** An interim answer, status 1xx (client role only). */
  onInformational(fields: string[]): void;
  /** The answer's head (client role only). `endStream`: nothing but `onEnd` follows. */
  onHead(fields: string[], endStream: boolean): void;
  onData(chunk: Uint8Array): void;
  /** The peer ended its direction; trailers are empty when none came. */
  onEnd(trailers: RawHeaders): void;
  /** There is room again after `write` returned false. */
  onDrain(): void;
  /**
   * Both directions are over for good. `byPeer` false = we reset it, or the connection is gone.
   * `processed` false = the peer says, or it is certain, that it never acted on the request.
   */
  onReset(code: number, byPeer: boolean, processed: boolean): void;
  /** Both directions ended properly. */
  onComplete(): void;
}

/** What a stream needs of its connection. */
export interface StreamHost {
  sendData(stream: H2Stream, chunk: Uint8Array): boolean;
  sendEnd(stream: H2Stream): void;
  sendHeaders(stream: H2Stream, fields: RawHeaders, end: boolean): void;
  sendReset(stream: H2Stream, code: number): void;
  /** The owner took bytes: the peer may send as many again. */
  credit(stream: H2Stream, bytes: number): void;
  /** Bytes were put aside for a paused owner (positive) or handed to it (negative). */
  held(bytes: number): void;
}

/** One HTTP/2 stream: its two windows, what waits on either side, and its life (RFC 9113 section 5). */
export class H2Stream {
  readonly id: number;
  readonly #host: StreamHost;
  #events: H2StreamEvents | undefined;

  /** Bytes the peer lets us send. */
  sendWindow: number;
  /** Bytes we still let the peer send. */
  receiveWindow: number;
  /** Size of that window when all of it is free. */
  windowBytes: number;
  /** Bytes handed to the owner and not yet credited to the peer. */
  uncredited = 0;
  /** Bytes the owner wrote that no window let through yet, and the trailers that wait behind them. */
  readonly unsent: Uint8Array[] = [];
  endWaits: RawHeaders | undefined;
  /** True after `write` returned false, until `onDrain`. */
  writerWaits = false;
  localEnded = false;
  /** Our end is followed by a reset without error, see `stopPeer`. */
  stopsPeer = false;
  remoteEnded = false;
  dead = false;
  /** The connection's output turn in which our head was written (client role). */
  openedInTurn = -1;
  /** True once the final head of the answer came (client role) or the request's head came (server role). */
  headReceived = false;

  #paused = false;
  #inbox: Uint8Array[] = [];
  #inboxBytes = 0;
  #trailers: RawHeaders | undefined;
  #endDelivered = false;
  #delivering = false;

  constructor(id: number, host: StreamHost, windows: { send: number; receive: number }) {
    this.id = id;
    this.#host = host;
    this.sendWindow = windows.send;
    this.receiveWindow = windows.receive;
    this.windowBytes = windows.receive;
  }

  get events(): H2StreamEvents | undefined {
    return this.#events;
  }

  /** True while nothing waits for the owner. */
  get keepsUp(): boolean {
    return this.#inboxBytes === 0;
  }

  /** Gives the stream its owner and delivers what came before. */
  listen(events: H2StreamEvents): void {
    this.#events = events;
    this.#deliver();
  }

  /** Sends a head or an interim head; `end` ends our direction with it. */
  sendHeaders(fields: RawHeaders, end: boolean): void {
    if (!this.dead && !this.localEnded) this.#host.sendHeaders(this, fields, end);
  }

  /** False = hold back until `onDrain`; the bytes are taken all the same. */
  write(chunk: Uint8Array): boolean {
    if (this.dead || this.localEnded || this.endWaits !== undefined || chunk.length === 0) return true;
    return this.#host.sendData(this, chunk);
  }

  end(trailers: RawHeaders): void {
    if (this.dead || this.localEnded || this.endWaits !== undefined) return;
    this.endWaits = trailers;
    if (this.unsent.length === 0) this.#host.sendEnd(this);
  }

  /**
   * What the peer still sends is not wanted: it is told so once all of our direction has left, the end included, so
   * that no byte of the answer is lost (RFC 9113 section 8.1).
   */
  stopPeer(): void {
    if (this.dead || this.remoteEnded) return;
    if (this.localEnded) this.#host.sendReset(this, H2_ERROR.noError);
    else this.stopsPeer = true;
  }

  reset(code: number): void {
    if (!this.dead) this.#host.sendReset(this, code);
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#deliver();
  }

  /** Bytes from the peer, already checked against `receiveWindow`. */
  receive(chunk: Uint8Array): void {
    if (!this.#paused && this.#inbox.length === 0 && this.#events !== undefined) {
      this.#host.credit(this, chunk.length);
      this.#events.onData(chunk);
      return;
    }
    // A small view would keep the whole read buffer alive for as long as the owner is paused.
    this.#inbox.push(chunk.length * 2 < chunk.buffer.byteLength ? chunk.slice() : chunk);
    this.#inboxBytes += chunk.length;
    this.#host.held(chunk.length);
  }

  receiveEnd(trailers: RawHeaders): void {
    this.remoteEnded = true;
    this.#trailers = trailers;
    this.#deliver();
  }

  /** Drops what waits and tells the owner; called by the connection after it forgot the stream. */
  finish(code: number, byPeer: boolean, processed: boolean): void {
    if (this.dead) return;
    this.dead = true;
    this.#dropInbox();
    this.unsent.length = 0;
    this.#events?.onReset(code, byPeer, processed);
  }

  /** The peer wants no more of our direction, which is no failure: what it sent before stays to be read. */
  stopSending(): void {
    this.unsent.length = 0;
    this.endWaits = undefined;
    this.localEnded = true;
    if (this.writerWaits) {
      this.writerWaits = false;
      this.#events?.onDrain();
    }
    this.complete();
  }

  /** Tells the owner that both ends are through, once it has seen the peer's end. */
  complete(): void {
    if (this.dead || !this.#endDelivered || !this.localEnded) return;
    this.dead = true;
    this.#events?.onComplete();
  }

  #deliver(): void {
    const events = this.#events;
    if (events === undefined || this.#delivering) return;
    this.#delivering = true;
    while (!this.#paused && !this.dead && this.#inbox.length > 0) {
      const chunk = this.#inbox.shift() as Uint8Array;
      this.#inboxBytes -= chunk.length;
      this.#host.held(-chunk.length);
      this.#host.credit(this, chunk.length);
      events.onData(chunk);
    }
    this.#delivering = false;
    if (this.dead || this.#paused || this.#endDelivered || this.#trailers === undefined) return;
    this.#endDelivered = true;
    events.onEnd(this.#trailers);
    this.complete();
  }

  #dropInbox(): void {
    if (this.#inboxBytes > 0) this.#host.held(-this.#inboxBytes);
    this.#inbox = [];
    this.#inboxBytes = 0;
  }
}
