import type { TunnelError } from "../../../core/errors.ts";
import type { QuicStream, QuicStreamEvents } from "../engine.ts";
import { type NativeConnection, SHUTDOWN_READ, SHUTDOWN_WRITE, streamFailure } from "./quiche-addon.ts";

/** What a stream needs from its connection. */
export interface StreamOwner {
  readonly native: NativeConnection;
  /** The stream has something to do in the next turn. */
  wake(stream: QuicheStream): void;
  /** A stream is read again. */
  wakeReader(stream: QuicheStream): void;
  /** The library has something to send. */
  wrote(): void;
  /** Both directions are over. `abandoned`: the library may need help to forget it. */
  forget(stream: QuicheStream, abandoned: boolean): void;
  /**
   * Runs `action` once what was written so far is on its way. The library forgets unsent bytes of a stream that is
   * reset; an answer's head would be lost with them, and some peers end the whole connection over the reset of a stream
   * they have not seen (DECISIONS.md), which visitors could make us send.
   */
  afterPackets(action: () => void): void;
  /**
   * Sends what the library has, now. It forgets a stream whose data is all acknowledged and whose other direction is
   * over, also while a FIN without data has yet to be sent: the peer would wait for it for ever (DECISIONS.md).
   */
  sendNow(): void;
  /** Room of at least `READ_BYTES` to read into, and what of it was used. */
  readSpace(): Uint8Array;
  readUsed(bytes: number): void;
}

/** One read from the library. */
export const READ_BYTES = 64 * 1024;
/** What one stream may deliver before the others get their turn. */
const MAX_BYTES_PER_TURN = 512 * 1024;

const NO_BYTES = new Uint8Array(0);

/** A stream of the quiche engine. Everything it tells its owner, it tells during a turn of the connection. */
export class QuicheStream implements QuicStream {
  readonly id: number;
  readonly #owner: StreamOwner;
  #events: QuicStreamEvents | undefined;
  #paused = false;
  /** Chunks the library had no room for; the first may be partly sent. */
  #queue: Uint8Array[] = [];
  #head = 0;
  #owesDrain = false;
  #finWanted = false;
  #sendOver = false;
  #receiveOver = false;
  #stopped: { readonly code: number } | undefined;
  #toldStopped = false;
  /** The peer has yet to open it. */
  #expected: boolean;
  #lost = false;

  constructor(owner: StreamOwner, id: number, expected: boolean) {
    this.#owner = owner;
    this.id = id;
    this.#expected = expected;
  }

  write(chunk: Uint8Array): boolean {
    if (this.#sendOver || this.#finWanted || chunk.length === 0) return true;
    if (this.#head < this.#queue.length || this.#expected) {
      this.#queue.push(chunk);
    } else {
      const sent = this.#send(chunk, false);
      if (sent === chunk.length || this.#sendOver) return true;
      this.#queue.push(sent === 0 ? chunk : chunk.subarray(sent));
    }
    this.#owesDrain = true;
    this.#owner.wake(this);
    return false;
  }

  end(last: Uint8Array = NO_BYTES): void {
    if (this.#sendOver || this.#finWanted) return;
    if (this.#head === this.#queue.length && !this.#expected) {
      const sent = this.#send(last, true);
      if (this.#sendOver) return;
      last = last.subarray(sent);
    }
    if (last.length > 0) this.#queue.push(last);
    this.#finWanted = true;
    this.#owner.wake(this);
  }

  abandon(code: number): void {
    if (this.#lost || (this.#sendOver && this.#receiveOver)) return;
    const reads = !this.#receiveOver;
    const writes = !this.#sendOver;
    this.#dropQueue();
    this.#sendOver = true;
    this.#receiveOver = true;
    this.#events = undefined;
    this.#owner.afterPackets(() => this.#shutDown(code, reads, writes));
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#owner.wakeReader(this);
  }

  listen(events: QuicStreamEvents): void {
    this.#events = events;
    this.#paused = false;
    this.#owner.wakeReader(this);
  }

  // ---- for the connection ----

  /** True while nobody reads: what the peer sent stays in the library, and flow control holds the peer back. */
  get held(): boolean {
    return this.#paused || this.#events === undefined;
  }

  /** True when STOP_SENDING would go unnoticed, because there is nothing to write. */
  get idleWriter(): boolean {
    return !this.#sendOver && !this.#expected && this.#head === this.#queue.length;
  }

  /** True while bytes or FIN of ours have not reached the library. */
  get unsent(): boolean {
    return !this.#sendOver && (this.#finWanted || this.#head < this.#queue.length);
  }

  opened(): void {
    this.#expected = false;
  }

  /** Delivers what came; true = there may be more. */
  read(): boolean {
    const { native } = this.#owner;
    let delivered = 0;
    while (!this.held && !this.#receiveOver) {
      if (delivered >= MAX_BYTES_PER_TURN) return true;
      const space = this.#owner.readSpace();
      let result: readonly [number, boolean] | null;
      try {
        result = native.streamRecv(this.id, space);
      } catch (thrown) {
        const failure = streamFailure(thrown);
        this.#receiveOver = true;
        const events = this.#events;
        this.#closeIfOver();
        // A stream that is gone was reset and forgotten by the library before we came to read.
        events?.onReset(failure.kind === "reset" ? failure.code : 0);
        return false;
      }
      if (result === null) return false;
      const [bytes, fin] = result;
      if (bytes > 0) {
        this.#owner.readUsed(bytes);
        delivered += bytes;
        this.#events?.onData(space.subarray(0, bytes));
      }
      if (fin) {
        this.#receiveOver = true;
        const events = this.#events;
        this.#closeIfOver();
        events?.onEnd();
        return false;
      }
      if (bytes < space.length) return false;
    }
    return false;
  }

  /** Writes what waits; true = something still does. */
  flush(): boolean {
    if (this.#stopped !== undefined) {
      this.#tellStopped();
      return false;
    }
    if (this.#sendOver) return false;
    if (this.#expected) return this.#head < this.#queue.length || this.#finWanted;
    while (this.#head < this.#queue.length) {
      const chunk = this.#queue[this.#head] as Uint8Array;
      const last = this.#finWanted && this.#head + 1 === this.#queue.length;
      const sent = this.#send(chunk, last);
      if (this.#stopped !== undefined) this.#tellStopped();
      if (this.#sendOver) return false;
      if (sent < chunk.length) {
        this.#queue[this.#head] = chunk.subarray(sent);
        return true;
      }
      this.#head += 1;
    }
    this.#queue = [];
    this.#head = 0;
    if (this.#finWanted) {
      this.#send(NO_BYTES, true);
      return !this.#sendOver;
    }
    if (this.#owesDrain) {
      this.#owesDrain = false;
      this.#events?.onDrain();
    }
    return false;
  }

  /** Looks for STOP_SENDING while there is nothing to write. */
  checkStopped(): void {
    try {
      this.#owner.native.streamCapacity(this.id);
    } catch (thrown) {
      const failure = streamFailure(thrown);
      // A stream that was stopped after all of it was read is forgotten as soon as the reset is acknowledged.
      this.#stop(failure.kind === "stopped" ? failure.code : 0);
      this.#tellStopped();
    }
  }

  lose(error: TunnelError): void {
    if (this.#lost) return;
    this.#lost = true;
    this.#sendOver = true;
    this.#receiveOver = true;
    this.#dropQueue();
    const events = this.#events;
    this.#events = undefined;
    events?.onLost(error);
  }

  /** Bytes the library took; sets `#sendOver` when FIN went with them or the peer stopped us. */
  #send(chunk: Uint8Array, fin: boolean): number {
    let sent: number | null;
    try {
      sent = this.#owner.native.streamSend(this.id, chunk, fin);
    } catch (thrown) {
      const failure = streamFailure(thrown);
      this.#stop(failure.kind === "stopped" ? failure.code : 0);
      this.#owner.wake(this);
      return 0;
    }
    const taken = sent ?? 0;
    // Nothing taken: there is nothing to send before the peer gives credit, which comes in a packet.
    if (taken > 0 || (fin && sent !== null)) this.#owner.wrote();
    if (fin && taken === chunk.length && sent !== null) {
      this.#sendOver = true;
      this.#dropQueue();
      if (taken === 0) this.#owner.sendNow();
      this.#closeIfOver();
    }
    return taken;
  }

  #shutDown(code: number, reads: boolean, writes: boolean): void {
    const { native } = this.#owner;
    if (reads) {
      // What is thrown away unread must still count as consumed, or the connection's window shrinks for good.
      this.#discardReceived();
      native.streamShutdown(this.id, SHUTDOWN_READ, code);
    }
    if (writes) native.streamShutdown(this.id, SHUTDOWN_WRITE, code);
    this.#owner.forget(this, true);
    this.#owner.wrote();
  }

  #stop(code: number): void {
    this.#stopped ??= { code };
    this.#sendOver = true;
    this.#dropQueue();
  }

  #tellStopped(): void {
    if (this.#toldStopped || this.#stopped === undefined) return;
    this.#toldStopped = true;
    const events = this.#events;
    this.#closeIfOver();
    events?.onStopped(this.#stopped.code);
  }

  #closeIfOver(): void {
    if (!this.#sendOver || !this.#receiveOver) return;
    this.#owner.forget(this, false);
  }

  #discardReceived(): void {
    const { native } = this.#owner;
    try {
      while (native.streamRecv(this.id, this.#owner.readSpace()) !== null);
    } catch {
      // Reset, or gone: nothing is left to discard.
    }
  }

  #dropQueue(): void {
    this.#queue = [];
    this.#head = 0;
  }
}
