import { setImmediate } from "node:timers";
import type { CancelTimer, Clock } from "../../../core/clock.ts";
import { TunnelError } from "../../../core/errors.ts";
import type { QuicStream, QuicStreamEvents } from "../engine.ts";
import { errorNumber, type NodeQuicStream, waitForRoom } from "./node-quic-api.ts";

/**
 * What may lie unread on one stream. The library reads as fast as the peer sends, so this takes the place of flow
 * control: beyond it the stream is failed, alone.
 */
export const MAX_UNREAD_BYTES = 16 * 1024 * 1024;
/** How often a paused stream is measured, in ms. */
const MEASURE_MS = 50;
/** Longer writes make the library stall. */
const MAX_WRITE_BYTES = 64 * 1024;
/** The end of a connection shows up this much later than the end of its streams, in ms. */
const PROOF_MS = 25;

export interface NodeStreamOwner {
  readonly clock: Clock;
  /** Set once the connection is over. */
  readonly lost: TunnelError | undefined;
  noteReceived(): void;
  forget(stream: NodeQuicEngineStream): void;
}

/** A stream of the `node:quic` engine. It may exist before the library has opened it. */
export class NodeQuicEngineStream implements QuicStream {
  readonly id: number;
  readonly #owner: NodeStreamOwner;
  #raw: NodeQuicStream | undefined;
  #events: QuicStreamEvents | undefined;
  #paused = true;
  #wake: (() => void) | undefined;
  #queue: Uint8Array[] = [];
  #finWanted = false;
  #owesDrain = false;
  #writing = false;
  #sendOver = false;
  #receiveOver = false;
  #abandoned: number | undefined;
  #consumed = 0;
  #measuring: CancelTimer | undefined;

  constructor(owner: NodeStreamOwner, id: number) {
    this.#owner = owner;
    this.id = id;
  }

  write(chunk: Uint8Array): boolean {
    if (this.#sendOver || this.#finWanted || chunk.length === 0) return true;
    for (let at = 0; at < chunk.length; at += MAX_WRITE_BYTES)
      this.#queue.push(chunk.subarray(at, at + MAX_WRITE_BYTES));
    this.#pump();
    if (this.#queue.length === 0) return true;
    this.#owesDrain = true;
    return false;
  }

  end(last?: Uint8Array): void {
    if (last !== undefined) this.write(last);
    this.#finWanted = true;
    this.#pump();
  }

  abandon(code: number): void {
    if (this.#abandoned !== undefined || (this.#sendOver && this.#receiveOver)) return;
    this.#abandoned = code;
    this.#events = undefined;
    this.#queue = [];
    this.#over();
  }

  pause(): void {
    this.#paused = true;
    this.#measureSoon();
  }

  resume(): void {
    this.#paused = false;
    this.#wake?.();
  }

  listen(events: QuicStreamEvents): void {
    this.#events = events;
    this.resume();
  }

  // ---- for the connection ----

  attach(raw: NodeQuicStream): void {
    this.#raw = raw;
    raw.onerror = () => {};
    raw.onreset = (error) => this.#reset(raw, errorNumber(error));
    raw.closed.then(
      () => {},
      () => {},
    );
    if (this.#abandoned !== undefined) {
      this.#over();
      return;
    }
    void this.#read(raw);
    this.#pump();
  }

  lose(error: TunnelError): void {
    const events = this.#events;
    this.#events = undefined;
    this.#sendOver = true;
    this.#receiveOver = true;
    this.#measuring?.();
    this.#wake?.();
    events?.onLost(error);
  }

  async #read(raw: NodeQuicStream): Promise<void> {
    try {
      for await (const chunks of raw) {
        for (const chunk of chunks) {
          await this.#whilePaused();
          if (this.#abandoned !== undefined || this.#receiveOver) return;
          this.#consumed += chunk.length;
          this.#owner.noteReceived();
          this.#events?.onData(chunk);
        }
      }
      await this.#whilePaused();
      await this.#proofOfEnd();
    } catch {
      this.#reset(raw, 0);
      return;
    }
    if (this.#abandoned !== undefined || this.#receiveOver) return;
    this.#receiveOver = true;
    this.#events?.onEnd();
    this.#finish();
  }

  /** Only a stream destroyed before the library does it itself gives its credit back to the peer. */
  #reset(raw: NodeQuicStream, code: number): void {
    if (!raw.destroyed) raw.destroy(undefined, { code: 0n });
    if (this.#abandoned !== undefined || this.#receiveOver) return;
    this.#sendOver = true;
    this.#receiveOver = true;
    this.#queue = [];
    this.#measuring?.();
    this.#wake?.();
    this.#owner.forget(this);
    this.#events?.onReset(code);
  }

  /** A lost connection ends the loop as a FIN does; only then the session says so. */
  async #proofOfEnd(): Promise<void> {
    await new Promise<void>((resolve) => setImmediate(resolve));
    await new Promise<void>((resolve) => this.#owner.clock.after(PROOF_MS, resolve));
    if (this.#owner.lost !== undefined) throw this.#owner.lost;
  }

  async #whilePaused(): Promise<void> {
    while (this.#paused && this.#abandoned === undefined && !this.#receiveOver) {
      this.#measureSoon();
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  #measureSoon(): void {
    if (this.#measuring !== undefined || this.#receiveOver) return;
    const cancel = this.#owner.clock.after(
      MEASURE_MS,
      () => {
        this.#measuring = undefined;
        if (!this.#paused || this.#receiveOver || this.#abandoned !== undefined) return;
        const received = Number(this.#raw?.stats.bytesReceived ?? 0n);
        if (received - this.#consumed > MAX_UNREAD_BYTES) this.#failAlone();
        else this.#measureSoon();
      },
      { background: true },
    );
    this.#measuring = cancel;
  }

  #failAlone(): void {
    const events = this.#events;
    this.abandon(0);
    events?.onLost(new TunnelError("stream.limit", `Nobody read ${MAX_UNREAD_BYTES} bytes of this stream`));
  }

  #pump(): void {
    const raw = this.#raw;
    if (raw === undefined || this.#writing || this.#sendOver || this.#abandoned !== undefined) return;
    try {
      const { writer } = raw;
      while (this.#queue.length > 0) {
        if (writer.desiredSize === null) {
          this.#stopped();
          return;
        }
        if (!writer.writeSync(this.#queue[0] as Uint8Array)) {
          this.#pumpAfter(waitForRoom(writer));
          return;
        }
        this.#queue.shift();
      }
      if (this.#finWanted) {
        writer.endSync();
        this.#sendOver = true;
        this.#finish();
        return;
      }
    } catch {
      this.#stopped();
      return;
    }
    if (!this.#owesDrain) return;
    this.#owesDrain = false;
    queueMicrotask(() => this.#events?.onDrain());
  }

  #pumpAfter(room: Promise<unknown> | null): void {
    this.#writing = true;
    const again = (): void => {
      this.#writing = false;
      this.#pump();
    };
    if (room === null) setImmediate(again);
    else room.then(again, again);
  }

  #stopped(): void {
    this.#sendOver = true;
    this.#queue = [];
    queueMicrotask(() => this.#events?.onStopped(0));
    this.#finish();
  }

  #finish(): void {
    if (this.#sendOver && this.#receiveOver) this.#owner.forget(this);
  }

  /** Destroying a stream that the library has not opened yet would wedge every later one. */
  #over(): void {
    this.#sendOver = true;
    this.#receiveOver = true;
    this.#measuring?.();
    this.#wake?.();
    const raw = this.#raw;
    if (raw === undefined || raw.pending) return;
    raw.destroy(undefined, { code: BigInt(this.#abandoned ?? 0) });
    this.#owner.forget(this);
  }
}
